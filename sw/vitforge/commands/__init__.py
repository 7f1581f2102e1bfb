"""One file per command: its docstring is its ``--help``, ``arguments`` declares the options, ``run`` does the work.

Another command is another file here and its name in ``NAMES``, in the order of the road.
"""

import importlib
from types import ModuleType

NAMES = (
    "check", "quantize", "search", "evaluate", "analyze", "compare", "compile", "verilog", "simulate", "estimate",
    "pack", "unpack", "synth", "package", "presets", "schemes", "cache", "demo",
)  # fmt: skip


def load(name: str) -> ModuleType:
    """The module of command ``name``."""
    return importlib.import_module(f"{__name__}.{name}")
