"""Comments in the generated Verilog: the Python line that declares or computes each signal.

The Verilog itself has none, so that it is the same bytes wherever it is made; a second elaboration knows them.
"""

import re
from collections.abc import Mapping

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.emit import emitting
from vitforge_hw.sources import _relative as relative
from vitforge_hw.top import TOP, Top

_MODULE = re.compile(r"^module \\(\S+)$(.*?)^end$", re.M | re.S)
_SOURCE = re.compile(r'^  attribute \\src "([^"]*)"$')
_NAMED = re.compile(r"^  (?:wire|memory) (?:[^\n]* )?\\?(\S+)$")
_COMPUTED = re.compile(r"^ +(?:connect \\Y|assign) (\$\d+)\b")  # by a cell or a process, which has the source
_DECLARED = re.compile(r"^  (?:wire|reg) (?:\[\d+:\d+\] )?(?:\\(\S+) |(\w+))[^;\n]*;$", re.M)


def places(config: AcceleratorConfig, primitives: str = "") -> dict[str, dict[str, str]]:
    """Module of the Verilog -> signal -> "vitforge_hw/units/rsqrt.py:66"."""
    with emitting(primitives, source_lines=True) as modules:
        top = Top(config)
        modules.add(top, TOP, ports=top.ports)
    return {module: _of(body) for text in modules.rtlil.values() for module, body in _MODULE.findall(text)}


def _of(body: str) -> dict[str, str]:
    """Signal -> place, of the RTLIL of one module."""
    found: dict[str, str] = {}
    source = ""  # of the wire, cell or process that follows or is being read
    for line in body.split("\n"):
        if at := _SOURCE.match(line):
            source = _ours(at[1])
        elif (name := _NAMED.match(line) or _COMPUTED.match(line)) and source:
            found.setdefault(name[1], source)
        elif not line:
            source = ""
    return found


def _ours(sources: str) -> str:
    """The innermost place in a unit; "" where there is none: clock, reset, what Amaranth or the emission adds."""
    found = [relative(source) for source in sources.split("|")]
    return next((p for p in reversed(found) if p.startswith("vitforge_hw/") and "/emit.py:" not in p), "")


def commented(files: Mapping[str, str], found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """``files`` (name -> Verilog) with a comment behind each declaration whose place is in ``found``."""
    return {name: "".join(map(_module(found), re.split(r"(?m)^(?=module )", text))) for name, text in files.items()}


def _module(found: Mapping[str, Mapping[str, str]]):
    def with_comments(text: str) -> str:
        """Of one module, or of what stands before the first."""
        start = re.match(r"module (\w+)", text)
        known = found.get(start[1], {}) if start else {}

        def line(declared: re.Match) -> str:
            place = known.get(declared[1] or declared[2])
            return f"{declared[0]}  // {place}" if place else declared[0]

        return _DECLARED.sub(line, text)

    return with_comments
