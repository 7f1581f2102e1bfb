"""Residual addition with per-channel scales, and the output's saturation."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .requantize import P_BITS, round_shift, saturate

RESIDUAL_BITS = 16
SUM_BITS = 32  #: (16 bits << 15) + (12 bits << 15)
LATENCY = 5
S2_STAGE, OFFSET_STAGE, OUT_STAGE = 2, 2, 4  #: cycles after h at which s2, offset, and wide with narrow are taken


class ResidualAdd(wiring.Component):
    """y = sat(round_shift((h << eh) + (residual << er), s2) + offset), 8 or 12 bits.

    Members
    -------
    h, residual, eh, er : operands and their left shifts
    s2, offset : right shift; 8 bits signed; 2 cycles after h
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
        main = Signal(signed(SUM_BITS), reset_less=True)
        addend = Signal(signed(SUM_BITS), reset_less=True)
        total = Signal(signed(SUM_BITS), reset_less=True)
        m.d.sync += [
            # x << n as (x << 15) >> (15 - n)
            main.eq(Cat(C(0, 15), self.h).as_signed() >> ~self.eh),
            addend.eq(Cat(C(0, 15), self.residual).as_signed() >> ~self.er),
            total.eq(main + addend),
        ]
        floor, half = round_shift(m, total, self.s2, "shifted", SUM_BITS + 1)
        offset = Signal(signed(SUM_BITS + 1), reset_less=True)
        moved = Signal(signed(SUM_BITS + 1), reset_less=True)
        m.d.sync += [offset.eq(self.offset), moved.eq((floor + offset.as_unsigned())[: SUM_BITS + 1] + half)]
        wide, byte = saturate(moved, P_BITS, self.narrow), saturate(moved, 8, self.narrow)
        out = Signal(16, reset_less=True)
        m.d.sync += out.eq(
            Mux(self.wide, Cat(wide, wide[-1].replicate(16 - P_BITS)), Cat(byte, byte[-1].replicate(8)))
        )
        m.d.comb += [self.low.eq(out[:8]), self.high.eq(out[8:])]
        return m
