"""LiteMLA: q, k, v, the multi-scale branches, Z and Ksum, and the division.

Scales of attention. Per head, step_q[d] * step_k[d] must be one constant, which cancels in the division; so does every
common factor of q and k. Integers: Ksum8 = mK sum k, Z8[d, e] = mZ[e] sum k v, output y = D / d * 2^(8 - shift) with
D = q Z8, d = q Ksum8. Hence step_out[e] = step_v[e] * mK / mZ[e] * 2^(shift - 8): it folds into the projection.
"""

import torch

from ...golden.linear_attention import divisor_log2, split_heads
from ...graph.ir import Ref, Role, TensorInfo
from ...ops import KeyValue, LinearAttention, TokenSum
from . import lower
from .balance import balance
from .builder import Act, Builder
from .formats import channel_range
from .frontend import LiteMLA
from .weights import QMAX

V_DEPTH = 7  #: finest steps of v: 2^-7 of the layer's
LOG2_GAIN = 8 / 9  #: what a log2 code stands for, in units of 2^-r


def qkv_steps(b: Builder, h: torch.Tensor, heads: int, branch: bool) -> torch.Tensor:
    """Steps (3 C,) of a tensor q | k | v; ``branch``: only the attention reads it, so negative q and k do not count."""
    lo, hi = channel_range(h)
    top = torch.maximum(lo.abs(), hi)
    top = top.clamp(min=max(float(top.max()) * 2.0**-10, 1e-9))
    c = len(top) // 3
    if b.scheme.attention_scales != "channel":
        m = torch.zeros_like(top)
        if b.scheme.attention_scales == "head":
            m[2 * c :] = torch.floor(torch.log2(top.max() / top[2 * c :])).clamp(max=V_DEPTH)
        return top.max() / QMAX * 2.0**-m
    u = balance(*(split_heads(t.flatten(1, 2), heads) for t in h.chunk(3, -1)), branch)
    q, k = (hi if branch else top)[: 2 * c].clamp(min=1e-9).view(2, heads, -1)
    # q_d / u_d and k_d * u_d: one step each serves all channels of a head
    q, k = ((t.amax(1, keepdim=True) / QMAX) for t in (q / u, k * u))
    return torch.cat([(q * u).flatten(), (k / u).flatten(), top[2 * c :] / QMAX])


def middle_act(b: Builder, name: str, h: torch.Tensor) -> Act:
    """Between a branch's depthwise and grouped layers."""
    lo, hi = channel_range(h)
    if b.scheme.attention_scales == "channel":
        centre = (hi + lo) / 2
        half = torch.maximum((hi - lo) / 2, centre.abs())  # a zero-point has 8 bits
        step = half.clamp(min=max(float(half.max()) * 2.0**-10, 1e-9)) / QMAX
        return Act(name, step, -(centre / step).round())
    step = (torch.maximum(lo.abs(), hi).max() / QMAX).expand_as(hi)
    return Act(name, step, 0 * step)


def attend_branch(b: Builder, name: str, index: int, x: Act, block: LiteMLA, float_out: torch.Tensor) -> torch.Tensor:
    """Ksum, Z and the attention of one q | k | v tensor into slice ``index`` of the output; its steps (C,)."""
    s, c, heads, env = b.scheme, block.channels, block.heads, b.stream.env
    tensor = f"{name}.attend"
    dim = block.dim
    q, k, v = (Ref(x.name, i * c, c) for i in range(3))
    key, value = b.stream.get(k).clamp(min=0).float(), b.stream.get(v).float()
    ones = torch.ones(c, dtype=torch.float64)
    top_k = key.sum(1).amax(0).double().clamp(min=1)
    z = split_heads(key, heads).transpose(-1, -2) @ split_heads(value, heads)  # (B, heads, dim, dim)
    top_z = z.abs().amax((0, 2)).flatten().double().clamp(min=1)
    if s.attention_scales == "layer":
        top_k, top_z = top_k.max() * ones, top_z.max() * ones
    else:
        top_k = top_k.view(heads, dim).amax(1, keepdim=True).expand(heads, dim).flatten()
    tops = b.keep(f"{tensor}{index}.tops", lambda: (top_k, top_z))
    where = dict(block=block.qkv.role.block, branch=index)
    kinds = (("ksum", TokenSum, dict(x=k, keys=True), 1), ("kv", KeyValue, dict(k=k, v=v, heads=heads), dim))
    factors = []
    for (part, kind, refs, rows), top in zip(kinds, tops, strict=True):
        node = f"{name}.{part}{index}"
        scale = {f: torch.from_numpy(v) for f, v in lower.scaled(node, QMAX / top).items()}
        factors.append(scale["m1"].double() * 2.0 ** (scale["eh"] - scale["s1"]).double())
        bias = lower.to_int(0 * ones)
        scale = {f: v.numpy() for f, v in scale.items()}
        fields = lower.plain_fields(c) | dict(bias=bias, narrow=True, **scale)
        made = kind(name=node, out=Ref(node), role=Role(part, **where), **refs, **fields)
        b.add(made, Act(node, 1 / factors[-1], 0 * ones), rows)
    ksum, kv = f"{name}.ksum{index}", f"{name}.kv{index}"
    heads_of = lambda t: split_heads(t.float(), heads)  # noqa: E731
    divisor = heads_of(b.stream.get(q).clamp(min=0)) @ heads_of(env[ksum]).transpose(-1, -2)
    largest = b.keep(f"{tensor}{index}.divisor", lambda: divisor.max().long().clamp(min=1))
    unit = x.step[2 * c :] * factors[0] / factors[1]  # the value of D / d
    m1, s1 = 1, 0
    if s.divisors == "uniform8":
        m1, s1 = (int(i[0]) for i in lower.dyadic(name, 255 / largest.double()[None], top=lower.M1_TOP - 1))
        unit = unit * m1 * 2.0**-s1
    log2 = s.divisors == "log2"
    top = float_out.abs().flatten(0, -2).amax(0).double().clamp(min=1e-9)
    need = torch.log2(top / QMAX / unit)
    if s.attention_scales == "layer":
        need = need.max().expand_as(need)
    shift = (torch.ceil(need - 0.02) + (7 if log2 else 8)).clamp(0, 31)
    node = LinearAttention(
        name=f"{tensor}{index}", out=Ref(tensor, index * c, c), role=Role("attend", **where), q=q, z=Ref(kv),
        ksum=Ref(ksum), heads=heads, rule=s.divisors,
        lo=max(0, int(divisor_log2(largest)) - 15) if log2 else 0, shift=lower.to_int(shift), m1=m1, s1=s1,
    )  # fmt: skip
    y = b.stream.add(node)[..., index * c : (index + 1) * c].double()
    steps = unit * 2.0 ** (shift - (7 if log2 else 8))
    if log2 and s.divisor_gain == "8/9":
        steps = steps * LOG2_GAIN
    elif log2 and s.divisor_gain == "head":  # least squares against the exact division of the same integers
        dividend = heads_of(b.stream.get(q).clamp(min=0)) @ heads_of(env[kv])
        exact = (dividend / divisor.clamp(min=1)).transpose(1, 2).flatten(2).double() * unit
        y = y * steps
        fit = lambda t: t.sum((0, 1)).view(heads, dim).sum(1, keepdim=True).expand(heads, dim).flatten()  # noqa: E731
        gain = fit(y * exact) / fit(y * y).clamp(min=1e-30)
        steps = steps * b.keep(f"{tensor}{index}.gain", lambda: gain)
    b.stream.drop(ksum, kv)
    return steps


def attention(b: Builder, x: Act, block: LiteMLA, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
    """Everything before the projection: (Act (pixels, branches * C), float output)."""
    name, heads = block.name, block.heads
    f_scales = [block.qkv.before(fx)]
    p = b.product(x, block.qkv, f_scales[0])
    step = b.keep(f"{block.qkv.name}.step", qkv_steps, b, p.h, heads, False)
    parts = [b.conv_node(p, x, Act(block.qkv.name, step, 0 * step), step, narrow=True)]
    info = b.graph.tensors[block.qkv.name]
    for depth, point in block.branches:
        f_depth = depth.before(f_scales[0])
        f_scales.append(point.before(f_depth))
        p = b.product(parts[0], depth, f_depth)
        middle = b.keep(f"{depth.name}.act", middle_act, b, depth.name, p.h)
        b.conv_node(p, parts[0], middle, middle.step, offset=lower.to_int(middle.zero))
        p = b.product(middle, point, f_scales[-1])
        step = b.keep(f"{point.name}.step", qkv_steps, b, p.h, heads, True)
        parts.append(b.conv_node(p, middle, Act(point.name, step, 0 * step), step, narrow=True))
        b.stream.drop(middle.name)
    tensor, c = f"{name}.attend", block.channels
    b.graph.tensors[tensor] = TensorInfo(tensor, info.tokens, c * len(parts), "int8", None, 0, info.height, info.width)
    f_out, steps = [], []
    for i, (part, f_scale) in enumerate(zip(parts, f_scales, strict=True)):
        f_out.append(block.attend(f_scale))
        steps.append(attend_branch(b, name, i, part, block, f_out[-1]))
        b.stream.drop(part.name)
    out = Act(tensor, torch.cat(steps), torch.zeros(c * len(parts), dtype=torch.float64))
    b.describe(out)
    return out, torch.cat(f_out, -1)
