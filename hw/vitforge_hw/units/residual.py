"""Residual addition with per-channel scales, and the output's saturation."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .requantize import E_BITS, OFFSET_BITS, P_BITS, S2_BITS, round_shift, saturate

RESIDUAL_BITS = 16
SHIFT_MAX = 1 << E_BITS - 1  #: e is -16..15
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
    h_bits : size of h; its most negative value may only occur in 12 bits

    Members
    -------
    h, residual, e : operands and the left shift of h, or where negative of the residual
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
        # only one of the two is shifted: 16 + 16 bits and 12, or h_bits + 15 and 16 (where |h| < 2^(h_bits-1) - 1)
        bits = max(RESIDUAL_BITS + SHIFT_MAX + 1, self._h_bits + SHIFT_MAX - 1)
        main = Signal(signed(bits), reset_less=True)
        addend = Signal(signed(bits), reset_less=True)
        total = Signal(signed(bits), reset_less=True)
        places, negative = self.e[: E_BITS - 1], self.e[-1]
        m.d.sync += [
            # x << n as (x << 15) >> (15 - n), (x << 16) >> (16 - n)
            main.eq(Cat(C(0, SHIFT_MAX - 1), self.h).as_signed() >> (~places | negative.replicate(E_BITS - 1))),
            addend.eq(
                Cat(C(0, SHIFT_MAX), self.residual).as_signed()
                >> Cat(places & negative.replicate(E_BITS - 1), ~negative)
            ),
            total.eq(main + addend),
        ]
        floor, half = round_shift(m, total, self.s2, "shifted", bits + 1)
        offset = Signal(signed(bits + 1), reset_less=True)
        moved = Signal(signed(bits + 1), reset_less=True)
        m.d.sync += [offset.eq(self.offset), moved.eq((floor + offset.as_unsigned())[: bits + 1] + half)]
        wide, byte = saturate(moved, P_BITS, self.narrow), saturate(moved, 8, self.narrow)
        out = Signal(16, reset_less=True)
        m.d.sync += out.eq(Mux(self.wide, Cat(wide, wide[-1].replicate(16 - P_BITS)), Cat(byte, byte[-1].replicate(8))))
        m.d.comb += [self.low.eq(out[:8]), self.high.eq(out[8:])]
        return m
