"""Hardswish of the 12-bit p in integer steps."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .booth import multiply
from .requantize import P_BITS

LATENCY = 4
CLIP_STAGE = 1  #: cycles after p at which q6 is taken
H_BITS = 2 * P_BITS  #: |p| * q6 < 2^23
IDENTITY = (1 << P_BITS) - 1, 1  #: q3 and q6 with which h is p: p + q3 is above q6 for every p


class Hardswish(wiring.Component):
    """h = p * clip(p + q3, 0, q6).

    Members
    -------
    p, q3 : 12 bits signed and unsigned
    q6 : 12 bits unsigned, CLIP_STAGE (1) cycle after p
    h : 24 bits signed

    Latency/throughput: 4 cycles (sum, clip, product in two), one result a cycle.

    Reference: arch.arith.hardswish
    """

    def __init__(self):
        super().__init__({"p": In(signed(P_BITS)), "q3": In(P_BITS), "q6": In(P_BITS), "h": Out(signed(H_BITS))})

    def elaborate(self, platform):
        m = Module()
        p = [self.p]
        for i in range(2):
            p.append(Signal(signed(P_BITS), name=f"p{i + 1}", reset_less=True))
            m.d.sync += p[-1].eq(p[-2])
        moved = Signal(signed(P_BITS + 2), reset_less=True)
        clipped = Signal(P_BITS, reset_less=True)
        positive = moved[:-1]
        m.d.sync += [
            moved.eq(self.p + self.q3),
            clipped.eq(Mux(moved[-1], 0, Mux(positive > self.q6, self.q6, positive)[:P_BITS])),
        ]
        # in LUTs: about 90, against a DSP block in each of a design's post-processing lanes
        m.d.comb += self.h.eq(multiply(m, clipped, p[2], 2, "product")[:H_BITS].as_signed())
        return m
