"""Layers that are added to the residual stream, and the stream's steps."""

import torch

from ....graph.ir import Ref, Role, TensorInfo
from ....quant.scales import search, search_ptf
from ....quant.stream import Act
from .. import lower
from ..frontend import Affine
from .builder import Builder, single, zeros


def stream_format(rows: torch.Tensor, w: torch.Tensor, eight: bool) -> torch.Tensor:
    """Exponents of the residual stream's channels."""
    if eight:
        base, a = search_ptf(rows, w, -128, 127)
        return base + a
    return search(rows, w, -2048, 2047).expand(rows.shape[1])


def residual(
    build: Builder, name: str, role: Role, x: Act, layer: Affine, before: Act, target: torch.Tensor, eight: bool = False
) -> Act:  # fmt: skip
    """A linear layer added to the residual stream: ``target`` is the float stream behind it. ``eight``: written in
    8 bits whatever the scheme's stream (the average over tokens reads it)."""
    eight = eight or build.scheme.residual == "ptf8"
    sample = build.errors_in(target)
    old, hessian = build.stream.real(before), build.hessian(x, sample)
    weight = build.refitted(name, x, layer.weight, hessian, target - old, sample)
    weight, ea = build.weights(name, x, weight, layer.bias, hessian)
    product = build.product(x, weight, ea)
    bias = build.corrected(name, product + old, layer.bias, target, sample)
    h = product.add_(bias)
    n = h.shape[-1]
    out = stream_format(*sample.every(h + old), eight)
    ep = lower.p_exponents(ea, h.flatten(0, 1), out)
    out = lower.coarse_enough(out, ep, before.exponent)
    shifts = lower.shifts_residual(ea, ep, before.exponent, out)
    fmt = "int8" if eight else "int12"
    info = TensorInfo(name, build.tokens, n, fmt, single(out))
    build.linear(name, role, x, weight, bias, ea, shifts, info=info, residual=Ref(before.name))
    return Act(name, out, zeros(n))
