"""From an integer graph to a program: schedule, buffers, waits, memory image, order proof."""

from ..lazy import lazy

__getattr__ = lazy(__name__, {
    "Build": "program.build", "Write": "program.build", "compile_graph": "compile", "disassemble": "program.image",
    "BlockSchedule": "options", "CompileOptions": "options", "Tuning": "tuning", "DeadlockError": "program.proof",
    "OrderError": "program.proof", "Proof": "program.proof", "prove": "program.proof", "Label": "program.steps",
    "load_build": "program.store", "save_build": "program.store",
})  # fmt: skip
