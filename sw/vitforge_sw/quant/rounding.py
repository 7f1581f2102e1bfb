"""Weights to int8 with a power-of-two scale per output channel (or layer), chosen and rounded by layer-output error.

The layer-output error of a weight error D is D H D^T with H the second moment (or covariance) of the inputs.
"""

import torch

from .scales import CANDIDATES, pot, scaled


def weight_exponents(
    weight: torch.Tensor, hessian: torch.Tensor, qmax: int, granularity: str, least: torch.Tensor | None = None
) -> torch.Tensor:
    """Adaptive PoT rounding: of f-1 .. f+2 the exponent with the least layer-output L2 error; int32 (N,).

    ``weight`` (N, K) float, ``hessian`` (K, K), ``least`` (N,) lower bounds (what the bias needs). Rows
    smaller than the largest by 2^12 and more are as good as zero: they get no finer scale, which keeps shifts in range.
    """
    top = weight.abs().amax(1)
    top = torch.maximum(top, top.max().clamp(min=1e-6) * 2.0**-12)
    if granularity == "layer":
        top = top.max().expand_as(top)
    f = torch.floor(torch.log2(top / qmax)).int()
    best = best_error = None
    for d in CANDIDATES:
        e = f + d if least is None else torch.maximum(f + d, least)
        q = scaled(weight, -e[:, None]).round_().clamp_(-qmax, qmax)
        delta = scaled(q, e[:, None]) - weight
        err = ((delta @ hessian) * delta).sum(1)
        if granularity == "layer":
            err = err.sum().expand_as(err)
        if best is None:
            best, best_error = e.clone(), err.clone()
        else:
            better = err < best_error
            best, best_error = torch.where(better, e, best), torch.where(better, err, best_error)
    return best.int()


def round_nearest(weight: torch.Tensor, exponents: torch.Tensor, qmax: int) -> torch.Tensor:
    return scaled(weight, -exponents[:, None]).round_().clamp_(-qmax, qmax)


def round_gptq(
    weight: torch.Tensor, exponents: torch.Tensor, hessian: torch.Tensor, qmax: int, damp: float = 0.01, block: int = 64
) -> torch.Tensor:
    """GPTQ: columns in order of falling input power; each column's rounding error is compensated by later columns.

    Returns integers in float, (N, K). Source: Frantar et al. 2210.17323 (Cholesky form, blocks of columns).
    """
    h = hessian.double().clone()
    dead = h.diagonal() <= 0
    h.diagonal()[dead] = 1.0
    order = torch.argsort(h.diagonal(), descending=True)
    h = h[order][:, order]
    h.diagonal().add_(damp * h.diagonal().mean())
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    scale = pot(exponents).double()
    w = weight.double()[:, order].clone()
    q = torch.zeros_like(w)
    for start in range(0, w.shape[1], block):
        stop = min(start + block, w.shape[1])
        errors = torch.zeros(w.shape[0], stop - start, dtype=torch.float64)
        for i in range(start, stop):
            q[:, i] = (w[:, i] / scale).round_().clamp_(-qmax, qmax)
            err = (w[:, i] - q[:, i] * scale) / inverse[i, i]
            w[:, i:stop] -= err[:, None] * inverse[i, i:stop]
            errors[:, i - start] = err
        w[:, stop:] -= errors @ inverse[start:stop, stop:]
    out = torch.empty_like(q)
    out[:, order] = q
    return out.float()


DAMPS = (0.01, 0.1, 1.0)  #: parts of the mean input power added to the Hessian's diagonal


def round_chosen(
    weight: torch.Tensor, exponents: torch.Tensor, fit: torch.Tensor, held: torch.Tensor, qmax: int
) -> torch.Tensor:
    """Nearest, or GPTQ damped by one of ``DAMPS``: what is best on images that the choice was not fitted to.

    GPTQ trusts the inputs' covariance; from few rows (a classifier sees one per image) it follows their chance
    correlations, and damping or rounding to nearest is better. ``fit``, ``held``: second moments (K, K) of two parts of
    the calibration images, their sum that of all, which the winner is then rounded with.
    """

    def loss(q: torch.Tensor) -> float:
        delta = scaled(q, exponents[:, None]) - weight
        return float(((delta @ held) * delta).sum())

    nearest = round_nearest(weight, exponents, qmax)
    losses = {d: loss(round_gptq(weight, exponents, fit, qmax, d)) for d in DAMPS}
    damp = min(losses, key=losses.get)
    if losses[damp] >= loss(nearest):
        return nearest
    return round_gptq(weight, exponents, fit + held, qmax, damp)
