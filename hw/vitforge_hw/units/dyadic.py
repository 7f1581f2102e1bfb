"""Re-quantization of an accumulator to the 12-bit p by a dyadic scale, or by a token's mantissa and exponent."""

from amaranth import C, Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..interfaces import EXPONENT_BITS, MANTISSA_BITS
from .requantize import BIAS_BITS, M1_BITS, P_BITS, S1_BITS
from .window_shift import drop, round_saturated

MULTIPLIER_BITS = M1_BITS + 1  #: 2^15 + the entry's field
PRODUCT_BITS = ACC_BITS + MULTIPLIER_BITS
SHIFT_BITS = S1_BITS + 1  #: 15..46, or 0..62 when dividing
LATENCY = 6
SHIFT_STAGE = 2  #: cycles after acc at which s1, exponent are taken
NO_DIVISION = MULTIPLIER_BITS - 1  #: exponent where the entry's own multiplier is taken


class Dyadic(wiring.Component):
    """p = sat12(round_shift((acc + bias) * (2^15 + m1), s1 + 15)), or with mantissa and s1 + exponent instead.

    Members
    -------
    acc, bias : 27 and 26 bits signed, their sum 27 (the compiler proves it)
    m1, s1 : fields of the parameter entry; s1 SHIFT_STAGE (2) cycles after acc
    divide, mantissa : multiplier instead of 2^15 + m1, where m1 is 0; else mantissa is 0
    exponent : added to s1, SHIFT_STAGE (2) cycles after acc; NO_DIVISION (15) without ``divide``
    p : 12 bits signed

    Latency/throughput: 6 cycles (sum, product in two, shift in two, rounding), one result a cycle.

    Reference: arch.arith.dyadic, arch.arith.divide
    """

    def __init__(self):
        super().__init__(
            {
                "acc": In(signed(ACC_BITS)),
                "bias": In(signed(BIAS_BITS)),
                "m1": In(M1_BITS),
                "mantissa": In(MANTISSA_BITS),
                "divide": In(1),
                "s1": In(S1_BITS),
                "exponent": In(EXPONENT_BITS),
                "p": Out(signed(P_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        total = Signal(signed(ACC_BITS), reset_less=True)
        multiplier = Signal(MULTIPLIER_BITS, reset_less=True)
        product = Signal(signed(PRODUCT_BITS), reset_less=True)
        m.d.sync += [
            total.eq((self.acc + self.bias)[:ACC_BITS].as_signed()),
            multiplier.eq(Cat(self.m1 | self.mantissa, ~self.divide)),
            product.eq(total * multiplier),
        ]

        product_late = Signal.like(product, reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        fine = Signal(2, reset_less=True)
        m.d.sync += [product_late.eq(product), shift.eq(self.s1 + self.exponent), fine.eq(shift[:2])]

        # of 44 bits, the rounding bit below the value, 13 stay; what is lost above them saturates p
        sign = product_late[-1]
        coarse, lost16 = drop(m, Cat(C(0, 1), product_late), sign, shift[4:], 16, P_BITS + 16, "by16")
        middle, lost4 = drop(m, coarse, sign, shift[2:4], 4, P_BITS + 4, "by4")
        shifted = Signal(P_BITS + 4, reset_less=True)
        lost = Signal(reset_less=True)
        negative = Signal(reset_less=True)
        m.d.sync += [shifted.eq(middle), lost.eq(lost16 | lost4), negative.eq(sign)]

        low, lost1 = drop(m, shifted, negative, fine, 1, P_BITS + 1, "by1")
        m.d.comb += self.p.eq(round_saturated(m, low, lost | lost1, negative, P_BITS))
        return m
