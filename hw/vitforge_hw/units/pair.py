"""A queue of two entries whose every output is a register."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Pair(wiring.Component):
    """Decouples two handshakes: neither side's ready depends on the other's.

    Parameters
    ----------
    width : bits of an entry

    Members
    -------
    w_en, w_data, w_rdy ; r_en, r_data, r_rdy : as amaranth.lib.fifo.SyncFIFO of depth 2 has them
    w_next : w_rdy in the next cycle (the one output that is no register)

    Latency/throughput: 1 cycle; an entry a cycle.
    """

    def __init__(self, width: int):
        super().__init__(
            {
                "w_en": In(1),
                "w_data": In(width),
                "w_rdy": Out(1),
                "w_next": Out(1),
                "r_en": In(1),
                "r_data": Out(width),
                "r_rdy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        first, second = (Signal(len(self.r_data), name=n, reset_less=True) for n in ("first", "second"))
        held, free = Signal(), Signal(init=1)  # there is a first entry, there is no second one
        moves = self.r_en | ~held
        m.d.comb += [self.w_rdy.eq(free), self.r_rdy.eq(held), self.r_data.eq(first)]
        m.d.comb += self.w_next.eq(moves | (free & ~self.w_en))
        m.d.sync += free.eq(self.w_next)
        with m.If(moves):
            m.d.sync += [first.eq(Mux(free, self.w_data, second)), held.eq(~free | self.w_en)]
        with m.If(free):
            m.d.sync += second.eq(self.w_data)
        return m
