"""Event counters of 64 bits that can be read as they were at one moment."""

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.registers import COUNTER_SLOTS as SLOTS

LOW_BITS = SLOTS.bit_length()  #: events between two visits


class Counters(wiring.Component):
    """SLOTS counters: a few low bits each, added in turn to 64 bits in a memory.

    A snapshot keeps the low bits as they are; within the next SLOTS cycles each counter, when its turn comes, is
    written with them to a second memory, which reads answer from.

    Members
    -------
    events : In(SLOTS), what is counted in this cycle
    restart : In(1), all counters and the snapshot become 0; this cycle's events are not counted
    snapshot : In(1), take the counters without this cycle's events
    busy : Out(1), the snapshot is not complete yet
    totals : the first memory (tests)
    select : In, number of a 32-bit half: slot * 2 + upper; value : Out(32)

    Latency: snapshot to value SLOTS + 1 cycles, select to value 0.
    """

    def __init__(self):
        super().__init__(
            {
                "events": In(SLOTS),
                "restart": In(1),
                "snapshot": In(1),
                "busy": Out(1),
                "select": In(range(2 * SLOTS)),
                "value": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        turn = Signal(range(SLOTS))
        m.d.sync += turn.eq(turn + 1)
        # visits left until every slot has been cleared, or kept; both also after aresetn
        clearing, keeping = (Signal(range(SLOTS + 1), init=SLOTS, name=n) for n in ("clearing", "keeping"))
        for left, start in ((clearing, self.restart), (keeping, self.restart | self.snapshot)):
            with m.If(start):
                m.d.sync += left.eq(SLOTS)
            with m.Elif(left.any()):
                m.d.sync += left.eq(left - 1)
        m.d.comb += self.busy.eq(keeping.any())

        lows, kept = ([Signal(LOW_BITS, name=f"{n}_{i}") for i in range(SLOTS)] for n in ("low", "kept"))
        for i in range(SLOTS):
            left = Mux(turn == i, 0, lows[i])
            m.d.sync += lows[i].eq(Mux(self.restart, 0, left + self.events[i]))
            with m.If(self.restart):
                m.d.sync += kept[i].eq(0)
            with m.Elif(self.snapshot):
                m.d.sync += kept[i].eq(left)

        m.submodules.totals = self.totals = totals = memory.Memory(shape=64, depth=SLOTS, init=[])
        m.submodules.shadow = shadow = memory.Memory(shape=64, depth=SLOTS, init=[])
        read, write = totals.read_port(domain="comb"), totals.write_port()
        keep, answer = shadow.write_port(), shadow.read_port(domain="comb")
        total = Signal(64)
        m.d.comb += [
            read.addr.eq(turn),
            total.eq(Mux(clearing.any(), 0, read.data)),
            write.addr.eq(turn),
            write.data.eq(total + Array(lows)[turn]),
            write.en.eq(1),
            keep.addr.eq(turn),
            keep.data.eq(total + Array(kept)[turn]),
            keep.en.eq(keeping.any()),
            answer.addr.eq(self.select[1:]),
            self.value.eq(answer.data.word_select(self.select[0], 32)),
        ]
        return m
