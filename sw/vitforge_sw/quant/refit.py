"""Least squares that moves a layer's weights, so that it undoes errors of its inputs."""

import torch


def refit(
    hessian: tuple[torch.Tensor, torch.Tensor], cross: tuple[torch.Tensor, torch.Tensor], ridges: tuple[float, ...]
) -> torch.Tensor | None:
    """What to add to a layer's weights (N, K) to make up for what its outputs lack.

    ``hessian`` (K, K): second moments of the inputs; ``cross`` (N, K): of what is missing and the inputs; each of all
    images and the part of held-back ones. Ridge regression, the penalty in parts of each input's power: the one of
    ``ridges`` that is best on images that it was not fitted to, then fitted to all; None where none is better than 0. A
    single one is taken as it is.
    """
    h, held = hessian
    c, c_held = cross

    def solve(h: torch.Tensor, c: torch.Tensor, ridge: float) -> torch.Tensor:
        power = h.diagonal().double()
        return torch.linalg.solve(h.double() + torch.diag(ridge * power + 1e-6 * power.mean()), c.double().T).T.float()

    def loss(delta: torch.Tensor) -> float:
        """Of held-back images, less that of unchanged weights."""
        return float(((delta @ held - 2 * c_held) * delta).sum())

    if len(ridges) == 1:
        return solve(h, c, ridges[0])
    losses = {ridge: loss(solve(h - held, c - c_held, ridge)) for ridge in ridges}
    best = min(losses, key=losses.get)
    return solve(h, c, best) if losses[best] < 0 else None
