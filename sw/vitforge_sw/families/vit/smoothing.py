"""PoT-aware smoothing: powers of two per channel moved from a layer's input into its weights, free in hardware."""

import torch

from ...quant.rounding import round_nearest, weight_exponents
from ...quant.scales import base_exponent, error, pot, quantize, search
from .octaves import column_factors

ROWS = 256  #: output channels on which candidates are compared
MEAN = 8  #: rows whose mean may be a centre: that of one row is the row itself, and leaves nothing to code


def nearest_power(s: torch.Tensor) -> torch.Tensor:
    """Exponents of the powers of two nearest to 2^s on the linear scale: 1.5 2^e is where e + 1 begins. int32."""
    e = torch.floor(s)
    return (e + (torch.exp2(s - e) >= 1.5)).int()


def smooth_linear(
    x: torch.Tensor,
    w: torch.Tensor,
    weight: torch.Tensor,
    alphas: tuple[float, ...],
    lo: int,
    hi: int,
    wbits: int,
    top: torch.Tensor | None = None,
    linear: bool = False,
) -> torch.Tensor:
    """Exponents of the input's channels, int32 (C,), chosen by the layer's output error.

    x (R, C) samples with weights w, weight (N, C), ``top`` (C,) the largest |x| of all rows if x is only some.
    Candidates: one exponent for all, and for each alpha s_c = max|X_c|^a / max|W_c|^(1-a) rounded to the nearest power
    of two; each with base exponents around MinMax's.
    """
    qmax = (1 << wbits - 1) - 1
    c = x.shape[1]
    offsets = [torch.zeros(c, dtype=torch.int32)]
    top_x = (x.abs().amax(0) if top is None else top).clamp(min=1e-9)
    top_w = weight.abs().amax(0).clamp(min=1e-9)
    for alpha in alphas:
        s = torch.log2(top_x**alpha / top_w ** (1 - alpha))
        # nearest in the log domain: the ratio to the largest; in the linear domain (P2-ViT): the factor itself
        offset = nearest_power(s) if linear else torch.round(s - s.max()).int()
        if not any(torch.equal(offset, o) for o in offsets):
            offsets.append(offset)
    weight = weight[:: -(-len(weight) // ROWS)]  # a choice of output channels is enough to compare candidates
    want, root = x @ weight.T, w.sqrt()[:, None]
    best = None
    for offset in offsets:
        smooth = x / pot(offset)
        first = int(base_exponent((top_x / pot(offset))[None], hi, False))
        for e in (first - 1, first, first + 1):
            q = quantize(smooth, e, lo, hi)
            columns = weight * pot(offset + e)
            moment = (q * w[:, None]).T @ q
            ew = weight_exponents(columns, moment, qmax, "channel")
            got = q @ (round_nearest(columns, ew, qmax) * pot(ew)[:, None]).T
            err = float(((got - want) * root).square().sum())
            if best is None or err < best[0]:
                best = (err, offset + e)
    return best[1].int()


def channel_exponents(
    x: torch.Tensor, w: torch.Tensor, lo: int, hi: int, zero_low: float | None = None
) -> torch.Tensor:
    """Adaptive PoT rounding for each channel by itself; with ``zero_low`` the range starts there (zero-point)."""
    return search(x if zero_low is None else x - zero_low, w, lo, hi, channel=True)


def query_key_exponents(
    q: torch.Tensor, k: torch.Tensor, w: torch.Tensor, channel: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exponents of one head's q and k, int32 (d,) each, e_q + e_k the same for all channels.

    Least error of q k^T to first order: E[k_c^2] err(q_c) + E[q_c^2] err(k_c), summed over channels. Samples (R, d).
    """
    if not channel:
        d = q.shape[1]
        return search(q, w, -128, 127).expand(d), search(k, w, -127, 127).expand(d)
    q2, k2 = w @ q.square(), w @ k.square()
    fq, fk = int(base_exponent(q, 127, False)), int(base_exponent(k, 127, False))
    span = range(-5, 4)
    eq = {o: error(q, fq + o, -128, 127, w) * k2 for o in span}
    ek = {o: error(k, fk + o, -127, 127, w) * q2 for o in span}
    best = None
    for total in range(-3, 4):
        pairs = [o for o in span if total - o in ek]
        stack = torch.stack([eq[o] + ek[total - o] for o in pairs])
        least, index = stack.min(0)
        if best is None or float(least.sum()) < best[0]:
            chosen = torch.tensor(pairs, dtype=torch.int32)[index]
            best = (float(least.sum()), fq + chosen, fk + total - chosen)
    return best[1].int(), best[2].int()


def smooth_steps(
    x: torch.Tensor, w: torch.Tensor, weight: torch.Tensor, alphas: tuple[float, ...], lo: int, hi: int, wbits: int,
    octaves: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(steps, centres), float32 (C,): real-valued scales and zero-points of a layer's input channels.

    For a layer behind a LayerNorm, whose gamma, beta and the layer's columns and bias take them up for nothing: x is
    coded as round((x - centre) / step) in lo..hi. Arguments as ``smooth_linear``. Step by step the choice with the
    least output error, weights rounded to nearest: centre, alpha (step ~ max|X|^a / max|W|^(1-a)), size; with
    ``octaves`` coarser steps channel by channel where they suit the weights' rows.
    """
    qmax, whole = (1 << wbits - 1) - 1, weight
    top_w = weight.abs().amax(0).clamp(min=1e-9)
    weight = weight[:: -(-len(weight) // ROWS)]
    root = w.sqrt()[:, None]

    def shape(alpha: float, centre: torch.Tensor) -> torch.Tensor:
        top_x = (x - centre).abs().amax(0)
        top_x = top_x.clamp(min=float(top_x.max()) * 2.0**-10 + 1e-9)
        step = top_x**alpha / top_w ** (1 - alpha)
        return step * ((top_x / step).max() / hi)

    def cost(centre: torch.Tensor, step: torch.Tensor) -> float:
        at = x - centre
        q = (at / step + 0.5).floor_().clamp_(lo, hi)
        columns = weight * step
        ew = weight_exponents(columns, (q * w[:, None]).T @ q, qmax, "channel")
        error = q @ (round_nearest(columns, ew, qmax) * pot(ew)[:, None]).T - at @ weight.T
        return float((error * root).square().sum())

    middle = alphas[len(alphas) // 2] if alphas else 1.0
    centres = [torch.zeros(x.shape[1]), *([w @ x] if len(x) >= MEAN else [])]
    centre = min(centres, key=lambda m: cost(m, shape(middle, m)))
    steps = [shape(a, centre) for a in alphas] or [torch.full_like(centre, float((x - centre).abs().max()) / hi)]
    step = min(steps, key=lambda s: cost(centre, s))
    size = min((0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), key=lambda f: cost(centre, step * f))
    step = step * size
    if octaves:
        step = step * column_factors(whole * step, w @ ((x - centre) / step).square(), qmax)
    return step, centre
