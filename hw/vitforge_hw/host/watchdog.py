"""The watchdog: how long nothing has moved."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

PERIOD_BITS = 32


class Watchdog(wiring.Component):
    """One pulse when nothing has moved for ``period`` cycles; the next one after something has.

    Members
    -------
    period : In(32), cycles; 0: never
    active : In(1), something should move; progress : In(1), it does
    expired : Out(1), one cycle

    Latency: the pulse comes in the cycle that follows ``period`` active cycles without progress.
    """

    def __init__(self):
        super().__init__(
            {"period": In(PERIOD_BITS), "active": In(1), "progress": In(1), "expired": Out(1)}
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        count, told = Signal(PERIOD_BITS), Signal()
        # a period that was made shorter in the meantime expires at once
        m.d.comb += self.expired.eq(self.active & ~told & self.period.any() & (count >= self.period))
        with m.If(~self.active | self.progress):
            m.d.sync += [count.eq(0), told.eq(0)]
        with m.Elif(self.expired):
            m.d.sync += told.eq(1)
        with m.Elif(~told):
            m.d.sync += count.eq(count + 1)
        return m
