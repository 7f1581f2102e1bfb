"""Codes of attention probabilities (and of GELU's output): log2, log-sqrt2, adaptive logarithm base, twin uniform."""

import torch

from .observers import Stats


def log2(p: torch.Tensor, bits: int) -> torch.Tensor:
    """FQ-ViT, P2-ViT: q = clip(round(-log2 p), 0, 2^b - 1), value 2^-q, the last code 0."""
    top = (1 << bits) - 1
    q = torch.round(-torch.log2(p.clamp(min=1e-30))).clamp_(0, top)
    return torch.where(q == top, 0.0, torch.exp2(-q))


def log_base(p: torch.Tensor, bits: int, step: float, largest: float = 1.0) -> torch.Tensor:
    """q = clip(round(-log2(p / D) / step)), value D 2^(-q step): a logarithm of base 2^step."""
    top = (1 << bits) - 1
    q = torch.round(-torch.log2((p / largest).clamp(min=1e-30)) / step)
    return torch.where(q >= top, 0.0, largest * torch.exp2(-q.clamp(0, top) * step))


def log_sqrt2(p: torch.Tensor, bits: int, largest: float = 1.0) -> torch.Tensor:
    """RepQ-ViT: q = round(-2 log2(p / D)), value D 2^-ceil(q / 2) (1 + (q mod 2)(sqrt2 - 1))."""
    top = (1 << bits) - 1
    q = torch.round(-2 * torch.log2((p / largest).clamp(min=1e-30)))
    value = largest * torch.exp2(-torch.ceil(q / 2)) * (1 + (q % 2) * (2**0.5 - 1))
    return torch.where(q >= top, 0.0, value)


def adaptive_base(stats: Stats, bits: int) -> float:
    """AdaLog: the step of the logarithm (base 2^step) with the least squared error of the kept rows."""
    steps = [k / 16 for k in range(6, 33)]
    return min(steps, key=lambda s: float((log_base(stats.rows, bits, s) - stats.rows).square().sum()))


def twin(x: torch.Tensor, bits: int, small: torch.Tensor, large: torch.Tensor, negative: bool) -> torch.Tensor:
    """PTQ4ViT's twin uniform: one bit says which of two ranges, each with 2^(b-1) levels and a step of its own.

    ``negative`` (GELU): the ranges are the negative and the positive values; else values below 2^(b-1) steps ``small``
    and those up to 2^(b-1) steps ``large``.
    """
    half = 1 << bits - 1
    fine, coarse = (torch.round(x / step).clamp(-half, half - 1) * step for step in (small, large))
    return torch.where(x < 0 if negative else x < (half - 0.5) * small, fine, coarse)


def twin_steps(stats: Stats, bits: int, negative: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(step of the small, of the large range): they differ by a power of two, the least squared error of the rows."""
    half = 1 << bits - 1
    large = stats.high.max().clamp(min=1e-12) / (half - 1)
    tries = [large * 2.0**-k for k in range(0, 13)]
    error = lambda small: float((twin(stats.rows, bits, small, large, negative) - stats.rows).square().sum())  # noqa: E731
    return min(tries, key=error), large
