"""Integer kernels of the literature on integer tensors: I-BERT's exponential, I-ViT's shifts, log-int-softmax."""

import math

import torch

N_BERT, N_SHIFT = 30, 15  #: fraction bits of the exponentials


def i_exp(q: torch.Tensor, scale: float) -> torch.Tensor:
    """I-BERT: exp(q scale) for integers q <= 0, in steps of ``i_exp_step``: second-order polynomial and a shift.

    x0 = floor(-ln 2 / S), z = floor(q / x0), r = q - z x0, (r + b) r + c, << (30 - z).
    """
    x0 = math.floor(-math.log(2) / scale)
    b, c = math.floor(0.96963238 / 0.35815147 / scale), math.floor(1 / 0.35815147 / scale**2)
    q = q.double().clamp(min=N_BERT * x0)
    z = torch.floor(q / x0)
    r = q - z * x0
    return torch.floor(((r + b) * r + c) * torch.exp2(N_BERT - z))


def i_exp_step(scale: float) -> float:
    return 0.35815147 * scale**2 / 2**N_BERT


def shift_exp(q: torch.Tensor, scale: float) -> torch.Tensor:
    """I-ViT's ShiftExp: exp(q scale) 2^15 / scale for integers q <= 0; log2 e is 1 + 1/2 - 1/16, 2^-r about 1 - r/2."""
    q = q.double()
    q = q + torch.floor(q / 2) - torch.floor(q / 16)
    x0 = math.floor(-1 / scale)
    q = q.clamp(min=N_SHIFT * x0)
    z = torch.floor(q / x0)
    r = q - z * x0
    return torch.floor((torch.floor(r / 2) - x0) * torch.exp2(N_SHIFT - z))


def shiftmax(q: torch.Tensor, scale: float, bits: int = 8) -> torch.Tensor:
    """I-ViT's softmax of integer scores in steps of ``scale``; probabilities in steps of 2^-(bits - 1)."""
    e = shift_exp(q - q.amax(-1, keepdim=True), scale)
    whole = torch.floor(2.0**31 / e.sum(-1, keepdim=True))
    return torch.floor(e * whole / 2.0 ** (31 - bits + 1)) * 2.0 ** -(bits - 1)


def shift_gelu(q: torch.Tensor, scale: float) -> torch.Tensor:
    """I-ViT's ShiftGELU of integers in steps of ``scale``, x sigmoid(1.702 x), as real values; one maximum a row."""
    q = q.double()
    k = q + torch.floor(q / 2) + torch.floor(q / 8) + torch.floor(q / 16)  # 1.6875
    top = k.amax(-1, keepdim=True).clamp(min=0)
    e, one = shift_exp(k - top, scale), shift_exp(-top, scale)
    whole = torch.floor(2.0**31 / (e + one))
    return q * torch.floor(e * whole / 2.0**24) * 2.0**-7 * scale


def i_gelu(x: torch.Tensor) -> torch.Tensor:
    """I-BERT's GELU: erf(x) about sgn(x) [a (min(|x|, -b) + b)^2 + 1], a = -0.2888, b = -1.769."""
    a, b = -0.2888, -1.769
    y = x / 2**0.5
    return x / 2 * (1 + torch.sign(y) * (a * (y.abs().clamp(max=-b) + b).square() + 1))


def log_int_softmax(q: torch.Tensor, scale: float, bits: int = 4) -> torch.Tensor:
    """FQ-ViT's: i-exp, t = round(sum e / e_i), code = leading one of t + next bit; value 2^-code, 0 beyond 2^b - 1."""
    e = i_exp(q - q.amax(-1, keepdim=True), scale)
    t = torch.round(e.sum(-1, keepdim=True) / e.clamp(min=1)).clamp(min=1)
    one = torch.floor(torch.log2(t))
    code = one + torch.floor((t - torch.exp2(one)) * 2 / torch.exp2(one))
    return torch.where(code > (1 << bits) - 1, 0.0, torch.exp2(-code)).float()
