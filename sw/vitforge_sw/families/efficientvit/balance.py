"""Balancing q against k: a factor u_d per channel of a head, q_d / u_d and k_d * u_d, that attention does not see.

It decides how the bits of q, k, Ksum and Z are shared out. Candidates are tried per head in a float simulation of the
8-bit steps: ranges from one half of the calibration images, errors on the other half, so that values beyond the
calibrated ranges count.
"""

import torch

from .weights import QMAX

TINY = 1e-6


def candidates(q: torch.Tensor, k: torch.Tensor, relu_only: bool) -> list[torch.Tensor]:
    """Factors u (heads, dim), positive; q, k real values (B, heads, T, dim). The first equalizes q's and k's ranges."""
    reach = (lambda t: t.relu()) if relu_only else (lambda t: t.abs())
    top_q, top_k = (reach(t).amax((0, 2)).clamp(min=TINY) for t in (q, k))
    positive = k.relu()
    sums = positive.sum(2)
    floor = lambda t: t.clamp(min=1e-3 * float(t.max()) + TINY)  # noqa: E731
    spread = [top_k, positive.amax((0, 2)), positive.square().mean((0, 2)).sqrt(), sums.amax(0)]
    balanced = (floor(top_q) / floor(top_k)).sqrt()
    return [balanced] + [1 / floor(r) ** power for r in spread for power in (0.5, 0.75, 1.0)]


def _rounded(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return (x / step).round_().clamp_(-QMAX, QMAX) * step


def simulate(q, k, v, ranges: slice, errors: slice, relu_only: bool) -> torch.Tensor:
    """Squared error per head of the 8-bit attention against the float one on images ``errors``: (heads,)."""
    reach = (lambda t: t.relu()) if relu_only else (lambda t: t.abs())
    step = lambda t: reach(t[ranges]).amax((0, 2, 3), keepdim=True).clamp(min=TINY) / QMAX  # noqa: E731
    q8, k8 = _rounded(q, step(q)).relu_(), _rounded(k, step(k)).relu_()
    z = k8.transpose(-1, -2) @ v
    total = k8.sum(2, keepdim=True)
    z8 = _rounded(z, z[ranges].abs().amax((0, 2), keepdim=True).clamp(min=TINY) / QMAX)
    total8 = _rounded(total, total[ranges].amax((0, 2, 3), keepdim=True).clamp(min=TINY) / QMAX)
    q, k = q[errors].relu(), k[errors].relu()
    want = (q @ (k.transpose(-1, -2) @ v[errors])) / (q @ k.sum(2, keepdim=True).transpose(-1, -2)).clamp(min=TINY**2)
    divisor = q8[errors] @ total8[errors].transpose(-1, -2)
    got = (q8[errors] @ z8[errors]) / divisor.clamp(min=TINY**2)
    return (got.masked_fill(divisor == 0, 0) - want).square().sum((0, 2, 3))


def balance(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, relu_only: bool, images: int = 200) -> torch.Tensor:
    """The best factors u (heads, dim) for real-valued q, k, v (B, heads, T, dim).

    ``relu_only``: negative q and k need no range (only the attention reads the tensor).
    """
    q, k, v = (t[:images].double() for t in (q, k, v))
    half = max(1, len(q) // 2)
    best = error = None
    for u in candidates(q, k, relu_only):
        qu, ku = q / u[:, None], k * u[:, None]
        e = simulate(qu, ku, v, slice(0, half), slice(half, None), relu_only)
        e = e + simulate(qu, ku, v, slice(half, None), slice(0, half), relu_only) if len(q) > 1 else e
        if best is None:
            best, error = u.clone(), e
        else:
            better = e < error
            best[better], error = u[better], torch.where(better, e, error)
    return best
