"""One post-processing lane: a channel of a token a cycle."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..arch.config import ACC_BITS
from ..interfaces import EXPONENT_BITS, MANTISSA_BITS
from . import dyadic, gelu, hardswish, requantize, residual
from .requantize import BIAS_BITS, M1_BITS, P_BITS, S1_BITS

TRIO_ACT_LATENCY = max(gelu.LATENCY, hardswish.LATENCY) + 1  #: p to h with both activations: a choice behind them
assert gelu.LATENCY == hardswish.LATENCY


def stages(trio: bool) -> dict[str, int]:
    """Cycles after acc at which a lane takes each input (the delay lines are shared by all lanes of a channel)."""
    if trio:
        p, h = dyadic.LATENCY, dyadic.LATENCY + TRIO_ACT_LATENCY
        out = dict.fromkeys(("acc", "bias", "m1", "mantissa", "divide"), 0)
        out |= dict.fromkeys(("s1", "exponent"), dyadic.SHIFT_STAGE)
        out |= {"q3": p, "q6": p + hardswish.CLIP_STAGE, "take_hardswish": h - 1}
    else:
        p, h = requantize.LATENCY, requantize.LATENCY + gelu.LATENCY
        out = {"acc": 0, "bias": 0, "s1": 1}
    return out | {
        "exp_index": p + gelu.INDEX_STAGE,
        "exp_out": p + gelu.OUT_STAGE,
        "take_gelu": p + gelu.OUT_STAGE,
        "residual": h,
        "e": h,
        "s2": h + residual.S2_STAGE,
        "offset": h + residual.OFFSET_STAGE,
        "wide": h + residual.OUT_STAGE,
        "narrow": h + residual.OUT_STAGE,
    }


def latency(trio: bool) -> int:
    """Cycles from acc to low, high: 12, or 16 with the multiplications of ``trio``."""
    return stages(trio)["residual"] + residual.LATENCY


def ports(trio: bool, attention: bool) -> dict[str, wiring.Member]:
    """A lane's members (PostLane)."""
    members = {
        "acc": In(signed(ACC_BITS)),
        "bias": In(signed(BIAS_BITS)),
        "s1": In(S1_BITS),
        **residual.MEMBERS,
    }
    if attention:
        members |= {"exp_index": In(4), "exp_out": In(4), "take_gelu": In(1)}
    if trio:
        members |= {
            "m1": In(M1_BITS),
            "mantissa": In(MANTISSA_BITS),
            "divide": In(1),
            "exponent": In(EXPONENT_BITS),
            "q3": In(P_BITS),
            "q6": In(P_BITS),
        }
        if attention:
            members["take_hardswish"] = In(1)
    return members


class PostLane(wiring.Component):
    """Re-quantization, activation, residual, offset, saturation.

    Parameters
    ----------
    trio : dyadic scales, division and Hardswish; else power-of-two scales
    attention : GELU

    Members
    -------
    acc, bias, s1, e, s2, offset, residual, wide, narrow, ... : operands of one result, each given stages(trio)[name]
        cycles after acc; exp_index, exp_out, take_gelu with ``attention``, m1, mantissa, divide, exponent, q3, q6 with
        ``trio``, take_hardswish with both: without GELU an identity has hardswish.IDENTITY for q3 and q6
    low, high : result as int8, or as the two bytes of the sign-extended 12 bits

    Latency/throughput: latency(trio) (12 or 16) cycles from acc to low, high; one result a cycle.

    Reference: arch.arith.postprocess, arch.arith.divide
    """

    def __init__(self, trio: bool = False, attention: bool = True):
        self._trio, self._attention = trio, attention
        super().__init__(ports(trio, attention))

    def elaborate(self, platform):
        m = Module()
        m.submodules.requantize = first = dyadic.Dyadic() if self._trio else requantize.Requantize()
        m.submodules.add = last = residual.ResidualAdd(hardswish.H_BITS if self._trio else P_BITS)
        scale = ("m1", "mantissa", "divide", "exponent") if self._trio else ()
        m.d.comb += [getattr(first, name).eq(getattr(self, name)) for name in ("acc", "bias", "s1", *scale)]
        if self._attention:
            m.submodules.gelu = act = gelu.Gelu()
            m.d.comb += [
                act.p.eq(first.p),
                act.exp_index.eq(self.exp_index),
                act.exp_out.eq(self.exp_out),
                act.act.eq(self.take_gelu),
            ]
            h = act.h
        elif not self._trio:
            h = first.p
            for i in range(gelu.LATENCY):
                late = Signal(signed(P_BITS), name=f"p{i + 1}", reset_less=True)
                m.d.sync += late.eq(h)
                h = late
        if self._trio:
            m.submodules.hardswish = hard = hardswish.Hardswish()
            chosen = Signal(signed(hardswish.H_BITS), name="h", reset_less=True)
            m.d.comb += [hard.p.eq(first.p), hard.q3.eq(self.q3), hard.q6.eq(self.q6)]
            m.d.sync += chosen.eq(Mux(self.take_hardswish, hard.h, h) if self._attention else hard.h)
            h = chosen
        m.d.comb += [
            last.h.eq(h),
            *(getattr(last, name).eq(getattr(self, name)) for name in ("residual", "e", "s2", "offset")),
            *(getattr(last, name).eq(getattr(self, name)) for name in ("wide", "narrow")),
            self.low.eq(last.low),
            self.high.eq(last.high),
        ]
        return m
