"""Rows of tiles that wait, a low and a high plane each, in distributed RAM."""

from amaranth import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..emit import block

PARTS = 2  #: of a row, with counters of their own: each has hundreds of loads


class Planes(wiring.Component):
    """A part of the rows of ``depth`` tiles.

    Members
    -------
    low, high, write_low, write_high : a plane of the newest tile; ``filled``: that tile is complete
    oldest_low, oldest_high : of the oldest tile; ``used``: its place is free
    """

    def __init__(self, bits: int, depth: int):
        self._bits, self._depth = bits, depth
        ports = {"filled": In(1), "used": In(1)}
        for name in ("low", "high"):
            ports |= {name: In(bits), f"write_{name}": In(1), f"oldest_{name}": Out(bits)}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        fill, use = Signal(range(self._depth)), Signal(range(self._depth))
        m.d.sync += [fill.eq(fill + self.filled), use.eq(use + self.used)]
        for name in ("low", "high"):
            m.submodules[name] = rows = memory.Memory(shape=self._bits, depth=self._depth, init=[])
            write, read = rows.write_port(), rows.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(getattr(self, f"write_{name}")),
                write.addr.eq(fill),
                write.data.eq(getattr(self, name)),
                read.addr.eq(use),
                getattr(self, f"oldest_{name}").eq(read.data),
            ]
        return m


def planes(m: Module, name: str, depth: int, rows: dict, filled, used) -> tuple[list, list]:
    """The parts of the oldest tile's low and high row. rows : "low", "high" -> (it is written, the row)."""
    bits = len(rows["low"][1]) // PARTS
    found = [], []
    for i in range(PARTS):
        m.submodules[f"{name}{i}"] = part = block(Planes(bits, depth), f"vf_planes_{bits}x{depth}")
        m.d.comb += [part.filled.eq(filled), part.used.eq(used)]
        for plane, (enable, row) in rows.items():
            m.d.comb += [
                getattr(part, f"write_{plane}").eq(enable),
                getattr(part, plane).eq(row.word_select(i, bits)),
            ]
        found[0].append(part.oldest_low)
        found[1].append(part.oldest_high)
    return found
