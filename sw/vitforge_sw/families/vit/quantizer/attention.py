"""Attention of one block: for each head k, v, q, scores, softmax, attend."""

import math

import torch

from ....graph.ir import Ref, Role, TensorInfo
from ....ops import Attend, Scores, Softmax
from ....quant.scales import error, quantize, search
from ....quant.stream import Act
from .. import lower
from ..frontend import Affine, FloatBlock, Norm, attention
from ..smoothing import channel_exponents, query_key_exponents
from .builder import Builder, single, zeros


def reach(norm: Norm) -> torch.Tensor:
    """The exponent at which no row can take LayerNorm's output beyond 127 steps: |z| is at most sqrt(C - 1)."""
    c = len(norm.gamma)
    top = float((norm.gamma.abs() * math.sqrt(c - 1) + norm.beta.abs()).max())
    return torch.tensor(math.ceil(math.log2(max(top, 2.0**-20) / 126)), dtype=torch.int32)


def attend_heads(build: Builder, name: str, block: int, b: FloatBlock, x: Act, fq, fk, fv, finer) -> tuple[Act, Affine]:
    """Heads of one block: the attention output, (H * d) channels, and proj with the heads' gains."""
    s, heads, d = build.scheme, b.heads, b.q.weight.shape[0] // b.heads
    hessian = build.hessian(x)
    parts = {}
    for part, layer, target in (("k", b.k, fk), ("v", b.v, fv), ("q", b.q, fq)):
        weight = build.refitted(f"{name}.{part}", x, layer.weight, hessian, target)
        weight, ea = build.weights(f"{name}.{part}", x, weight, layer.bias, hessian)
        product = build.product(x, weight, ea)
        bias = build.corrected(f"{name}.{part}", product, layer.bias, target)
        if part == "k" and s.center_keys and b.k_norm is None:
            bias = -build.sample.mean(product)
        parts[part] = (weight, ea, bias, product.add_(bias))
    tensor = f"{name}.attend"
    build.graph.tensors[tensor] = TensorInfo(tensor, build.tokens, heads * d, "int8")
    exponents = zeros(heads * d)
    for h in range(heads):
        exponents[h * d : (h + 1) * d] = one_head(build, name, block, h, d, x, parts, b, tensor, finer and finer[h])
    build.graph.tensors[tensor] = TensorInfo(tensor, build.tokens, heads * d, "int8", single(exponents))
    att = Act(tensor, exponents, zeros(heads * d))
    exact = attention(*(b.normed(p, parts[p][3]) for p in ("q", "k", "v")), heads, b.scale)
    return att, gained(build, b.proj, att, exact, heads)


def gained(build: Builder, proj: Affine, att: Act, exact: torch.Tensor, heads: int) -> Affine:
    """proj with each head's columns multiplied by the factor that fits the coded attention to the ``exact`` one.

    Both have the integer layers' q, k and v: the factor undoes only what the codes do on average. 4-bit codes that
    are not normalised by their sum (log2 without row factor) are off by a few percent.
    """
    if not build.scheme.attention_gain:
        return proj
    got = build.stream.real(att)
    w = build.sample.weights[..., None]
    weighted = lambda a, b: (a * b * w).sum((0, 1)).view(heads, -1).sum(1)  # noqa: E731
    gain = (weighted(got, exact) / weighted(got, got).clamp(min=1e-12)).clamp(0.75, 1.33)
    return Affine(proj.weight * gain.repeat_interleave(proj.weight.shape[1] // heads), proj.bias)


def one_head(
    build: Builder,
    name: str,
    block: int,
    h: int,
    d: int,
    x: Act,
    parts: dict,
    b: FloatBlock,
    tensor: str,
    finer: int | None,
) -> torch.Tensor:
    s, t, scale = build.scheme, build.tokens, b.scale
    cut = slice(h * d, (h + 1) * d)
    real = {p: build.sample.every(b.normed(p, parts[p][3])[..., cut]) for p in parts}
    w = real["q"][1]
    e = {}
    norms = {"q": b.q_norm, "k": b.k_norm}
    if b.q_norm or b.k_norm:
        e["q"] = search(real["q"][0], w, -128, 127).expand(d)
        e["k"] = search(real["k"][0], w, -127, 127).expand(d) if b.k_norm is None else reach(b.k_norm).expand(d)
    else:
        e["q"], e["k"] = query_key_exponents(real["q"][0], real["k"][0], w, s.query_exponents == "channel")
    if finer is not None:
        e["v"] = torch.full((d,), finer, dtype=torch.int32)
    elif s.value_exponents == "channel":
        e["v"] = channel_exponents(real["v"][0], w, -128, 127)
    else:
        e["v"] = search(real["v"][0], w, -128, 127).expand(d)
    for part in ("k", "v", "q"):
        weight, ea, bias, _ = parts[part]
        node = f"{name}.{part}.h{h}"
        norm = norms.get(part)
        if norm is None:
            e[part] = lower.reachable(ea[cut], e[part])
            _, shifts = lower.shifts_plain(ea[cut], e[part])
            info = TensorInfo(node, t, d, "int8", single(e[part]))
        else:  # LayerNorm reads 12 bits
            raw = search(build.sample.every(parts[part][3][..., cut])[0], w, -2048, 2047)
            shifts = lower.shifts_given_p(ea[cut], torch.maximum(ea[cut], raw), raw)
            info = TensorInfo(node, t, d, "int12", int(raw))
        narrow = part == "k" and norm is None
        build.linear(node, Role(part, block, h), x, weight[cut], bias[cut], ea[cut], shifts, info=info, narrow=narrow)
        if norm is not None:
            normed = f"{name}.{part}_norm.h{h}"
            before = Act(node, raw.expand(d), zeros(d))
            build.norm(normed, Role(f"{part}_norm", block, h), norm, before, e[part], t)
            build.stream.drop(node)
    node, env = f"{name}.scores.h{h}", build.stream.env
    q, k, v = (Ref(f"{name}.{p}{'_norm' if norms.get(p) else ''}.h{h}") for p in ("q", "k", "v"))
    ea = int(e["q"][0] + e["k"][0])
    some = slice(0, min(16, len(env[q.name])))
    acc = env[q.name][some].float() @ env[k.name][some].float().transpose(1, 2)
    es = scores_exponent(acc, ea, scale)
    s1, s2 = lower.scores_shifts(ea, es)
    role = Role("scores", block, h)
    scores = Scores(name=node, out=Ref(node), role=role, q=q, k=k, s1=s1, s2=s2)
    build.stream.add(scores, TensorInfo(node, t, t, "int8", es))
    c, sc = lower.softmax_constants(scale, es)
    soft = f"{name}.softmax.h{h}"
    role = Role("softmax", block, h)
    softmax = Softmax(name=soft, out=Ref(soft), role=role, x=Ref(node), rule=s.rule, c=c, sc=sc)
    build.stream.add(softmax, TensorInfo(soft, t, t, "code4"))
    # the attention output is an average of values: it may have finer steps than they have
    att = f"{name}.attend.h{h}"
    out = Ref(tensor, h * d, d)
    if finer is None:
        finer = average_steps(acc * (2.0**ea * scale), env[v.name][some])
    else:
        finer = -finer
    shift = lower.attend_shift(0, finer, s.row_factor)
    role = Role("attend", block, h)
    build.stream.add(Attend(
        name=att, out=out, role=role, codes=Ref(soft), v=v, rule=s.rule, shift=shift, factor=s.row_factor
    ))  # fmt: skip
    build.stream.drop(q.name, k.name, v.name, node, soft)
    return e["v"] + finer


def average_steps(scores: torch.Tensor, v: torch.Tensor) -> int:
    steps = (torch.softmax(scores, -1) @ v.float()).flatten(0, 1)
    even = torch.full((len(steps),), 1 / len(steps))
    errors = {o: float(error(steps, o, -128, 127, even).sum()) for o in (-4, -3, -2, -1, 0)}
    return min(errors, key=errors.get)


def scores_exponent(acc: torch.Tensor, ea: int, scale: float) -> int:
    """The exponent of int8 scores with the least error of the softmax's output."""
    x = acc * (2.0**ea)
    want = torch.softmax(x * scale, -1)
    first = int(torch.floor(torch.log2(x.abs().max().clamp(min=1e-6) / 127)))
    best = None
    for e in range(max(ea, first - 2), max(ea, first + 1) + 1):
        got = torch.softmax(quantize(x, e, -128, 127) * (2.0**e * scale), -1)
        err = float((got - want).square().mean())
        if best is None or err < best[0]:
            best = (err, e)
    return best[1]
