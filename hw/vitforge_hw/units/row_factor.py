"""Reciprocal of a row's sum of code weights, and the weights that codes stand for."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from .leading_one import LeadingOne
from .log2 import normalise


def _decode(weight: int) -> tuple[int, int]:
    """``(three, exponent)`` of a code weight 1 << exponent or 3 << exponent."""
    exponent = max(weight & -weight, 1).bit_length() - 1
    assert weight >> exponent in (0, 1, 3)
    return weight >> exponent == 3, exponent


#: (three, exponent) by code | rule << 4
_WEIGHTS = tuple(_decode(arith.code_weight(q, rule)) for rule in (0, 1) for q in range(16))


def decode_code(code: Value, rule: Value) -> tuple[Value, Value, Value]:
    """``(zero, three, exponent)`` of a code: its weight is 0, 3 << exponent or 1 << exponent (arith.code_weight)."""
    select = Cat(code, rule)
    three = Array([Const(t, 1) for t, _ in _WEIGHTS])[select]
    exponent = Array([Const(e, 4) for _, e in _WEIGHTS])[select]
    return code.all(), three, exponent


class RowFactor(wiring.Component):
    """Row factor: 1 / w as an 8-bit mantissa and an exponent.

    Parameters
    ----------
    bits : width of the sum, at most 32.

    Members
    -------
    w : sum of a row's code weights.
    mant, p : 1/w ~ mant * 2^-(8 + p); (128, 0) for w = 0.
    upper, zero : the bit behind w's leading one (w in the upper half of its octave); w = 0.

    Latency/throughput: ``LATENCY`` cycles, one a cycle.

    Reference: arith.row_factor
    """

    LATENCY = 3

    def __init__(self, bits: int = 24):
        super().__init__({"w": In(bits), "mant": Out(8), "p": Out(5), "upper": Out(1), "zero": Out(1)})

    def elaborate(self, platform):
        m = Module()
        bits = len(self.w)
        m.submodules.leading = leading = LeadingOne(bits)
        m.d.comb += leading.i.eq(self.w)
        value = Signal(bits, reset_less=True)
        zero1, zero2, zero3 = (Signal(name=f"zero{i}", reset_less=True) for i in (1, 2, 3))
        upper = Signal(reset_less=True)
        p1, p2, p3 = (Signal(5, name=f"p{i}", reset_less=True) for i in (1, 2, 3))
        fraction = Signal(8, reset_less=True)
        mant = Signal(8, reset_less=True)
        table = Array([Const(entry, 8) for entry in arith.RECIP_TABLE])
        m.d.sync += [
            value.eq(self.w),
            zero1.eq(~leading.some),
            p1.eq(leading.index),
            zero2.eq(zero1),
            p2.eq(p1),
            fraction.eq(normalise(value, p1[: (bits - 1).bit_length()])[-8:]),
            p3.eq(Mux(zero2, 0, p2)),
            mant.eq(Mux(zero2, 128, table[fraction])),
            upper.eq(fraction[-1]),
            zero3.eq(zero2),
        ]
        m.d.comb += [self.mant.eq(mant), self.p.eq(p3), self.upper.eq(upper), self.zero.eq(zero3)]
        return m
