"""Residual addition with per-channel scales, and the output's saturation."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .requantize import P_BITS, round_shift, saturate

RESIDUAL_BITS = 16
SUM_BITS = 32  #: (16 bits << 15) + (12 bits << 15)
LATENCY = 5
S2_STAGE, OFFSET_STAGE, OUT_STAGE = 2, 3, 4  #: cycles after h at which s2, offset, and wide with narrow are taken


class ResidualAdd(wiring.Component):
    """y = sat(round_shift((h << eh) + (residual << er), s2) + offset), 8 or 12 bits.

    Members
    -------
    h, residual, eh, er : operands and their left shifts
    s2 : right shift, 2 cycles after h
    offset : 8 bits signed, 3 cycles after h
    wide, narrow : 12 bits; symmetric range; 4 cycles after h
    low, high : the result as int8 or as the two bytes of 16 bits, sign-extended

    Latency/throughput: 5 cycles from h to low, high; one result a cycle.

    Reference: arch.arith.postprocess, last line
    """

    def __init__(self):
        super().__init__(
            {
                "h": In(signed(P_BITS)),
                "residual": In(signed(RESIDUAL_BITS)),
                "eh": In(4),
                "er": In(4),
                "s2": In(5),
                "offset": In(signed(8)),
                "wide": In(1),
                "narrow": In(1),
                "low": Out(8),
                "high": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        main = Signal(signed(P_BITS + 15), reset_less=True)
        addend = Signal(signed(RESIDUAL_BITS + 15), reset_less=True)
        total = Signal(signed(SUM_BITS), reset_less=True)
        m.d.sync += [
            main.eq(self.h << self.eh),
            addend.eq(self.residual << self.er),
            total.eq(main + addend),
        ]
        floor, half = round_shift(m, total, self.s2, "shifted")
        moved = Signal(signed(SUM_BITS + 2), reset_less=True)
        m.d.sync += moved.eq((floor + self.offset + half)[: SUM_BITS + 2].as_signed())
        wide, byte = saturate(moved, P_BITS, self.narrow), saturate(moved, 8, self.narrow)
        out = Signal(16, reset_less=True)
        m.d.sync += out.eq(
            Mux(self.wide, Cat(wide, wide[-1].replicate(16 - P_BITS)), Cat(byte, byte[-1].replicate(8)))
        )
        m.d.comb += [self.low.eq(out[:8]), self.high.eq(out[8:])]
        return m
