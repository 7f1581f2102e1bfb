"""Learned rounding (AdaRound, 2004.10568): every integer moves to one of its two neighbours on the grid already chosen.

A weight is base + h with h in 0..1, a rectified sigmoid; a rounding term drives every h to 0 or 1 while a loss of the
layer's, or the block's (BRECQ, 2102.05426), output is trained.
"""

from collections.abc import Callable, Iterable

import torch

BATCH = 32
WARM_UP = 0.2  #: share of the iterations before rounding is enforced
BETA = (20.0, 2.0)  #: exponent of the rounding term, from .. to
ROUNDING = 0.2  #: weight of the rounding term; the first error counts 1
STRETCH = 0.1  #: of the rectified sigmoid beyond 0..1


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Rounded; the gradient passes."""
    return x + (x.round() - x).detach()


class SoftWeights:
    """Integers base + h, h in 0..1, that begin half way between the real weights and the integers made of them."""

    def __init__(self, grid: torch.Tensor, nearest: torch.Tensor, qmax: int):
        """``grid``: real weights in steps, ``nearest``: the integers (by whatever rule); both (N, K)."""
        self.qmax = qmax
        self.base = torch.minimum(torch.maximum(grid.floor(), nearest - 1), nearest).clamp(-qmax, qmax - 1)
        # half way between the real weight and its integer: rounds to that integer
        start = ((grid - self.base).clamp(0, 1) + (nearest - self.base)) / 2
        inner = (start.clamp(0.01, 0.99) + STRETCH) / (1 + 2 * STRETCH)
        self.v = torch.logit(inner).requires_grad_()
        self.soft = torch.empty(0)  # the last call's h

    def h(self) -> torch.Tensor:
        return (torch.sigmoid(self.v) * (1 + 2 * STRETCH) - STRETCH).clamp(0, 1)

    def __call__(self) -> torch.Tensor:
        self.soft = self.h()
        return self.base + self.soft

    @torch.no_grad()
    def learned(self) -> torch.Tensor:
        return (self.base + (self.h() >= 0.5)).clamp(-self.qmax, self.qmax)


def rounding(layers: list[SoftWeights], beta: float) -> torch.Tensor:
    """Of the last calls' h: 0 where every one is 0 or 1, up to 1."""
    terms = [(1 - (2 * layer.soft - 1).abs().pow(beta)).sum() for layer in layers]
    return sum(terms) / sum(layer.v.numel() for layer in layers)


@torch.enable_grad()
def train(
    groups: list[dict],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    layers: list[SoftWeights],
    trained: int,
    iterations: int,
    batch: int = BATCH,
    watch: Callable[[range], Iterable[int]] = iter,
) -> None:
    """Adam on the parameter ``groups``: ``loss_of`` numbers drawn from 0 .. trained - 1; deterministic.

    ``watch``: passes the iterations' numbers on (a progress bar).
    """
    generator = torch.Generator().manual_seed(trained)
    optimizer = torch.optim.Adam([g for g in groups if g["params"]], fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    first = None
    for i in watch(range(iterations)):
        loss = loss_of(torch.randperm(trained, generator=generator)[:batch])
        first = first or max(float(loss.detach()), 1e-20)
        loss = loss / first
        done = (i / iterations - WARM_UP) / (1 - WARM_UP)
        if done >= 0:
            loss = loss + ROUNDING * rounding(layers, BETA[0] + (BETA[1] - BETA[0]) * done)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
