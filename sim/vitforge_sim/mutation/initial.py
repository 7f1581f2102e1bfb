"""What registers with a mutant at their output hold at power-up: Yosys' ``mutate`` puts a new wire there, without the
initial value of the one that the register had, and the design would differ with no mutant switched on too."""

import re

_WIRE = re.compile(r"^((?:  attribute .*\n)*)  wire (?:width (\d+) )?.*?([\\$]\S+)$", re.M)
_INIT = re.compile(r"^  attribute \\init \d+'([01xz]+)$", re.M)
_REGISTER = re.compile(r"^  cell \$\w*dff\w* (\S+)\n(?:    .*\n)*?    connect \\Q (.*)$", re.M)
_PART = re.compile(r"([\\$]\S+)(?: \[(\d+)(?::(\d+))?\])?|(\d+)'([01xz]+)")

Bit = tuple[str, int]


def _wires(rtlil: str) -> tuple[dict[str, int], dict[Bit, str]]:
    """Width of each wire, and initial values, bit by bit."""
    widths, values = {}, {}
    for attributes, width, name in _WIRE.findall(rtlil):
        widths[name] = int(width or 1)
        if init := _INIT.search(attributes):
            values |= {(name, i): bit for i, bit in enumerate(reversed(init[1]))}
    return widths, values


def _bits(signal: str, widths: dict[str, int]) -> list[Bit]:
    """A signal of RTLIL, bit 0 first."""
    found: list[Bit] = []
    for part in reversed(list(_PART.finditer(signal))):
        name, high, low, count, _ = part.groups()
        if name is None:
            found += [("", 0)] * int(count)
            continue
        last = int(high) if high else widths[name] - 1
        first = int(low or last) if high else 0
        found += [(name, i) for i in range(first, last + 1)]
    return found


def initial_values(before: str, after: str) -> list[str]:
    """Commands that give the registers of ``after`` (RTLIL, with mutants) the initial ones of ``before``."""
    (widths, values), (new_widths, _) = _wires(before), _wires(after)
    outputs, commands = dict(_REGISTER.findall(before)), []
    for cell, signal in _REGISTER.findall(after):
        for old, new in zip(_bits(outputs[cell], widths), _bits(signal, new_widths), strict=True):
            if old != new and values.get(old) == "1":
                commands.append(f"setattr -set init 1'1 w:{new[0]}")
    return commands
