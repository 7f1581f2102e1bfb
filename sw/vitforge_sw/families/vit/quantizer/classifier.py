"""The last LayerNorm and the classifier: on the class token, two of them on two tokens, or on the tokens' average."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from ....graph.ir import Ref, Role, TensorInfo
from ....ops import Attend, Softmax
from ....quant.scales import pot, search
from ....quant.stream import Act
from .. import lower
from ..frontend import Affine, layer_norm
from .builder import Builder, single, zeros
from .smooth import smoothed

POOL_ROOM = 1.3  #: averages of other images may exceed the calibration images' by this factor


def halved(layer: Affine) -> Affine:
    return Affine(layer.weight / 2, layer.bias / 2)


def classify(build: Builder, x: Act, fx: torch.Tensor) -> None:
    """LayerNorm and classifier on token 0; of a distilled model half of it, added to half of the one on token 1."""
    vit = build.vit
    if vit.pool != "token":
        return classify_average(build, x, fx)
    layers = [vit.head] if vit.head_dist is None else [halved(vit.head), halved(vit.head_dist)]
    n = layer_norm(fx[:, : len(layers)], vit.norm)
    want = [F.linear(n[:, i : i + 1], layer.weight, layer.bias) for i, layer in enumerate(layers)]
    e, norm, layers = smoothed(build, "head", n, vit.norm, layers)
    y = build.norm("norm", Role("norm"), norm, x, e, len(layers))
    before = classifier(build, "head_dist", y, layers[1], want[1], token=1) if len(layers) > 1 else None
    classifier(build, "head", y, layers[0], want[0], before=before)


def classify_average(build: Builder, x: Act, fx: torch.Tensor) -> None:
    """The average over tokens before LayerNorm or behind it, and the classifier."""
    vit = build.vit
    n = vit.pooled(fx)
    if vit.pool == "before":
        e, norm, (head,) = smoothed(build, "head", n, vit.norm, [vit.head])
        y = build.norm("norm", Role("norm"), norm, average(build, x), e, 1)
    else:
        e, norm, (head,) = smoothed(build, "head", layer_norm(fx, vit.norm), vit.norm, [vit.head])
        y = average(build, build.norm("norm", Role("norm"), norm, x, e, build.tokens))
    classifier(build, "head", y, head, F.linear(n, vit.head.weight, vit.head.bias))


def average(build: Builder, x: Act) -> Act:
    """The average over tokens of an int8 tensor: attention with the weight 1 for every token that counts, head by
    head; it may have finer steps than the tokens."""
    vit, c, heads = build.vit, len(x.exponent), build.vit.blocks[0].heads
    row = np.zeros((1, build.tokens), np.int8)
    row[0, : 0 if vit.pool_prefix else vit.prefix] = -128
    build.graph.constants["pool.scores"] = row
    build.graph.tensors["pool.scores"] = TensorInfo("pool.scores", 1, build.tokens, "int8", 0)
    top = float((vit.average(build.stream.real(x)) * pot(-x.exponent)).abs().max())
    finer = max(-4, math.ceil(math.log2(max(top, 1e-6) * POOL_ROOM / 127)))
    exponents = x.exponent + min(finer, 0)
    build.graph.tensors["pool"] = TensorInfo("pool", 1, c, "int8", single(exponents))
    d = c // heads
    for h in range(heads):
        codes, cut = f"pool.softmax.h{h}", (h * d, d)
        build.stream.add(Softmax(
            name=codes, out=Ref(codes), role=Role("pool.softmax", head=h), x=Ref("pool.scores"), rule="maxrel",
            c=(1 << 10) - 1, sc=0,
        ), TensorInfo(codes, 1, build.tokens, "code4"))  # fmt: skip
        build.stream.add(Attend(
            name=f"pool.attend.h{h}", out=Ref("pool", *cut), role=Role("pool.attend", head=h), codes=Ref(codes),
            v=Ref(x.name, *cut), rule="maxrel", shift=lower.attend_shift(0, min(finer, 0), True), factor=True,
        ))  # fmt: skip
    return Act("pool", exponents, zeros(c))


def classifier(
    build: Builder, name: str, y: Act, layer: Affine, want: torch.Tensor, token: int = 0, before: Act | None = None
) -> Act:  # fmt: skip
    """Logits (12 bits) of one token, added to those ``before``; ``want`` (B, 1, N): in float."""
    hessian, weight = build.hessian(y), layer.weight
    if build.stream.env[y.name].shape[1] == 1:
        weight = build.refitted(name, y, weight, hessian, want)
    weight, ea = build.weights(name, y, weight, layer.bias, hessian)
    product = build.product(y, weight, ea)[:, token : token + 1]
    bias = build.corrected(name, product, layer.bias, want)
    part = product.add_(bias)
    logits = part[:, 0] if before is None else (part + build.stream.real(before))[:, 0]
    out = search(logits, torch.full((len(want),), 1 / len(want)), -2048, 2047, least=int(ea.max()))
    more: dict = dict(token_offset=token)
    if before is None:
        shifts = lower.shifts_given_p(ea, out, out)
    else:
        out = torch.maximum(out, before.exponent.max())
        ep = lower.p_exponents(ea, part.flatten(0, 1), out)
        shifts = lower.shifts_residual(ea, ep, before.exponent, out)
        more["residual"] = Ref(before.name)
    info = TensorInfo(name, 1, len(ea), "int12", int(out))
    build.linear(name, Role(name), y, weight, bias, ea, shifts, info=info, **more)
    return Act(name, out.expand(len(ea)), zeros(len(ea)))
