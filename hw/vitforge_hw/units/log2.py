"""Logarithm of a softmax sum by its leading one and a table."""

from amaranth import Array, Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from .leading_one import LeadingOne


def normalise(value: Value, index: Value) -> Value:
    """``value`` shifted left so that its leading one, at ``index``, is the top bit; same width, top bit left out."""
    bits = len(value)
    return (value << (bits - 1 - index)[: len(index)])[: bits - 1]


class Log2(wiring.Component):
    """Base-2 logarithm of a sum in units of 2^-16, by leading one and a table of 64 entries.

    Parameters
    ----------
    bits : width of the sum.

    Members
    -------
    i : the sum, at least 64 (softmax sums are at least 65536).
    o : L = log2(i * 2^-16) with 4 fraction bits.

    Latency/throughput: ``LATENCY`` cycles, one a cycle.

    Reference: arith.softmax_log2_sum
    """

    LATENCY = 3

    def __init__(self, bits: int = 25):
        super().__init__({"i": In(bits), "o": Out(signed(12))})

    def elaborate(self, platform):
        m = Module()
        bits = len(self.i)
        m.submodules.leading = leading = LeadingOne(bits)
        m.d.comb += leading.i.eq(self.i)
        value = Signal(bits, reset_less=True)
        n1 = Signal(range(bits), reset_less=True)
        n2 = Signal(range(bits), reset_less=True)
        fraction = Signal(6, reset_less=True)
        table = Array([Const(entry, 5) for entry in arith.LOG2_TABLE])
        log = Signal(signed(12), reset_less=True)
        m.d.sync += [
            value.eq(self.i),
            n1.eq(leading.index),
            n2.eq(n1),
            fraction.eq(normalise(value, n1)[-6:]),
            log.eq(Cat(Const(0, 4), n2) + table[fraction] - 256),
        ]
        m.d.comb += self.o.eq(log)
        return m
