"""Real factors of value, query and key channels that put rows of 4-bit weights where a power-of-two step fits them.

A row of 15 levels has its least error at one step; the nearest power of two leaves 1 dB more on average, 2.3 at worst
(Gaussian weights). A value channel may be divided by any factor that proj's column takes up, a query channel by one
that the key channel takes up: free in the hardware. Costs are weights rounded to nearest with the inputs' powers.
"""

import torch

PARTS = 8  #: factors in an octave that are tried
SWEEPS = 2
FACTORS = torch.exp2(torch.arange(2 * PARTS) / PARTS)


def errors(weight: torch.Tensor, step: torch.Tensor, qmax: int) -> torch.Tensor:
    """Squared error of each weight (N, K) rounded to steps (N, 1)."""
    return ((weight / step).round_().clamp_(-qmax, qmax) * step).sub_(weight).square_()


def row_steps(weight: torch.Tensor, power: torch.Tensor, qmax: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(the best power-of-two step (N, 1) of each row of ``weight`` (N, K) for inputs of ``power`` (K,), its error)."""
    first = torch.floor(torch.log2(weight.abs().amax(1, keepdim=True).clamp(min=1e-30) / qmax))
    steps = torch.stack([torch.exp2(first + e) for e in (-1, 0, 1)])  # (3, N, 1)
    least, index = torch.stack([errors(weight, step, qmax) @ power for step in steps]).min(0)
    return steps.gather(0, index[None, :, None])[0], least


def column_factors(
    weight: torch.Tensor, power: torch.Tensor, qmax: int, more: torch.Tensor | float = 0.0
) -> torch.Tensor:  # fmt: skip
    """Factors (C,) from 1 to below 4 that columns of ``weight`` (N, C) are multiplied, and their inputs divided by.

    ``weight`` is for 8-bit inputs of ``power`` (C,) steps^2, whose own rounding counts. ``more`` (factors, C): further
    costs. From each common factor of an octave on, columns and rows' steps are chosen in turn, which never raises the
    cost.
    """
    fixed = FACTORS[:, None].square() * weight.square().sum(0) / 12 + more

    def columns(step: torch.Tensor) -> torch.Tensor:
        return torch.stack([errors(weight * f, step, qmax).sum(0) * power / f**2 for f in FACTORS])

    found = None
    for start in range(PARTS):
        at = torch.full((weight.shape[1],), start)
        for _ in range(SWEEPS):
            step, _ = row_steps(weight * FACTORS[at], power / FACTORS[at].square(), qmax)
            least, at = (fixed + columns(step)).min(0)
        cost = float(least.sum())
        if found is None or cost < found[0]:
            found = (cost, FACTORS[at])
    return found[1]


def value_factors(
    v: torch.Tensor, proj: torch.Tensor, power_x: torch.Tensor, power_out: torch.Tensor, averaged: torch.Tensor,
    qmax_v: int, qmax_proj: int,
) -> torch.Tensor:  # fmt: skip
    """Factors (C,) from 1 to below 4 that v's rows are divided and proj's columns multiplied by.

    ``v`` (C, K): rows in units of the attention output's steps, inputs of ``power_x`` (K,); ``proj`` (N, C): columns
    for steps, attention outputs of ``power_out`` (C,) steps^2; ``averaged`` (C,): what attention leaves of v's power.
    """
    single = torch.stack([row_steps(v / f, power_x, qmax_v)[1] * f**2 for f in FACTORS])
    return column_factors(proj, power_out, qmax_proj, single * averaged * proj.square().sum(0))


def query_factors(
    q: torch.Tensor, k: torch.Tensor, power_x: torch.Tensor, power_q: torch.Tensor, power_k: torch.Tensor, qmax: int
) -> torch.Tensor:  # fmt: skip
    """Factors (C,) in half an octave about 1 that q's rows are multiplied and k's divided by.

    ``q``, ``k`` (C, K) rows for inputs of ``power_x`` (K,); ``power_q``, ``power_k`` (C,): powers of the outputs, which
    carry each other's errors into the scores.
    """
    factors = torch.exp2(torch.arange(PARTS) / PARTS - 0.5)
    costs = [
        row_steps(q * f, power_x, qmax)[1] / f**2 * power_k + row_steps(k / f, power_x, qmax)[1] * f**2 * power_q
        for f in factors
    ]
    return factors[torch.stack(costs).argmin(0)]
