"""From an integer graph to a program: schedule, buffers, waits, memory image, order proof, cycle model."""

from ..lazy import lazy

__getattr__ = lazy(__name__, {
    "Build": "build", "Write": "build", "compile_graph": "compile", "estimate": "cycles", "disassemble": "image",
    "CompileOptions": "options", "DeadlockError": "proof", "OrderError": "proof", "Proof": "proof", "prove": "proof",
    "SHAPES": "shapes", "shape_graph": "shapes", "Label": "steps", "load_build": "store", "save_build": "store",
})  # fmt: skip
