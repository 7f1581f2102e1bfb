"""Residual addition with per-channel scales, and the output's saturation."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .packed import add_carry
from .requantize import E_BITS, OFFSET_BITS, P_BITS, S2_BITS
from .window_shift import drop

RESIDUAL_BITS = 16
SUM_BITS = 32  #: of (h << eh) + (residual << er): the compiler proves it
FLOOR_BITS = P_BITS + 1  #: behind s2; where it does not suffice, no offset brings the value back into P_BITS
LATENCY = 5
S2_STAGE, OFFSET_STAGE, OUT_STAGE = 2, 2, 4  #: cycles after h at which s2, offset, and wide with narrow are taken

MEMBERS = {
    "residual": In(signed(RESIDUAL_BITS)),
    "e": In(signed(E_BITS)),
    "s2": In(S2_BITS),
    "offset": In(signed(OFFSET_BITS)),
    "wide": In(1),
    "narrow": In(1),
    "low": Out(8),
    "high": Out(8),
}  #: all but h: also members of the lane around it


class ResidualAdd(wiring.Component):
    """y = sat(round_shift((h << eh) + (residual << er), s2) + offset), 8 or 12 bits; eh = max(e, 0), er = max(-e, 0).

    Parameters
    ----------
    h_bits : size of h

    Members
    -------
    h, residual, e : operands and the left shift of h, or where negative of the residual; the sum fits 32 bits signed
    s2, offset : right shift; 8 bits signed; 2 cycles after h
    wide, narrow : 12 bits; symmetric range; 4 cycles after h
    low, high : the result as int8 or as the two bytes of 16 bits, sign-extended

    Latency/throughput: 5 cycles from h to low, high; one result a cycle.

    Reference: arch.arith.postprocess, last line
    """

    def __init__(self, h_bits: int = P_BITS):
        self._h_bits = h_bits
        super().__init__({"h": In(signed(h_bits)), **MEMBERS})

    def elaborate(self, platform):
        m = Module()
        floor, half, lost, side = self._shifted(m, self._sum(m))

        offset = Signal(signed(OFFSET_BITS), reset_less=True)
        moved = Signal(signed(FLOOR_BITS + 1), reset_less=True)
        over, negative = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            offset.eq(self.offset),
            moved.eq(add_carry(floor, offset, half, FLOOR_BITS + 1)),
            over.eq(lost),
            negative.eq(side),
        ]

        # as 8 or 12 bits: what stands above must be the sign
        sign = Mux(over, negative, moved[-1])
        fits = Signal()
        upper = moved[P_BITS - 1 :], moved[7 : P_BITS - 1]
        same = [Mux(moved[-1], bits.all(), ~bits.any()) for bits in upper]
        m.d.comb += fits.eq(~over & same[0] & (self.wide | same[1]))
        kept = Mux(fits, moved[: P_BITS - 1], (~sign).replicate(P_BITS - 1))
        # where the signal ``narrow`` is 1, the most negative value is left out
        least = sign & ~kept[:7].any() & ~(self.wide & kept[7:].any())
        byte, more = kept[:7] | Cat(least & self.narrow, C(0, 6)), kept[7:]
        out = Signal(16, reset_less=True)
        m.d.sync += out.eq(Cat(byte, Mux(self.wide, more, sign.replicate(len(more))), sign.replicate(5)))
        m.d.comb += [self.low.eq(out[:8]), self.high.eq(out[8:])]
        return m

    def _sum(self, m) -> Signal:
        """(h << eh) + (residual << er), 2 cycles after h: one shifter serves that of the two which is shifted."""
        up, places = self.e[-1], self.e[: E_BITS - 1] ^ self.e[-1].replicate(E_BITS - 1)  # -e is ~e + 1
        bits = max(self._h_bits, RESIDUAL_BITS + 1)
        extended = Cat(self.h, self.h[-1].replicate(bits - self._h_bits))
        twice = Cat(C(0, 1), self.residual, self.residual[-1].replicate(bits - RESIDUAL_BITS - 1))
        main = Mux(up, twice, extended)
        for place, step in zip(places, (1, 2, 4, 8)):
            full = Cat(main, main[-1].replicate(step))[:SUM_BITS]
            main = Signal(signed(len(full)), name=f"up{step}")
            m.d.comb += main.eq(Mux(place, full << step, full))
        shifted = Signal(signed(SUM_BITS), reset_less=True)
        h = Signal(signed(self._h_bits), reset_less=True)
        residual = Signal(signed(RESIDUAL_BITS), reset_less=True)
        turned = Signal(reset_less=True)
        total = Signal(signed(SUM_BITS), reset_less=True)
        m.d.sync += [
            shifted.eq(main),
            h.eq(self.h),
            residual.eq(self.residual),
            turned.eq(up),
            total.eq(add_carry(shifted, Mux(turned, h, residual), C(0, 1), SUM_BITS)),
        ]
        return total

    def _shifted(self, m, total):
        """(floor, half, lost, sign) of total >> s2 a cycle later; lost: the floor does not fit."""
        sign = total[-1]
        size = FLOOR_BITS + 1  # the rounding bit comes along below the value
        value, lost = drop(m, Cat(C(0, 1), total), sign, self.s2[3:], 8, size + 7, "by8")
        value, lost2 = drop(m, value, sign, self.s2[1:3], 2, size + 1, "by2")
        value, lost1 = drop(m, value, sign, self.s2[0], 1, size, "by1")
        shifted = Signal(size, reset_less=True)
        over, side = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [shifted.eq(value), over.eq(lost | lost2 | lost1 | (value[-1] ^ sign)), side.eq(sign)]
        return shifted[1:].as_signed(), shifted[0], over, side
