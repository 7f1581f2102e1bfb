"""vitforge: Vision Transformer checkpoint -> integer-only model -> accelerator -> bit-exact simulation.

The functions of ``road`` are imported when they are first asked for: ``import vitforge`` costs nothing.
"""

from typing import TYPE_CHECKING

from vitforge_sw.lazy import lazy

if TYPE_CHECKING:
    from .road import check, compile, estimate, evaluate, load, load_model, logits, quantize, save, simulate, verilog

__version__ = "0.1.0"
__all__ = [
    "check", "compile", "estimate", "evaluate", "load", "load_model", "logits", "quantize", "save", "simulate",
    "verilog",
]  # fmt: skip
__getattr__ = lazy(__name__, dict.fromkeys(__all__, "road"))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
