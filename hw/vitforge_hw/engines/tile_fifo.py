"""Finished tiles of R-MAC on their way to post-processing."""

from amaranth import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..emit import block


class TileBank(wiring.Component):
    """Distributed RAM: written at the clock edge, read at once."""

    def __init__(self, bits: int, depth: int):
        self._bits, self._depth = bits, depth
        super().__init__(
            {
                "write": In(1),
                "write_addr": In(range(depth)),
                "write_data": In(bits),
                "read_addr": In(range(depth)),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.mem = mem = memory.Memory(shape=self._bits, depth=self._depth, init=[])
        write, read = mem.write_port(), mem.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            self.read_data.eq(read.data),
        ]
        return m


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
        head = Signal(range(self._depth))
        tail = Signal(range(self._depth))
        level = Signal(range(self._depth + 1))
        m.d.sync += [
            tail.eq(tail + self.push),
            head.eq(head + self.pop),
            level.eq((level + self.push)[: len(level)] - self.pop),
        ]
        words = []
        for token in range(self._tokens):
            bank = block(TileBank(self._bits, self._depth), f"vf_tile_bank_{self._bits}x{self._depth}")
            m.submodules[f"bank{token}"] = bank
            m.d.comb += [
                bank.write.eq(self.push),
                bank.write_addr.eq(tail),
                bank.write_data.eq(self.tile.word_select(token, self._bits)),
                bank.read_addr.eq(head),
            ]
            words.append(bank.read_data)
        m.d.comb += [self.ready.eq(level.any()), self.first.eq(Cat(words))]
        return m
