"""A LayerNorm's output steps, folded into the LayerNorm and the layers behind it."""

from collections.abc import Sequence

import torch

from ....quant.weights import FEW
from ..frontend import Affine, Norm
from ..smoothing import smooth_linear, smooth_steps
from .builder import Builder, zeros


def smoothed(build: Builder, name: str, y: torch.Tensor, norm: Norm, layers: Sequence[Affine]):
    """(exponents of the LayerNorm's output, LayerNorm, layers behind it) for float outputs y (B, T, C)."""
    s = build.scheme
    if y.shape[1] != build.tokens:  # the classifier's input
        x = y.flatten(0, 1)
        w = torch.full((len(x),), 1 / len(x))
    else:
        x, w = build.sample.rows(y), build.sample.w
    stacked = torch.cat([layer.weight for layer in layers])
    if s.smoothing_factors != "real":
        linear = s.smoothing_factors == "pot_linear"
        return smooth_linear(x, w, stacked, s.smoothing, -128, 127, s.bits(name), linear=linear), norm, layers
    few = s.octaves and s.bits(name) <= FEW
    step, centre = smooth_steps(x, w, stacked, s.smoothing, -128, 127, s.bits(name), few)
    folded = tuple(Affine(a.weight * step, a.bias + a.weight @ centre) for a in layers)
    return zeros(len(step)), Norm(norm.gamma / step, (norm.beta - centre) / step, norm.eps), folded
