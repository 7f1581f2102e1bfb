"""Re-quantization of an accumulator to the 12-bit p by a shift."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import ACC_BITS
from ..arch.enums import P_BITS
from .window_shift import drop, round_saturated

#: bits of the parameter entry's fields; e and the offset are signed
BIAS_BITS, M1_BITS, S1_BITS, E_BITS, S2_BITS, OFFSET_BITS = (
    next(f.bits for f in isa.POST_PARAM_FIELDS if f.name == name) for name in ("bias", "m1", "s1", "e", "s2", "offset")
)
LATENCY = 3


def round_shift(m: Module, x, n, name: str, bits: int | None = None):
    """Registers ``(x << 1) >> n`` and returns (floor, half): round_shift(x, n) = floor + half one cycle later.

    x must be signed, n unsigned of any size; the lowest bit of the shifted value is the rounding bit. floor has the
    bits of x, or ``bits``; the sum has no more.
    """
    shifted = Signal(signed((bits or len(x)) + 1), name=name, reset_less=True)
    m.d.sync += shifted.eq(Cat(C(0, 1), x).as_signed() >> n)
    return shifted[1:], shifted[0]


def saturate(x, bits: int):
    """Signed x clipped to ``bits`` bits."""
    sign, upper = x[-1], x[bits - 1 : -1]
    fits = Mux(sign, upper.all(), ~upper.any())
    kept = Mux(fits, x[:bits], Cat((~sign).replicate(bits - 1), sign))
    return kept.as_signed()


class Requantize(wiring.Component):
    """p = sat12(round_shift(acc + bias, s1)).

    Members
    -------
    acc, bias : 27 and 26 bits signed, their sum 27 (the compiler proves it)
    s1 : right shift, 0..31, given one cycle after acc and bias
    p : 12 bits signed

    Latency/throughput: 3 cycles from acc and bias to p; one result a cycle.

    Reference: arch.arith.postprocess, first line
    """

    def __init__(self):
        super().__init__(
            {
                "acc": In(signed(ACC_BITS)),
                "bias": In(signed(BIAS_BITS)),
                "s1": In(S1_BITS),
                "p": Out(signed(P_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        total = Signal(signed(ACC_BITS + 1), reset_less=True)
        m.d.sync += total.eq(self.acc + self.bias)
        sign = total[-1]
        value, lost8 = drop(m, Cat(C(0, 1), total), sign, self.s1[3:], 8, P_BITS + 8, "by8")
        value, lost2 = drop(m, value, sign, self.s1[1:3], 2, P_BITS + 2, "by2")
        value, lost1 = drop(m, value, sign, self.s1[0], 1, P_BITS + 1, "by1")
        m.d.comb += self.p.eq(round_saturated(m, value, lost8 | lost2 | lost1, sign, P_BITS))
        return m
