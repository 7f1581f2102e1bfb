"""Power-of-two scales: adaptive rounding (P2-ViT), power-of-two factors (PTF), per tensor or per channel.

Everywhere ``e`` is an exponent: the value of one step is 2^e. Rows of ``x`` are samples with weights ``w`` (sum 1).
"""

import torch

CANDIDATES = (-1, 0, 1, 2)  #: around floor(log2 s) of the MinMax scale s (P2-ViT's adaptive rounding)


_POWERS = torch.tensor([2.0**e for e in range(-126, 128)])


def pot(e: torch.Tensor | int) -> torch.Tensor:
    """2^e in float32, exact, -126 <= e <= 127."""
    return _POWERS[torch.as_tensor(e) + 126]


def scaled(x: torch.Tensor, e: torch.Tensor | int) -> torch.Tensor:
    """x * 2^e, exact but for under- and overflow, in x's dtype."""
    return x * pot(e).to(x.dtype)


def quantize(x: torch.Tensor, e: torch.Tensor | int, lo: int, hi: int) -> torch.Tensor:
    """Round half up to steps of 2^e and saturate; the result in steps."""
    return scaled(x, -torch.as_tensor(e)).add_(0.5).floor_().clamp_(lo, hi)


def error(x: torch.Tensor, e: torch.Tensor | int, lo: int, hi: int, w: torch.Tensor) -> torch.Tensor:
    """Weighted squared quantization error per channel: (C,)."""
    d = scaled(quantize(x, e, lo, hi), e).sub_(x)
    return w @ d.square_()


def base_exponent(x: torch.Tensor, hi: int, channel: bool) -> torch.Tensor:
    """floor(log2(max|x| / hi)), per channel or () for all; channels without signal get the tensor's."""
    top = x.abs().amax(0)
    whole = top.max().clamp(min=2.0**-30)
    if not torch.isfinite(whole):
        raise ValueError("model: values of the calibration images leave float32: weights are too large")
    top = torch.where(top > whole * 2.0**-20, top, whole) if channel else whole
    return torch.floor(torch.log2(top / hi)).int()


def search(
    x: torch.Tensor,
    w: torch.Tensor,
    lo: int,
    hi: int,
    channel: bool = False,
    least: torch.Tensor | int | None = None,
    top: torch.Tensor | None = None,
) -> torch.Tensor:
    """Adaptive PoT rounding of samples x (R, C): the exponent with the least L2 error of f-1 .. f+2.

    ``channel``: one exponent per channel, int32 (C,), else (). ``least``: lower bound of the exponents. ``top``:
    the largest |x| of all rows (C,) where x holds only some.
    """
    f = base_exponent(x if top is None else top[None], hi, channel)
    best, best_error = None, None
    for d in CANDIDATES:
        e = f + d
        if least is not None:
            e = torch.maximum(e, torch.as_tensor(least, dtype=torch.int32))
        err = error(x, e, lo, hi, w)
        err = err if channel else err.sum()
        if best is None:
            best, best_error = e.clone(), err
        else:
            better = err < best_error
            best, best_error = torch.where(better, e, best), torch.where(better, err, best_error)
    return best.int()


def search_ptf(x: torch.Tensor, w: torch.Tensor, lo: int, hi: int, levels: int = 4) -> tuple[int, torch.Tensor]:
    """PTF: (base exponent, a (C,) in 0..levels-1), least total L2 error; value = q * 2^(base + a)."""
    f = int(base_exponent(x, hi, False))
    errors = {e: error(x, e, lo, hi, w) for e in range(f - levels, f + 3)}
    best = None
    for base in range(f - levels, f + 4 - levels):
        stack = torch.stack([errors[base + a] for a in range(levels)])
        least, a = stack.min(0)
        total = float(least.sum())
        if best is None or total < best[0]:
            best = (total, base, a.int())
    return best[1], best[2]
