"""Uniform grids: scale and zero-point per tensor, channel or group of channels; symmetric or asymmetric."""

import dataclasses

import torch

GROUP = 8  #: groups of channels of the granularity "group": ranges sorted and cut into so many (PEG-PTQ, 2109.12948)


@dataclasses.dataclass
class Grid:
    """x to (clamp(round(x / scale) + zero, low, high) - zero) * scale; scale and zero broadcast over (..., C)."""

    scale: torch.Tensor
    zero: torch.Tensor
    low: int
    high: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        q = torch.round(x / self.scale).add_(self.zero).clamp_(self.low, self.high)
        return q.sub_(self.zero).mul_(self.scale)


def grid(low: torch.Tensor, high: torch.Tensor, bits: int, symmetric: bool) -> Grid:
    """The grid of ``bits`` over a range: symmetric about 0, or with a zero-point, 0 always on the grid."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        top = (1 << bits - 1) - 1
        scale = torch.maximum(-low, high).clamp(min=1e-12) / top
        return Grid(scale, torch.zeros_like(scale), -top - 1, top)
    levels = (1 << bits) - 1
    scale = (high - low).clamp(min=1e-12) / levels
    return Grid(scale, torch.round(-low / scale), 0, levels)


def grouped(low: torch.Tensor, high: torch.Tensor, groups: int = GROUP) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranges (C,) widened to those of their group; groups of channels with alike ranges, of equal size."""
    order = torch.argsort(high - low)
    out_low, out_high = low.clone(), high.clone()
    for part in order.tensor_split(groups):
        if len(part):
            out_low[part], out_high[part] = low[part].min(), high[part].max()
    return out_low, out_high


def weight_grid(weight: torch.Tensor, bits: int, granularity: str) -> Grid:
    """Symmetric, of a matrix (N, K): one scale a row (channel), eight a row (group), or one (tensor)."""
    top = (1 << bits - 1) - 1
    if granularity == "tensor":
        scale = weight.abs().max()
    elif granularity == "channel":
        scale = weight.abs().amax(1, keepdim=True)
    else:
        n, k = weight.shape
        size = k // GROUP
        scale = weight.abs().view(n, GROUP, size).amax(2).repeat_interleave(size, 1)
    scale = scale.clamp(min=1e-12) / top
    return Grid(scale, torch.zeros_like(scale), -top, top)
