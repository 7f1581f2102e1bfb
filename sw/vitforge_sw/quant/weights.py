"""A layer's integer weights and exponents by the scheme's rule."""

import torch

from .descent import quantize_few
from .rounding import round_chosen, round_gptq, round_nearest, weight_exponents

FEW = 4  #: bits of a weight up to which a second look (``descent``) pays


def quantize_weight(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    wbits: int = 8,
    granularity: str = "channel",
    rounding: str = "nearest",
    least: torch.Tensor | None = None,
    held: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(integers (N, K) float-valued, exponents int32 (N,)) of a float weight for inputs with ``hessian``.

    ``held``: the part of ``hessian`` that comes from held-back images (rounding ``chosen``).
    """
    qmax = (1 << wbits - 1) - 1
    if rounding == "chosen" and wbits <= FEW and granularity == "channel":
        return quantize_few(weight, hessian - held, held, qmax, least)
    exponents = weight_exponents(weight, hessian, qmax, granularity, least)
    if rounding == "chosen":
        return round_chosen(weight, exponents, hessian - held, held, qmax), exponents
    if rounding == "gptq":
        return round_gptq(weight, exponents, hessian, qmax), exponents
    return round_nearest(weight, exponents, qmax), exponents
