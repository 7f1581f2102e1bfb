"""From an integer graph to a program: schedule, buffers, waits, memory image, order proof, cycle model."""

from .build import Build, Write
from .compile import compile_graph
from .cycles import estimate
from .image import disassemble
from .options import CompileOptions
from .proof import DeadlockError, OrderError, Proof, prove
from .report import report
from .shapes import SHAPES, shape_graph
from .steps import Label
from .store import load_build, save_build

__all__ = [
    "SHAPES", "Build", "CompileOptions", "DeadlockError", "Label", "OrderError", "Proof", "Write", "compile_graph",
    "disassemble", "estimate", "load_build", "prove", "report", "save_build", "shape_graph",
]  # fmt: skip
