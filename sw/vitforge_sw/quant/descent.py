"""Weights of few bits: GPTQ, then coordinate descent, with each row's exponent chosen by the error that is left.

At 8 bits GPTQ is as good as it gets; at 4 bits its one pass leaves steps that a second look still mends, and which
exponent is best depends on what compensation can do, not on rounding to nearest.
"""

import torch

from .rounding import DAMPS, round_gptq, round_nearest, weight_exponents
from .scales import pot, scaled

SWEEPS = 3
BLOCK = 64


def damped(hessian: torch.Tensor, damp: float) -> torch.Tensor:
    """``hessian`` with ``damp`` times its mean diagonal added, as GPTQ does."""
    out = hessian.clone()
    out.diagonal().add_(damp * hessian.diagonal().mean() + 1e-30)
    return out


def row_errors(weight: torch.Tensor, q: torch.Tensor, exponents: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """D H D' of each row (N,), D = q 2^e - weight."""
    delta = scaled(q, exponents[:, None]) - weight
    return ((delta @ hessian) * delta).sum(1)


def descend(
    weight: torch.Tensor, exponents: torch.Tensor, hessian: torch.Tensor, q: torch.Tensor, qmax: int
) -> torch.Tensor:
    """``q`` (N, K) improved: each integer in turn is set to the best value for all the others of its row.

    No step raises D H D'; ends when a sweep changes nothing, or after ``SWEEPS``.
    """
    q, scale, k = q.clone(), pot(exponents), weight.shape[1]
    d = scaled(q, exponents[:, None]) - weight
    g = d @ hessian  # half the gradient
    diagonal = hessian.diagonal()
    for _ in range(SWEEPS):
        before = q.clone()
        for a in range(0, k, BLOCK):
            b = min(a + BLOCK, k)
            near, start, part = g[:, a:b].clone(), d[:, a:b].clone(), hessian[a:b, a:b]
            for j in range(b - a):
                new = ((q[:, a + j] * scale - near[:, j] / diagonal[a + j]) / scale).round_().clamp_(-qmax, qmax)
                move = (new - q[:, a + j]) * scale
                q[:, a + j] = new
                d[:, a + j] += move
                near += move[:, None] * part[j]
            g += (d[:, a:b] - start) @ hessian[a:b]
        if torch.equal(q, before):
            break
    return q


def _best(
    weight: torch.Tensor, candidates: list[torch.Tensor], hessian: torch.Tensor, qmax: int, damp: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(integers, exponents): for each row the candidate with the least error after compensation and descent.

    Rows do not touch each other: all candidates go through in one pass, as further rows.
    """
    count, rows = len(candidates), len(weight)
    full, e, w = damped(hessian, damp), torch.cat(candidates), weight.repeat(count, 1)
    q = descend(w, e, full, round_gptq(w, e, hessian, qmax, damp), qmax)
    best = row_errors(w, q, e, full).view(count, rows).argmin(0) * rows + torch.arange(rows)
    return q[best], e[best]


def quantize_few(
    weight: torch.Tensor, fit: torch.Tensor, held: torch.Tensor, qmax: int, least: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(integers (N, K) float-valued, exponents int32 (N,)), the damping chosen on held-back images.

    ``fit``, ``held``: second moments (K, K) of the layer's inputs on two parts of the calibration images. Exponents:
    the one that is best for rounding to nearest, one finer and one coarser, at least ``least``.
    """
    first = weight_exponents(weight, fit + held, qmax, "channel", least)
    candidates = [first + d if least is None else torch.maximum(first + d, least) for d in (0, -1, 1)]

    def loss(found: tuple[torch.Tensor, torch.Tensor]) -> float:
        return float(row_errors(weight, *found, held).sum())

    losses = {damp: loss(_best(weight, candidates[:1], fit, qmax, damp)) for damp in DAMPS}
    damp = min(losses, key=losses.get)
    if losses[damp] >= loss((round_nearest(weight, first, qmax), first)):
        return round_nearest(weight, first, qmax), first
    return _best(weight, candidates, fit + held, qmax, damp)
