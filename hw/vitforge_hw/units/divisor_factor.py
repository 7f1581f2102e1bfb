"""What a dividend is multiplied by and shifted, from its divisor (linear attention)."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from .row_factor import RowFactor

LO_BITS = 5  #: of the log2 rule's offset: lo + 15 fits p


class DivisorFactor(wiring.Component):
    """Divisor to mantissa and exponent: its reciprocal, or 4-bit codes of its rounded binary logarithm.

    Parameters
    ----------
    bits : width of the divisor, at most 32

    Members
    -------
    d : divisor
    rule, lo : DIV_LOG2 or DIV_RECIPROCAL and the offset of the codes (0..16), RULE_AT cycles behind ``d``
    mant, p : mantissa and exponent; (0, 0) for d = 0

    Latency/throughput: LATENCY (4) cycles, one a cycle.

    Reference: arith.divisor_factor
    """

    RULE_AT = RowFactor.LATENCY
    LATENCY = RULE_AT + 1

    def __init__(self, bits: int):
        self._bits = bits
        super().__init__({"d": In(bits), "rule": In(1), "lo": In(LO_BITS), "mant": Out(8), "p": Out(5)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reciprocal = reciprocal = RowFactor(self._bits)
        m.d.comb += reciprocal.w.eq(self.d)
        # leading one, rounded up at 1.5 times the power of two, then lo + clip(r - lo, 0, 15)
        code = Signal(signed(7))
        m.d.comb += code.eq(reciprocal.p + reciprocal.upper - self.lo)
        clipped = Mux(code[-1], 0, Mux(code[4:6].any(), arith.CODE_MAX, code[:4]))
        exact = self.rule == arith.DIV_RECIPROCAL
        mant = Signal(8, reset_less=True)
        p = Signal(5, reset_less=True)
        alive = ~reciprocal.zero
        m.d.sync += [
            mant.eq(Mux(exact, reciprocal.mant, 128) & alive.replicate(8)),
            p.eq(Mux(exact, reciprocal.p, (self.lo + clipped)[:5]) & alive.replicate(5)),
        ]
        m.d.comb += [self.mant.eq(mant), self.p.eq(p)]
        return m
