"""Beats of the weight DMA on their way to a whole row."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Column(wiring.Component):
    """A beat of the row that waits, and of the one that is being gathered: the newest enters at the last column.

    The enables are worked out here, in each column anew: hundreds of flip-flops follow them.

    Parameters
    ----------
    bits : of a beat
    last : the column that the newest beat enters, which it leaves with the whole row alone

    Members
    -------
    valid, is_row, free : there is a beat; it completes a row; the place of that row is free. A beat is taken when it
        does not complete a row or the place is free
    enters : what it moves into this column; whole : what the column has of the row that it completes
    row : what the column has of the row that waits
    """

    def __init__(self, bits: int, last: bool):
        self._last = last
        ports = {"valid": In(1), "is_row": In(1), "free": In(1)}
        super().__init__(ports | {"enters": In(bits), "whole": Out(bits), "row": Out(bits)})

    def elaborate(self, platform):
        m = Module()
        row = Signal(len(self.row), reset_less=True)
        m.d.comb += [self.row.eq(row), self.whole.eq(self.enters)]
        if not self._last:
            gathered = Signal(len(self.row), reset_less=True)
            m.d.comb += self.whole.eq(gathered)
            with m.If(self.valid & (~self.is_row | self.free)):
                m.d.sync += gathered.eq(self.enters)
        with m.If(self.valid & self.is_row & self.free):
            m.d.sync += row.eq(self.whole)
        return m
