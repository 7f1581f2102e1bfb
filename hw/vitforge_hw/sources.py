"""Where the signals of the emitted Verilog are declared: file and line of the Python source.

The Verilog itself has no source lines, so that it is the same bytes wherever it is made; this second elaboration names
them for reports.
"""

import re
from pathlib import Path

from .arch.config import AcceleratorConfig
from .emit import emitting
from .top import TOP, Top

_MODULE = re.compile(r"^module \\(\S+)$(.*?)^end$", re.M | re.S)
_WIRE = re.compile(r'^  attribute \\src "([^"]*)"\n(?:  attribute [^\n]*\n)*  wire (?:[^\n]* )?\\(\S+)$', re.M)
_CELL = re.compile(r"^  cell \\(\S+) \\(\S+)$", re.M)
_PACKAGE = Path(__file__).resolve().parent.parent


def source_lines(config: AcceleratorConfig) -> dict[str, dict[str, str]]:
    """Block -> signal, through the block's submodules ("stats.rsqrt.f3") -> "vitforge_hw/units/rsqrt.py:66"."""
    with emitting(source_lines=True) as modules:
        top = Top(config)
        modules.add(top, TOP, ports=top.ports)
    out = {}
    for block, text in modules.rtlil.items():
        bodies = {m[1]: m[2] for m in _MODULE.finditer(text)}
        out[block] = dict(_signals(block, bodies))
    return out


def _signals(module: str, bodies: dict[str, str], path: str = ""):
    for source, name in _WIRE.findall(bodies[module]):
        yield path + name, _relative(source.split("|")[-1])
    for kind, name in _CELL.findall(bodies[module]):
        if kind in bodies:
            yield from _signals(kind, bodies, f"{path}{name}.")


def _relative(source: str) -> str:
    """Below the package's folder, or below site-packages."""
    file, _, line = source.rpartition(":")
    path = Path(file)
    if path.is_relative_to(_PACKAGE):
        return f"{path.relative_to(_PACKAGE)}:{line}"
    parts = path.parts
    start = parts.index("site-packages") + 1 if "site-packages" in parts else len(parts) - 1
    return f"{'/'.join(parts[start:])}:{line}"
