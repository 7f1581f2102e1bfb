"""Finished tiles of R-MAC on their way to post-processing."""

from amaranth import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..emit import block


class TileBank(wiring.Component):
    """Distributed RAM with counters of its own, which have hundreds of loads: written at the clock edge, read at once.

    Members
    -------
    push, value : an entry comes in; out : the oldest one; pop : it leaves
    """

    def __init__(self, bits: int, depth: int):
        self._bits, self._depth = bits, depth
        super().__init__(
            {
                "push": In(1),
                "value": In(bits),
                "out": Out(bits),
                "pop": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.mem = mem = memory.Memory(shape=self._bits, depth=self._depth, init=[])
        write, read = mem.write_port(), mem.read_port(domain="comb")
        fill, use = Signal(range(self._depth)), Signal(range(self._depth))
        m.d.sync += [fill.eq(fill + self.push), use.eq(use + self.pop)]
        m.d.comb += [
            write.en.eq(self.push),
            write.addr.eq(fill),
            write.data.eq(self.value),
            read.addr.eq(use),
            self.out.eq(read.data),
        ]
        return m


def banks(m: Module, name: str, number: int, depth: int, push, value, pop) -> Cat:
    """``number`` banks that hold a part of ``value`` each; the oldest value."""
    bits, parts = len(value) // number, []
    for i in range(number):
        m.submodules[f"{name}{i}"] = bank = block(TileBank(bits, depth), f"vf_tile_bank_{bits}x{depth}")
        m.d.comb += [bank.push.eq(push), bank.value.eq(value.word_select(i, bits)), bank.pop.eq(pop)]
        parts.append(bank.out)
    return Cat(parts)


class TileFifo(wiring.Component):
    """``depth`` tiles, a bank for each of ``tokens`` tokens of ``bits`` bits. It is never written when full.

    Members
    -------
    push, tile : a tile comes in
    ready, first : there is a tile, the oldest
    pop : it leaves (only when ``ready``)

    Latency/throughput: a tile is ``ready`` in the cycle after ``push``; one in and one out a cycle.
    """

    def __init__(self, tokens: int, bits: int, depth: int):
        self._tokens, self._bits, self._depth = tokens, bits, depth
        super().__init__(
            {
                "push": In(1),
                "tile": In(tokens * bits),
                "ready": Out(1),
                "first": Out(tokens * bits),
                "pop": In(1),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        return f"vf_tile_fifo_{self._tokens}x{self._bits}x{self._depth}"

    def elaborate(self, platform):
        m = Module()
        level = Signal(range(self._depth + 1))
        m.d.sync += level.eq((level + self.push)[: len(level)] - self.pop)
        first = banks(m, "bank", self._tokens, self._depth, self.push, self.tile, self.pop)
        m.d.comb += [self.ready.eq(level.any()), self.first.eq(first)]
        return m
