"""What a cell of the part is to static timing: its arcs, where paths start and where they end.

A kind is a short string that a delay model turns into picoseconds: arcs ``LUT``, ``MUXF I``, ``CARRY S CO 3 1 8`` (pin,
output, output bit, input bit, bits of the cell), ``LRAM``, ``SRL``, ``DSP M``; starts ``FF``, ``RAM 1`` (with output
register), ``LRAM``, ``SRL``, ``DSP 1 0`` (M, P registers); ends ``FF D``, ``FF CE``, ``RAM``, ``LRAM``, ``SRL``,
``DSP A 1 1 1``.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

FLIP_FLOP = re.compile(r"FD[RSCP]E(_1)?$|LD[CP]E$|TRELLIS_FF$|DFF|\$_S?DFF")
LUT = re.compile(r"LUT[1-6]$|INV$")
LUT_RAM = re.compile(r"RAM(32|64|128|256|512)(M|X)\d*\w*$|TRELLIS_DPR16X4$")
SHIFT = re.compile(r"SRL(16E|C32E)$")
BLOCK_RAM = re.compile(r"RAMB(18|36)E[12]$|URAM288|DP16KD$")
DSP = re.compile(r"DSP48E[12]$|MULT18X18D$")
GATE = re.compile(r"\$(?!mem|_S?DFF)")  #: before mapping (elaborated.py)
MEMORY = "$mem_v2"  #: the same
BITS_A_LOAD = {"WR_EN": 8}  #: pins of MEMORY of which a RAM of the part has one for so many bits
_CLOCKS = {"RD_CLK", "WR_CLK", "CLK", "WCLK", "WCK", "CLKA", "CLKB", "CLKARDCLK", "CLKBWRCLK"}
#: LUTs that a distributed RAM takes
LUTS_OF_RAM = {
    "RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
    "RAM256X1D": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8, "RAM512X1S": 8, "RAM256X1S": 4, "RAM128X1S": 2, "RAM64X1S": 1,
    "RAM32X1S": 1, "TRELLIS_DPR16X4": 6,
}  # fmt: skip


class Arc(NamedTuple):
    """From a bit of one pin to a bit of another: (pin, index, pin, index, kind)."""

    source: str
    source_bit: int
    target: str
    target_bit: int
    kind: str


class End(NamedTuple):
    """A pin where a path starts or ends, all its bits."""

    pin: str
    kind: str


def loads(cell: dict) -> list[str]:
    """Input pins but clocks; a DSP's C is an operand."""
    inputs = pins(cell, "input")
    return [p for p in inputs if p not in _CLOCKS and (p != "C" or not FLIP_FLOP.match(cell["type"]))]


def width(cell: dict, pin: str) -> int:
    """Bits of a pin, 0 if it is not connected."""
    return len(cell["connections"].get(pin, ()))


def pins(cell: dict, direction: str) -> list[str]:
    """Connected pins of a direction."""
    return [p for p in cell["connections"] if cell["port_directions"].get(p) == direction]


def arcs(cell: dict) -> Iterator[Arc]:
    """Combinational ways through a cell."""
    kind = cell["type"]
    if LUT.match(kind):
        yield from (Arc(p, 0, "O", 0, "INV" if kind == "INV" else "LUT") for p in cell["connections"] if p[0] == "I")
    elif kind.startswith("MUXF"):
        yield from (Arc(p, 0, "O", 0, f"MUXF {p[0]}") for p in ("I0", "I1", "S"))
    elif kind in ("CARRY4", "CARRY8"):
        yield from _carry(cell, int(kind[-1]))
    elif LUT_RAM.match(kind):
        yield from _lut_ram(cell)
    elif SHIFT.match(kind):
        for out in pins(cell, "output"):
            for p in pins(cell, "input"):
                if p[0] == "A":
                    yield from (Arc(p, i, out, 0, "SRL") for i in range(width(cell, p)))
    elif DSP.match(kind):
        yield from _dsp(cell)
    elif GATE.match(kind):
        for p in pins(cell, "input"):
            for i in range(width(cell, p)):
                yield from (Arc(p, i, "Y", j, "GATE") for j in range(width(cell, "Y")))
    elif kind == MEMORY:
        for address, bits in _unclocked(cell):
            yield from (Arc("RD_ADDR", i, "RD_DATA", j, "GATE") for i in address for j in bits)


def _unclocked(cell: dict) -> Iterator[tuple[range, range]]:
    """Address and data bits of a memory's read ports without a register."""
    clocked = cell["parameters"]["RD_CLK_ENABLE"][::-1]  # bit 0 first
    ports = int(cell["parameters"]["RD_PORTS"], 2)
    address, bits = width(cell, "RD_ADDR") // max(ports, 1), width(cell, "RD_DATA") // max(ports, 1)
    for i in range(ports):
        if clocked[i] == "0":
            yield range(i * address, (i + 1) * address), range(i * bits, (i + 1) * bits)


def _carry(cell: dict, bits: int) -> Iterator[Arc]:
    for out in ("O", "CO"):
        for i in range(width(cell, out)):
            for p in ("CI", "CYINIT", "CI_TOP"):
                if width(cell, p) and not (p == "CI_TOP" and i < 4):
                    yield Arc(p, 0, out, i, f"CARRY {p[:2]} {out} {i} 0 {bits}")
            for j in range(i + 1):
                yield Arc("S", j, out, i, f"CARRY S {out} {i} {j} {bits}")
                if out == "CO" or j < i:
                    yield Arc("DI", j, out, i, f"CARRY DI {out} {i} {j} {bits}")


def _lut_ram(cell: dict) -> Iterator[Arc]:
    """From the read address to the data of its port."""
    outputs = pins(cell, "output")
    for p in pins(cell, "input"):
        if p.startswith("ADDR"):
            outs = [o for o in outputs if o[-1] == p[-1]]
        elif p.startswith("DPRA"):
            outs = [o for o in outputs if o == "DPO"]
        elif re.fullmatch(r"A\d*", p):
            outs = [o for o in outputs if o in ("SPO", "O")]
        else:
            continue
        for o in outs:
            for i in range(width(cell, p)):
                yield from (Arc(p, i, o, j, "LRAM") for j in range(width(cell, o)))


def registers(cell: dict) -> dict[str, int]:
    """DSP48's registers in use: A, B, C, D, M, P -> stages; absent parameters have the primitive's default, 1."""

    def stages(name: str) -> int:
        value = cell.get("parameters", {}).get(name, "1")
        return int(value, 2) if isinstance(value, str) and set(value) <= {"0", "1"} else int(value)

    return {r: stages(f"{r}REG") for r in "ABCMP"} | {"D": 0, "MODE": stages("OPMODEREG")}


_OPERANDS = {"A": "A", "B": "B", "D": "B", "C": "C", "OPMODE": "MODE", "ALUMODE": "MODE"}


def _reaches_sum(cell: dict) -> list[tuple[str, str]]:
    """(pin, kind) of inputs that go to P without a register."""
    if not cell["type"].startswith("DSP48"):
        return [(p, "DSP M") for p in ("A", "B") if width(cell, p)]
    have = registers(cell)
    if have["P"]:
        return []
    found = [(p, "DSP C") for p in ("PCIN",) if width(cell, p)]
    for p, register in _OPERANDS.items():
        behind_m = register in "AB" and have["M"]
        if width(cell, p) and not have[register] and not behind_m:
            found.append((p, "DSP M" if register in "AB" else "DSP C"))
    return found


def _dsp(cell: dict) -> Iterator[Arc]:
    """A multiplier takes every bit to every bit of P."""
    for p, kind in _reaches_sum(cell):
        for o in pins(cell, "output"):
            if o in ("P", "PCOUT"):
                for i in range(width(cell, p)):
                    yield from (Arc(p, i, o, j, kind) for j in range(width(cell, o)))


def starts(cell: dict) -> Iterator[End]:
    """Pins that change with the clock."""
    kind = cell["type"]
    if FLIP_FLOP.match(kind):
        yield from (End(p, "FF") for p in pins(cell, "output"))
    elif LUT_RAM.match(kind):
        yield from (End(p, "LRAM") for p in pins(cell, "output"))
    elif SHIFT.match(kind):
        yield from (End(p, "SRL") for p in pins(cell, "output"))
    elif BLOCK_RAM.match(kind):
        have = cell.get("parameters", {})
        registered = any(str(have.get(p, "0")).endswith("1") for p in ("DOA_REG", "DOB_REG", "OREG_A", "OREG_B"))
        yield from (End(p, f"RAM {int(registered)}") for p in pins(cell, "output"))
    elif kind.startswith("DSP48"):
        have = registers(cell)
        if have["P"] or have["M"] or have["A"]:
            yield from (End(p, f"DSP {have['M']} {have['P']}") for p in pins(cell, "output") if p[0] == "P")


def ends(cell: dict) -> Iterator[End]:
    """Pins that a register inside takes with the clock."""
    kind = cell["type"]
    inputs = loads(cell)
    if FLIP_FLOP.match(kind):
        yield from (End(p, f"FF {p}") for p in inputs)
    elif LUT_RAM.match(kind):
        write = [p for p in inputs if p[:2] in ("DI", "WE", "D") or p in ("ADDRD", "ADDRH") or re.match(r"A\d*$", p)]
        yield from (End(p, "LRAM") for p in write if not p.startswith("DPRA"))
    elif SHIFT.match(kind):
        yield from (End(p, "SRL") for p in inputs if p in ("D", "CE"))
    elif BLOCK_RAM.match(kind):
        yield from (End(p, "RAM") for p in inputs)
    elif kind.startswith("DSP48"):
        have = registers(cell)
        free = {p for p, _ in _reaches_sum(cell)}
        for p in inputs:
            register = _OPERANDS.get(p, "C" if p == "PCIN" else "MODE")
            if p not in free:
                own = 0 if p == "PCIN" else have[register]
                yield End(p, f"DSP {register if register in 'AB' else 'C'} {int(own > 0)} {have['M']} {have['P']}")


def inner(cell: dict) -> str | None:
    """A DSP's own path between its registers, as the kind of a minimum period; None if it has none."""
    if not cell["type"].startswith("DSP48"):
        return None
    have = registers(cell)
    if (have["A"] and (have["M"] or have["P"])) or (have["M"] and have["P"]):
        return f"DSP {int(have['A'] > 0)} {have['M']} {have['P']}"
    return None
