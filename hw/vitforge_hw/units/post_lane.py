"""One post-processing lane: a channel of a token a cycle."""

from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from . import gelu, requantize, residual

#: cycles after acc and bias at which each input is taken (the delay lines are shared by all lanes of a channel)
STAGE = {
    "acc": 0,
    "bias": 0,
    "s1": 1,
    "exp_index": requantize.LATENCY + gelu.INDEX_STAGE,
    "exp_out": requantize.LATENCY + gelu.OUT_STAGE,
    "act": requantize.LATENCY + gelu.OUT_STAGE,
}
_H = requantize.LATENCY + gelu.LATENCY
STAGE |= {
    "residual": _H,
    "eh": _H,
    "er": _H,
    "s2": _H + residual.S2_STAGE,
    "offset": _H + residual.OFFSET_STAGE,
    "wide": _H + residual.OUT_STAGE,
    "narrow": _H + residual.OUT_STAGE,
}
LATENCY = _H + residual.LATENCY  #: 12 cycles from acc to low, high


class PostLane(wiring.Component):
    """Re-quantization, activation, residual, offset, saturation.

    Members
    -------
    acc, bias, s1, exp_index, exp_out, act, residual, eh, er, s2, offset, wide, narrow : operands of one result, each
        given STAGE[name] cycles after acc
    low, high : result as int8, or as the two bytes of the sign-extended 12 bits

    Latency/throughput: LATENCY (12) cycles from acc to low, high; one result a cycle.

    Reference: arch.arith.postprocess
    """

    def __init__(self):
        super().__init__(
            {
                "acc": In(signed(ACC_BITS)),
                "bias": In(signed(ACC_BITS)),
                "s1": In(6),
                "exp_index": In(4),
                "exp_out": In(4),
                "act": In(2),
                "residual": In(signed(residual.RESIDUAL_BITS)),
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
        m.submodules.requantize = first = requantize.Requantize()
        m.submodules.gelu = act = gelu.Gelu()
        m.submodules.add = last = residual.ResidualAdd()
        m.d.comb += [
            first.acc.eq(self.acc),
            first.bias.eq(self.bias),
            first.s1.eq(self.s1),
            act.p.eq(first.p),
            act.exp_index.eq(self.exp_index),
            act.exp_out.eq(self.exp_out),
            act.act.eq(self.act),
            last.h.eq(act.h),
            *(
                getattr(last, name).eq(getattr(self, name))
                for name in ("residual", "eh", "er", "s2", "offset", "wide", "narrow")
            ),
            self.low.eq(last.low),
            self.high.eq(last.high),
        ]
        return m
