"""Patch embedding of the bytes; position embedding and prefix tokens as the addend."""

import numpy as np
import torch
from torch.nn import functional as F

from ....graph.ir import Ref, Role, TensorInfo
from ....quant.scales import quantize, scaled
from ....quant.stream import Act, split_moment
from .. import lower
from .builder import Builder, single, zeros
from .residual import stream_format


def embed(build: Builder, target: torch.Tensor) -> Act:
    """Patch embedding of the bytes: mean and standard deviation folded in, position and class token as addend."""
    vit, cfg = build.vit, build.image
    area = cfg.patch_size**2
    std = torch.tensor(cfg.std).repeat_interleave(area) * 255
    centre = (128 / 255 - torch.tensor(cfg.mean).repeat_interleave(area)) * 255 / std
    weight = vit.embed.weight / std
    bias = vit.embed.bias + vit.embed.weight @ centre
    x = Act("input", zeros(weight.shape[1]), zeros(weight.shape[1]))
    q = build.stream.env["input"].float()
    q = q - q.mean((0, 1)) if build.scheme.bias_correction else q
    moments = split_moment(q, torch.full(q.shape[:2], 1 / q[..., 0].numel()))
    weight, ea = build.weights("embed", x, weight, bias, moments)
    product = build.product(x, weight, ea)
    addend, first = vit.addend.clone(), vit.prefix
    if build.scheme.bias_correction:
        bias = (target[:, first:] - addend[first:] - product).mean((0, 1))
    h = product + bias
    build.quality.note("embed", h + addend[first:], target[:, first:])
    out = stream_format(
        *build.errors_in(target).every(F.pad(h, (0, 0, first, 0)) + vit.addend), build.scheme.residual == "ptf8"
    )
    ep = lower.p_exponents(ea, h.flatten(0, 1), out)
    # the prefix tokens' rows have acc = 0 and still get the bias: take its exact contribution off the addend
    b = scaled(bias, -ea).round_()
    p0 = torch.floor(scaled(b, ea - ep) + 0.5).clamp_(-2048, 2047)
    addend[:first] -= scaled(p0, ep)
    e_pos = torch.ceil(torch.log2(addend.abs().max().clamp(min=1e-6) / 32767)).int()
    e_pos = torch.maximum(e_pos, out.min() - lower.P_FINEST)
    table = quantize(addend, e_pos, -32768, 32767)
    n = len(ea)
    build.graph.constants["pos_embed"] = table.numpy().astype(np.int16)
    build.graph.tensors["pos_embed"] = TensorInfo("pos_embed", build.tokens, n, "int16", int(e_pos))
    out = lower.coarse_enough(out, ep, e_pos)
    shifts = lower.shifts_residual(ea, ep, e_pos, out)
    fmt = "int8" if build.scheme.residual == "ptf8" else "int12"
    info = TensorInfo("embed", build.tokens, n, fmt, single(out))
    addend = dict(residual=Ref("pos_embed"), token_offset=-first)
    build.linear("embed", Role("embed"), x, weight, bias, ea, shifts, info=info, **addend)
    return Act("embed", out, zeros(n))
