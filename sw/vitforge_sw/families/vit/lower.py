"""Mapping real-valued layers with power-of-two scales onto the constants of the integer nodes.

Exponents are int32 tensors; every function returns node fields (numpy int32) that satisfy the fields' ranges or raises
ValueError naming the node.
"""

import math

import numpy as np
import torch

from vitforge_hw.arch import arith
from vitforge_hw.arch.enums import P_BITS

from ...ops.post import SPANS
from ...quant.scales import scaled

P_MORE = P_BITS - 8  #: bits that p has more than an int8 output


def _int(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.round().to(torch.int64).numpy().astype(np.int32))


def _full(x, n: int) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.int32).expand(n)


P_FINEST = 8  #: p of a residual layer has at most this many fraction bits more than the stream


def p_exponents(ea: torch.Tensor, rows: torch.Tensor, e_out: torch.Tensor, margin: float = 1.25) -> torch.Tensor:
    """The finest exponents, int32 (N,), at which p = rows (R, N) does not saturate, with a margin for other images."""
    top = rows.abs().amax(0).clamp(min=2.0**-30) * margin
    finest = torch.maximum(ea, e_out - P_FINEST)
    return torch.maximum(finest, torch.ceil(torch.log2(top / 2047)).int())


def least_exponents(bias: torch.Tensor) -> torch.Tensor:
    """Accumulator exponents, int32 (N,), at which the bias leaves three quarters of the 27 bits to the products."""
    return torch.ceil(torch.log2(bias.abs().clamp(min=2.0**-40) / 2**24)).int()


def reachable(ea: torch.Tensor, e_out: torch.Tensor) -> torch.Tensor:
    """Output exponents raised by one amount until accumulators of ``ea`` reach them (keys without signal)."""
    return e_out + (ea - SPANS["eh"][1] - e_out).max().clamp(min=0)


def shifts_plain(ea: torch.Tensor, e_out: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """p's exponents and the shift fields of an output without residual: p has four bits more than y where it can."""
    e_out = _full(e_out, len(ea))
    ep = torch.maximum(ea, e_out - P_MORE)
    return ep, dict(s1=ep - ea, eh=(ep - e_out).clamp(min=0), s2=(e_out - ep).clamp(min=0), er=torch.zeros_like(ea))


def shifts_given_p(ea: torch.Tensor, ep: torch.Tensor, e_out: torch.Tensor) -> dict:
    """The shift fields with p's exponents fixed (GELU)."""
    ep, e_out = _full(ep, len(ea)), _full(e_out, len(ea))
    return dict(s1=ep - ea, eh=(ep - e_out).clamp(min=0), s2=(e_out - ep).clamp(min=0), er=torch.zeros_like(ea))


def shifts_residual(ea: torch.Tensor, ep: torch.Tensor, e_res: torch.Tensor, e_out: torch.Tensor) -> dict:
    """The shift fields of y = h 2^ep + r 2^e_res in steps of 2^e_out: added at the finest of the three exponents."""
    ep, e_res, e_out = _full(ep, len(ea)), _full(e_res, len(ea)), _full(e_out, len(ea))
    fine = torch.minimum(torch.minimum(ep, e_res), e_out)
    return dict(s1=ep - ea, eh=ep - fine, er=e_res - fine, s2=e_out - fine)


def coarse_enough(out: torch.Tensor, ep: torch.Tensor, e_res: torch.Tensor) -> torch.Tensor:
    """The stream's exponents (N,), raised where both addends have coarser steps: finer ones would hold nothing more.

    The machine has no place for them (rule s2 >= min(eh, er)). One exponent for all stays one; those of PTF stay
    within 0..3 of the least.
    """
    need = torch.maximum(out, torch.minimum(ep, _full(e_res, len(out))))
    if bool((out == out[0]).all()):
        return need.max().expand(len(out))
    return torch.maximum(need, need.max() - 3)


def linear_fields(
    name: str, weight: torch.Tensor, bias: torch.Tensor, ea: torch.Tensor, shifts: dict, offset=0
) -> dict:
    """Node fields: weight int8 (integers in float), real-valued bias rounded to the accumulator's exponent.

    Rows whose bias would not fit (branches of zeros or nearly so: the corrected bias is all that they give) get coarser
    weights: what they lose lies far below one step of an output that holds the bias.
    """
    n = len(ea)
    steps = scaled(bias.double().abs(), -ea).round_()
    room = torch.ceil(torch.log2(steps.clamp(min=1) / SPANS["bias"][1])).clamp(min=0).int()
    if bool(room.any()):
        weight, ea = scaled(weight, -room[:, None]).round_(), ea + room
        shifts = shifts | dict(s1=shifts["s1"] - room)
    for key in ("s1", "eh", "er", "s2"):
        top = SPANS[key][1]
        lo, hi = int(shifts[key].min()), int(shifts[key].max())
        if lo < 0 or hi > top:
            raise ValueError(
                f"{name}: {key} must be in 0..{top}, needs {lo}..{hi}: the layer's scales are too far apart"
            )
    b = scaled(bias.double(), -ea).round_()
    return dict(
        weight=np.ascontiguousarray(weight.to(torch.int8).numpy()),
        bias=_int(b),
        offset=_int(_full(offset, n)),
        **{key: _int(value) for key, value in shifts.items()},
    )


def layernorm_fields(name: str, gamma: torch.Tensor, beta: torch.Tensor, e_out: torch.Tensor, a: torch.Tensor) -> dict:
    """gamma (16 bits), beta (32 bits), the largest shift (0..47) per channel, for outputs in steps of 2^e_out.

    Raises ValueError where they do not fit: ``e_out`` is far below what gamma and beta give.
    """
    g, b = scaled(gamma.double(), -e_out), scaled(beta.double(), -e_out)
    shift = []
    for gi, bi in zip(g.abs().tolist(), b.abs().tolist(), strict=True):
        room_g = 14 + arith.LN_Z_FRAC - math.floor(math.log2(gi)) if gi > 0 else 47
        room_b = 30 - math.floor(math.log2(bi)) if bi > 0 else 47
        shift.append(min(room_g, room_b, 47))
    s = torch.tensor(shift, dtype=torch.int32)
    if int(s.min()) < 0:
        c = int(s.argmin())
        raise ValueError(
            f"{name}: channel {c}: gamma {float(gamma[c]):.3g}, beta {float(beta[c]):.3g} do not fit an output in "
            f"steps of 2^{int(_full(e_out, len(s))[c])}, as small as the calibration images make "
            "it (more of them, other ones?)"
        )
    g = scaled(g, s - arith.LN_Z_FRAC).round_().clamp_(-(1 << 15), (1 << 15) - 1)
    b = scaled(b, s).round_().clamp_(-(1 << 31), (1 << 31) - 1)
    return dict(gamma=_int(g), beta=_int(b), shift=_int(s), a=_int(_full(a, len(g))))


def softmax_constants(scale: float, exponent: int) -> tuple[int, int]:
    """(c, sc): u in sixteenths of an octave = (max - x) * c * 2^-sc for real scores x * 2^exponent * scale (nats)."""
    factor = 16 * math.log2(math.e) * scale * 2.0**exponent
    for sc in range(15, -1, -1):
        c = round(factor * 2**sc)
        if c < 1 << 10:
            return c, sc
    raise ValueError(f"softmax: scores in steps of {scale * 2.0**exponent:.3g} are too coarse (c must be below 1024)")


def scores_shifts(ea: int, e_out: int) -> tuple[int, int]:
    """(s1, s2) of a Scores node."""
    ep = max(ea, e_out - P_MORE)
    if ep > e_out:
        raise ValueError(f"scores: exponent {e_out} lies below the product's {ea}")
    return ep - ea, e_out - ep


def attend_shift(e_v: int, e_out: int, factor: bool) -> int:
    """The Attend node's shift for outputs in steps of 2^e_out."""
    return (8 if factor else 7) + e_out - e_v
