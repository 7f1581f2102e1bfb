"""Index of the most significant one."""

from amaranth import C, Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


def _index(x):
    if len(x) == 1:
        return C(0, 0)
    if len(x) == 2:  # no zero-width wires
        return x[1]
    bits = ceil_log2(len(x))
    half = 1 << (bits - 1)
    low, high = _index(x[:half]), _index(x[half:])
    if len(high) < bits - 1:
        high = Cat(high, C(0, bits - 1 - len(high)))
    return Cat(Mux(x[half:].any(), high, low), x[half:].any())


class LeadingOne(wiring.Component):
    """Index of the most significant one, a tree of multiplexers.

    Parameters
    ----------
    width : bits of the operand, at least 2

    Members
    -------
    i : operand
    index : position of the most significant one, 0 for 0
    some : the operand is not 0

    Latency
    -------
    Combinational.

    Reference
    ---------
    arch.arith.leading_one
    """

    def __init__(self, width: int):
        if width < 2:
            raise ValueError(f"leading one: width must be at least 2, not {width}")
        super().__init__({"i": In(width), "index": Out(ceil_log2(width)), "some": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.index.eq(_index(self.i)), self.some.eq(self.i.any())]
        return m
