"""The walk through the model, block by block: float stream and integer stream side by side."""

import dataclasses

import torch
from torch.nn import functional as F

from ....graph.ir import Graph, Role
from ....progress import steps
from ....quant.stream import Act
from ..frontend import Affine, FloatBlock, attention, layer_norm
from ..outliers import stream_outliers
from ..rotation import mixing, rotate
from ..values import value_steps
from .attention import attend_heads
from .builder import Builder
from .classifier import classify
from .embed import embed
from .mlp import rectified, tensor_step, unit_steps
from .reconstruct import reconstruction, summary
from .residual import residual
from .smooth import smoothed
from .suited import suited_queries, suited_values


def attention_part(build: Builder, i: int, b: FloatBlock, x: Act, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
    """LayerNorm, attention and proj of block ``i``: the stream behind them, integer and float."""
    name, s, rebuild = f"blocks.{i}", build.scheme, reconstruction(build)
    n1 = layer_norm(fx, b.norm1)
    e1, norm1, (bq, bk, bv) = smoothed(build, f"{name}.attn.q", n1, b.norm1, (b.q, b.k, b.v))
    q, k, v = (F.linear(n1, a.weight, a.bias) for a in (b.q, b.k, b.v))
    y = build.norm(f"{name}.norm1", Role("norm1", i), norm1, x, e1, build.tokens)
    fa = attention(b.normed("q", q), b.normed("k", k), v, b.heads, b.scale)
    folded, finer = dataclasses.replace(b, q=bq, k=bk, v=bv), None
    if s.value_exponents == "real":
        step, finer = value_steps(v, fa, b.proj.weight, b.heads)
        step = suited_values(build, name, y, bv, b, step, v, fa)
        v = v / step
        folded.v = Affine(bv.weight / step[:, None], bv.bias / step)
        folded.proj = Affine(b.proj.weight * step, b.proj.bias)
    folded, factor = suited_queries(build, name, y, folded, q, k)
    q, k = q * factor, k / factor
    att, proj = attend_heads(build, f"{name}.attn", i, folded, y, q, k, v, finer)
    fx = fx + F.linear(fa, b.proj.weight, b.proj.bias)
    last = i == len(build.vit.blocks) - 1
    if last and s.last_share is not None and build.vit.pool == "token":
        build.sample.set_share(s.last_share, build.tokens)
    middle = residual(build, f"{name}.attn.proj", Role("attn.proj", i), att, proj, x, fx)
    rebuild(f"{name}.attn", middle, fx)
    build.stream.drop(x.name, y.name, att.name)
    return middle, fx


def mlp_part(build: Builder, i: int, b: FloatBlock, x: Act, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
    """LayerNorm, fc1 with its activation and fc2 of block ``i``: the stream behind them, integer and float."""
    name, rebuild = f"blocks.{i}", reconstruction(build)
    n2 = layer_norm(fx, b.norm2)
    e2, norm2, (fc1,) = smoothed(build, f"{name}.mlp.fc1", n2, b.norm2, (b.fc1,))
    y = build.norm(f"{name}.norm2", Role("norm2", i), norm2, x, e2, build.tokens)
    f1 = F.linear(n2, b.fc1.weight, b.fc1.bias)
    fx = fx + F.linear(b.activation(f1), b.fc2.weight, b.fc2.bias)
    role, fc2 = Role("mlp.fc1", i), b.fc2
    if b.act == "relu":
        hidden = rectified(build, f"{name}.mlp.fc1", role, y, fc1, f1)
    elif build.scheme.hidden_steps == "unit":
        hidden, fc2 = unit_steps(build, f"{name}.mlp", i, y, fc1, b, n2, fx)
    else:
        hidden = tensor_step(build, f"{name}.mlp.fc1", role, y, fc1, f1)
    last = i == len(build.vit.blocks) - 1
    eight = last and build.vit.pool == "before"
    out = residual(build, f"{name}.mlp.fc2", Role("mlp.fc2", i), hidden, fc2, x, fx, eight)
    rebuild(f"{name}.mlp", out, fx)
    build.stream.drop(x.name, y.name, hidden.name)
    return out, fx


@torch.inference_mode()
def quantize_network(build: Builder, progress: bool = True) -> Graph:
    """The integer graph of the builder's float model."""
    from ....models.images import patches_to_float

    build.progress = progress
    pixels = torch.from_numpy(patches_to_float(build.stream.env["input"].numpy(), build.image))
    size = build.image.patch_size
    fx = build.vit.embedding(F.unfold(pixels, size, stride=size).transpose(1, 2))
    del pixels
    if build.scheme.rotation == "mixing":
        build.notes += [f"{note}; spread by the rotation" for note in stream_outliers(build.vit, fx)]
        r = mixing(build.vit.channels)
        build.vit, fx = rotate(build.vit, r), (fx.double() @ r).float()
    x = embed(build, fx)
    for i, b in enumerate(steps(build.vit.blocks, "blocks", progress)):
        x, fx = attention_part(build, i, b, x, fx)
        x, fx = mlp_part(build, i, b, x, fx)
    classify(build, x, fx)
    build.notes += summary(build)
    build.graph.meta["treated"] = build.notes
    return build.graph
