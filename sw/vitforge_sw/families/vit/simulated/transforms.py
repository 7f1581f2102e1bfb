"""What moves scale between a layer's input and its weights: nothing, PTF, SmoothQuant, RepQ-ViT.

A transform gives (the input's grid, factors (C,) for the columns of the layers behind before these are rounded).
"""

import torch

from .grids import Grid, grid
from .observers import OBSERVERS, Stats

Found = tuple[Grid, torch.Tensor | None]


def none(stats: Stats, weight: torch.Tensor, bits: int, observer: str, symmetric: bool) -> Found:
    return grid(*OBSERVERS[observer](stats, False, (1 << bits) - 1), bits, symmetric), None


def ptf(stats: Stats, weight: torch.Tensor, bits: int, observer: str, symmetric: bool) -> Found:
    """FQ-ViT's power-of-two factor: s1 = s8 / 8, a_c in 0..3 per channel by L2 error, one zero-point."""
    whole = grid(*OBSERVERS[observer](stats, False, (1 << bits) - 1), bits, symmetric)
    tries = [Grid(whole.scale / 2.0**k, whole.zero, whole.low, whole.high) for k in (3, 2, 1, 0)]
    errors = torch.stack([(g(stats.rows) - stats.rows).square().sum(0) for g in tries])
    return Grid(whole.scale / 8 * torch.exp2(errors.argmin(0).float()), whole.zero, whole.low, whole.high), None


def smoothquant(stats: Stats, weight: torch.Tensor, bits: int, observer: str, symmetric: bool, alpha=0.5) -> Found:
    """s = max|X|^a / max|W|^(1-a): X / s is quantized with one scale, W s rounded; s is folded into LayerNorm."""
    top = torch.maximum(stats.high, -stats.low).clamp(min=1e-9)
    s = top**alpha / weight.abs().amax(0).clamp(min=1e-9) ** (1 - alpha)
    smooth = Stats(*(x / s for x in (stats.low, stats.high, stats.ema_low, stats.ema_high, stats.rows)))
    g, _ = none(smooth, weight, bits, observer, symmetric)
    return Grid(g.scale * s, g.zero.expand_as(s), g.low, g.high), s


def repq(stats: Stats, weight: torch.Tensor, bits: int, observer: str, symmetric: bool) -> Found:
    """RepQ-ViT: scales and zero-points per channel, made layer-wise: r = s / mean s goes into the columns."""
    g = grid(*OBSERVERS[observer](stats, True, (1 << bits) - 1), bits, symmetric)
    return g, g.scale / g.scale.mean()


TRANSFORMS = {f.__name__: f for f in (none, ptf, smoothquant, repq)}
