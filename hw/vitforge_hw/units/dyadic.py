"""Re-quantization of an accumulator to the 12-bit p by a dyadic scale, or by a token's mantissa and exponent."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..interfaces import EXPONENT_BITS, MANTISSA_BITS
from .requantize import BIAS_BITS, M1_BITS, P_BITS, S1_BITS, saturate

MULTIPLIER_BITS = M1_BITS + 1  #: 2^15 + the entry's field
PRODUCT_BITS = ACC_BITS + MULTIPLIER_BITS
SHIFT_BITS = S1_BITS + 1  #: 15..46, or 0..62 when dividing
FINE_BITS = 3  #: shifted in the second of two stages
LATENCY = 6
SHIFT_STAGE = 2  #: cycles after acc at which s1, exponent, take_exponent are taken


class Dyadic(wiring.Component):
    """p = sat12(round_shift((acc + bias) * (2^15 + m1), s1 + 15)), or with mantissa and s1 + exponent instead.

    Members
    -------
    acc, bias : 27 and 26 bits signed, their sum 27 (the compiler proves it)
    m1, s1 : fields of the parameter entry; s1 SHIFT_STAGE (2) cycles after acc
    mantissa, take_mantissa : multiplier instead of m1
    exponent, take_exponent : added to s1 instead of 15, SHIFT_STAGE (2) cycles after acc
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
                "take_mantissa": In(1),
                "s1": In(S1_BITS),
                "exponent": In(EXPONENT_BITS),
                "take_exponent": In(1),
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
            multiplier.eq(Mux(self.take_mantissa, self.mantissa, Cat(self.m1, C(1, 1)))),
            product.eq(total * multiplier),
        ]

        product_late = Signal.like(product, reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        fine = Signal(FINE_BITS, reset_less=True)
        m.d.sync += [
            product_late.eq(product),
            shift.eq(self.s1 + Mux(self.take_exponent, self.exponent, MULTIPLIER_BITS - 1)),
            fine.eq(shift[:FINE_BITS]),
        ]
        # the rounding bit comes along below the value
        coarse = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        m.d.sync += coarse.eq(Cat(C(0, 1), product_late).as_signed() >> Cat(C(0, FINE_BITS), shift[FINE_BITS:]))
        shifted = Signal(signed(PRODUCT_BITS + 1), reset_less=True)
        m.d.sync += shifted.eq(coarse >> fine)
        rounded = Signal(signed(PRODUCT_BITS))  # cannot overflow: the half is 0 where nothing is shifted out
        m.d.comb += rounded.eq(shifted[1:].as_signed() + shifted[0])
        p = Signal(signed(P_BITS), reset_less=True)
        m.d.sync += p.eq(saturate(rounded, P_BITS))
        m.d.comb += self.p.eq(p)
        return m
