"""Weights to int8, symmetric with a MinMax scale per output channel; inputs' scales are folded in beforehand."""

import torch

from ...quant.rounding import round_gptq

QMAX = 127
SLACK = 0.06  #: octaves by which a channel's largest value may exceed the range


def quantize_weight(
    weight: torch.Tensor, bias: torch.Tensor, hessian: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(integers float32 (N, K), steps float64 (N,)) of columns in units per input step.

    ``hessian`` (K, K): GPTQ rounding. A channel of tiny weights keeps a step at which its bias has 24 bits.
    """
    w = weight.double()
    step = torch.maximum(w.abs().amax(1) / QMAX, bias.double().abs() / (1 << 23)).clamp(min=1e-30)
    scaled = (w / step[:, None]).float()
    if hessian is None:
        return scaled.round().clamp(-QMAX, QMAX), step
    flat = torch.zeros(len(step), dtype=torch.int32)
    return round_gptq(scaled, flat, hessian, QMAX), step


def factor_exponents(
    reach: float, half_range: torch.Tensor, weight: torch.Tensor, moment: torch.Tensor, deepest: int
) -> torch.Tensor:
    """Exponents m <= 0 (C,) of a pointwise layer's input channels: finer steps where the range allows, int32.

    A finer step lowers the activation noise sum_n w_nc^2 step_c^2 / 12 and raises the weight noise, since the
    integers grow and each row's weight step belongs to all columns. ``reach``: the value of 127 coarsest steps;
    ``half_range`` (C,): largest |x - centre|; ``moment`` (C,): E[(x - centre)^2]; ``weight`` (N, C). The best depth
    0..-deepest is taken.
    """
    room = torch.floor(torch.log2(reach / half_range.clamp(min=1e-30)) + SLACK).clamp(min=0)
    energy = weight.double().square().sum(0)
    best = None
    for depth in range(deepest + 1):
        m = -room.clamp(max=depth)
        step = reach / QMAX * 2.0**m
        rows = (weight.double() * step).abs().amax(1) / QMAX
        noise = (energy * step**2).sum() + rows.square().sum() * (moment / step**2).sum()
        if best is None or float(noise) < best[0]:
            best = (float(noise), m.int())
    return best[1]
