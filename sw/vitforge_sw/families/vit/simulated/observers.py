"""Ranges of a tensor from calibration: MinMax, EMA, percentile, OMSE. All give (low, high), per channel or for all."""

import dataclasses

import torch

EMA, PERCENTILE = 0.9, 0.9999  #: weight of the past; share of values kept


@dataclasses.dataclass
class Stats:
    """What calibration saw of a tensor (..., C): extremes per channel (C,), their moving averages, some rows (R, C)."""

    low: torch.Tensor
    high: torch.Tensor
    ema_low: torch.Tensor
    ema_high: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def first(cls, x: torch.Tensor) -> "Stats":
        low, high = x.amin(0), x.amax(0)
        return cls(low, high, low.clone(), high.clone(), x[:0])

    def see(self, x: torch.Tensor, keep: int) -> None:
        """Another batch (R, C), of which ``keep`` rows, evenly spaced, are kept."""
        low, high = x.amin(0), x.amax(0)
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.ema_low, self.ema_high = (
            EMA * old + (1 - EMA) * new for old, new in ((self.ema_low, low), (self.ema_high, high))
        )
        self.rows = torch.cat([self.rows, x[:: max(1, len(x) // keep)]])


def _whole(low: torch.Tensor, high: torch.Tensor, channel: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return (low, high) if channel else (low.min(), high.max())


def minmax(stats: Stats, channel: bool, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _whole(stats.low, stats.high, channel)


def ema(stats: Stats, channel: bool, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Moving average of the batches' extremes, x <- 0.9 x + 0.1 new."""
    return _whole(stats.ema_low, stats.ema_high, channel)


def percentile(stats: Stats, channel: bool, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle 99.98 % of the kept values."""
    x = stats.rows if channel else stats.rows.reshape(-1, 1)
    x = x.sort(0).values
    last = len(x) - 1
    low, high = x[round((1 - PERCENTILE) * last)], x[round(PERCENTILE * last)]
    return (low, high) if channel else (low[0], high[0])


def omse(stats: Stats, channel: bool, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """MinMax shrunk by the factor with the least squared error of the kept rows: 1.00, 0.99 ... 0.10 (FQ-ViT)."""
    low, high = minmax(stats, channel, levels)
    low, high = low.clamp(max=0), high.clamp(min=0)
    best = least = None
    for f in torch.linspace(1, 0.1, 46).tolist():
        step = ((high - low) * f / levels).clamp(min=1e-12)
        zero = torch.round(-low * f / step)
        q = (torch.round(stats.rows / step) + zero).clamp(0, levels)
        err = ((q - zero) * step - stats.rows).square()
        err = err.sum(0) if channel else err.sum()
        factor = torch.full_like(low, f)
        better = torch.ones_like(err, dtype=torch.bool) if least is None else err < least
        best = factor if best is None else torch.where(better, factor, best)
        least = err if least is None else torch.where(better, err, least)
    return low * best, high * best


OBSERVERS = {f.__name__: f for f in (minmax, ema, percentile, omse)}
