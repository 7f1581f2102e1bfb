"""Convolution layers of EfficientViT: Hardswish layers, residual layers, and the stream's scales within a stage."""

import dataclasses
import math

import torch
from torch.nn import functional as F

from ...graph.ir import Ref
from . import lower
from .builder import Act, Builder
from .formats import Format, channel_range, depthwise, shifted, symmetric
from .frontend import Conv
from .weights import QMAX, SLACK, factor_exponents

PW2_DEPTH, STREAM_DEPTH, HEAD_DEPTH = 1, 2, 4  #: deepest factors 2^-d


def hardswish_layer(
    b: Builder,
    x: Act,
    conv: Conv,
    fx: torch.Tensor,
    reader: str,
    after: torch.Tensor | None = None,
    plain: bool = False,
) -> tuple[Act, torch.Tensor]:
    """conv and Hardswish; ``reader``: depthwise | pointwise | pool, with its weights ``after``. (Act, float output).

    ``plain``: the output also feeds a residual, so its factors must be powers of two.
    """
    s = b.scheme
    fh = conv.before(fx)
    p = b.product(x, conv, fh)

    def chosen() -> Format:
        y = F.hardswish(p.h)
        if reader == "depthwise":
            migration = "pot" if plain and s.migration in ("exact", "channel") else s.migration
            return depthwise(y, migration, s.depthwise_zero_point)
        if reader == "pool":
            return shifted(y, after, HEAD_DEPTH) if s.head_zero_points else symmetric(y)
        if s.shifting or s.pw2_factors:
            return shifted(y, after, PW2_DEPTH if s.pw2_factors else 0, s.shifting)
        return symmetric(y)

    fmt = b.keep(f"{conv.name}.format", chosen)
    if conv.name in b.learned:
        fmt = dataclasses.replace(fmt, base=fmt.base * b.learned[conv.name].factor)
    act = hardswish_node(b, p, x, fmt)
    return act, F.hardswish(fh)


def hardswish_node(b: Builder, p, x: Act, fmt: Format) -> Act:
    name = p.conv.name
    hs = lower.hardswish(name, fmt.base, float(p.h.max()), float(p.step.max()) / lower.FACTOR_TOP)
    fmt = fmt.within(-hs.k, 31 - hs.k)
    step, zero = fmt.steps(hs.step), fmt.zeros(hs.step)
    post = dict(act="hardswish", q3=hs.q3, q6=hs.q6, offset=lower.to_int(zero))
    if fmt.exponents is None:
        post["m2"], post["s2"] = lower.dyadic(name, hs.h_step / step, 31, lower.M1_TOP - 1)
    else:
        post["s2"] = lower.to_int(hs.k + fmt.exponents)
    return b.conv_node(p, x, Act(name, step, zero), torch.tensor(hs.p_step, dtype=torch.float64), **post)


# ---------------------------------------------------------------- the residual stream


def stream_base(tops: list[float]) -> float:
    """The step of a stage's stream up to a power of two: least waste over its tensors' largest values."""
    best = None
    for i in range(64):
        t = 2.0 ** (i / 64)
        waste = 0.0
        for top in tops:
            need = math.log2(max(top, 1e-12) / QMAX / t)
            waste += 4.0 ** (math.ceil(need - SLACK) - need)
        if best is None or waste < best[0]:
            best = (waste, t)
    return best[1]


def stream_exponents(b: Builder, y: torch.Tensor, base: float, reader: torch.Tensor | None) -> torch.Tensor:
    """Exponents (C,) of the stream's steps relative to ``base``; ``reader``: the next pointwise layer's weights."""
    lo, hi = channel_range(y)
    top = torch.maximum(lo.abs(), hi).clamp(min=1e-12)
    e = torch.full((len(top),), math.ceil(math.log2(float(top.max()) / QMAX / base) - SLACK), dtype=torch.int32)
    if b.scheme.residual_factors and reader is not None:
        reach = QMAX * base * 2.0 ** float(e[0])
        e = e + factor_exponents(reach, top, reader, y.flatten(0, -2).double().square().mean(0), STREAM_DEPTH)
    return e


def stream_layer(
    b: Builder,
    x: Act,
    conv: Conv,
    fx: torch.Tensor,
    base: float,
    reader: torch.Tensor | None,
    before: Act | None = None,
    f_before: torch.Tensor | None = None,
) -> tuple[Act, torch.Tensor]:
    """A linear pointwise layer that writes the stream, or adds to the stream ``before``. (Act, float output)."""
    target = conv.before(fx)
    if before is None:
        p = b.product(x, conv, target)
        e = stream_exponents(b, p.h, base, reader)
        step = base * 2.0 ** e.double()
        return b.conv_node(p, x, Act(conv.name, step, torch.zeros_like(step)), step), target
    target = target + f_before
    old = b.real(before)
    p = b.product(x, conv, target - old)
    ey = stream_exponents(b, p.h + old, base, reader)
    er = torch.log2(before.step / base).round().int()
    # the stream's zero-point is a constant of the sum: it goes into the bias
    constant = -before.zero * before.step
    p.bias = p.bias + constant
    lo, hi = channel_range(p.h + constant.float())
    top = torch.maximum(lo.abs(), hi).clamp(min=1e-12) * 1.02
    ep = torch.ceil(torch.log2(top / lower.P_TOP / base)).int()
    ep = torch.minimum(torch.maximum(ep, torch.minimum(ey, er) - 10), ey + 4)
    shifts = lower.residual_shifts(conv.name, ep, er, ey)
    out = Act(conv.name, base * 2.0 ** ey.double(), torch.zeros(len(ey), dtype=torch.float64))
    b.conv_node(p, x, out, base * 2.0 ** ep.double(), residual=Ref(before.name), **shifts)
    return out, target
