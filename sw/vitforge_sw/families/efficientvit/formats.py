"""Output formats: steps and zero-points of a layer's 8-bit output from its values on the calibration images (MinMax).

Names follow the readers: ``depthwise`` (migration), ``shifted`` (second pointwise layers and pooling), ``symmetric``.
"""

import dataclasses

import torch

from .weights import QMAX, factor_exponents

EXACT_CLIP = (0.1, 64.0)  #: of migration's exact factors, as in the released code


@dataclasses.dataclass
class Format:
    """``step`` = base * factor; ``exponents``: log2 of the factors where they are powers of two, else None.

    ``zeros`` gives the zero-points once the base is final (Hardswish's constants may raise it a little).
    """

    base: float
    exponents: torch.Tensor | None  #: int32 (C,)
    factors: torch.Tensor  #: float64 (C,)
    lowest: torch.Tensor | None = None  #: asymmetric, one zero-point: the real values that -128 stands for are >= this
    centre: torch.Tensor | None = None  #: a zero-point per channel: the value that 0 stands for

    def within(self, least: int, most: int) -> "Format":
        """Powers of two from 2^least (channels with hardly any signal get coarser steps) to 2^most."""
        if self.exponents is None or least <= int(self.exponents.min()) <= int(self.exponents.max()) <= most:
            return self
        e = self.exponents.clamp(least, most)
        return dataclasses.replace(self, exponents=e, factors=2.0 ** e.double())

    def steps(self, base: float) -> torch.Tensor:
        return base * self.factors

    def zeros(self, base: float) -> torch.Tensor:
        """Integer zero-points (C,), float64: value = (q - zero) * step."""
        step = self.steps(base)
        if self.lowest is not None:
            return (-128 - (self.lowest / step).min().round()).expand_as(step)
        if self.centre is not None:
            return -(self.centre / step).round().clamp(-127, 127)
        return torch.zeros_like(step)


def channel_range(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(min, max) per channel over all but the last dimension, float64."""
    flat = y.flatten(0, -2)
    return flat.amin(0).double(), flat.amax(0).double()


def symmetric(y: torch.Tensor) -> Format:
    """One step for the layer, no zero-point."""
    c = y.shape[-1]
    base = float(y.abs().max().clamp(min=1e-12)) / QMAX
    return Format(base, torch.zeros(c, dtype=torch.int32), torch.ones(c, dtype=torch.float64))


def migration_factors(top: torch.Tensor, migration: str) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(exponents, factors) from the channels' largest absolute values: max_i / mean_j(max_j)."""
    top = top.clamp(min=float(top.max()) * 2.0**-10)
    f = top / top.mean()
    if migration == "none":
        return torch.zeros(len(f), dtype=torch.int32), torch.ones_like(f)
    if migration == "pot":
        e = torch.round(torch.log2(f)).int()
        return e, 2.0 ** e.double()
    return None, f.clamp(*EXACT_CLIP) if migration == "exact" else f


def depthwise(y: torch.Tensor, migration: str, zero_point: bool) -> Format:
    """Input of a depthwise layer: channel-wise migration, and one zero-point for the layer."""
    lo, hi = channel_range(y)
    e, f = migration_factors(torch.maximum(lo.abs(), hi), migration)
    if zero_point:
        base = float((hi / f).max() - (lo / f).min().clamp(max=0)) / 255
        return Format(max(base, 1e-12), e, f, lowest=lo.clamp(max=0))
    base = float((torch.maximum(lo.abs(), hi) / f).max()) / QMAX
    return Format(max(base, 1e-12), e, f)


def shifted(y: torch.Tensor, weight: torch.Tensor, deepest: int, shift: bool = True, room: float = 1.0) -> Format:
    """Input of a pointwise layer ``weight`` (N, C): zero-points at the channels' centres (``shift``), factors 2^m.

    ``room``: factor on the channels' ranges where one vector per image makes them uncertain.
    """
    lo, hi = channel_range(y)
    centre = (lo + hi) / 2 if shift else torch.zeros_like(lo)
    # a zero-point has 8 bits: the centre lies within 127 steps
    half = torch.maximum(torch.maximum(hi - centre, centre - lo), centre.abs()).clamp(min=1e-12) * room
    moment = (y.flatten(0, -2).double() - centre).square().mean(0)
    base = float(half.max()) / QMAX
    e = factor_exponents(base * QMAX, half, weight, moment, deepest)
    return Format(base, e, 2.0 ** e.double(), centre=centre if shift else None)
