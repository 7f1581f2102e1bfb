"""Real scales to the integer constants of arith.postprocess.

Scales are float64 tensors: the value of one step. Every function returns constants within their fields' ranges or
raises ValueError naming the layer.
"""

import dataclasses
import math

import numpy as np
import torch

from vitforge_hw.arch import arith

from ...ops.post import SPANS

M1_TOP = 1 << arith.M1_BITS
FACTOR_TOP = (M1_TOP - 1) / (M1_TOP >> 1)  #: m1 * 2^-s1 must be below 2: m1 is kept with its leading one at bit 15
P_TOP = (1 << arith.P_BITS - 1) - 1
Q3_TOP = arith.Q6_MAX // 2  #: p must reach down to -3 within 12 bits


def to_int(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.round().to(torch.int64).numpy().astype(np.int32))


def dyadic(
    name: str, ratio: torch.Tensor, s_max: int = arith.S1_MAX, top: float = FACTOR_TOP
) -> tuple[np.ndarray, np.ndarray]:
    """(m, s) with ratio ~ m * 2^-s: m in [2^15, 2^16) where s allows it, relative error below 2^-16.

    ``top``: the largest ratio; that of the parameter entries, M1_TOP - 1 for software-only factors.
    """
    ratio = ratio.double()
    if float(ratio.max()) > top or float(ratio.min()) <= 0:
        span = f"{float(ratio.min()):.3g}..{float(ratio.max()):.3g}"
        raise ValueError(f"{name}: re-quantization factors must be above 0 and at most {top:.6g}, need {span}")
    s = (15 - torch.floor(torch.log2(ratio))).clamp(0, s_max)
    m = (ratio * 2.0**s).round()
    over = m >= M1_TOP  # rounded up to 2^16
    s = torch.where(over & (s > 0), s - 1, s)
    m = (ratio * 2.0**s).round().clamp(1, M1_TOP - 1)
    return to_int(m), to_int(s)


def scaled(name: str, ratio: torch.Tensor) -> dict[str, np.ndarray]:
    """m1, s1, eh without an activation: p below 2 acc (the machine shifts right by 15 or more), h = p << eh."""
    eh = torch.ceil(torch.log2(ratio.double() / FACTOR_TOP)).clamp(min=0)
    m1, s1 = dyadic(name, ratio.double() * 2.0**-eh)
    return dict(m1=m1, s1=s1, eh=to_int(eh))


@dataclasses.dataclass(frozen=True)
class Hardswish:
    """Constants of one layer: p has the step 3 / q3, h the step p^2 / 6, the output step * 2^-k of it."""

    q3: int
    k: int  #: h = output step * 2^-k

    q6 = property(lambda s: 2 * s.q3)
    p_step = property(lambda s: 3 / s.q3)
    h_step = property(lambda s: s.p_step**2 / 6)
    step = property(lambda s: s.h_step * 2.0**s.k, doc="step of the output")


def hardswish(name: str, step: float, top: float, least: float = 0.0) -> Hardswish:
    """The finest p (12 bits) that reaches the largest input ``top``; the output's step is ``step`` or a little more.

    ``least``: p's step is at least this (what keeps m1 * 2^-s1 below 2).
    """
    for k in range(31, -1, -1):
        p_step = math.sqrt(6 * step * 2.0**-k)
        q3 = math.floor(3 / p_step)
        if 1 <= q3 <= Q3_TOP and 3 / q3 * P_TOP >= top and 3 / q3 >= least:
            return Hardswish(q3, k)
    raise ValueError(f"{name}: no 12-bit scale fits Hardswish outputs in steps of {step:.3g} up to {top:.3g}")


def bias_int(name: str, bias: torch.Tensor, acc_step: torch.Tensor, weight_sum: torch.Tensor) -> np.ndarray:
    """The real bias at the accumulator's step, less the input zero-points' contribution ``weight_sum``."""
    b = bias.double() / acc_step - weight_sum.double()
    if (largest := float(b.abs().max())) > SPANS["bias"][1]:
        raise ValueError(
            f"{name}: bias must be at most {SPANS['bias'][1]} at the accumulator's scale, needs {largest:.3g}"
        )
    return to_int(b)


def plain_fields(n: int, **given) -> dict[str, np.ndarray]:
    """eh, er, s2, offset of zero where not given."""
    return {f: given.get(f, np.zeros(n, dtype=np.int32)) for f in ("eh", "er", "s2", "offset")}


def residual_shifts(name: str, ep: torch.Tensor, er: torch.Tensor, ey: torch.Tensor) -> dict[str, np.ndarray]:
    """y = p 2^ep + r 2^er in steps of 2^ey (relative to the stage's base): added at the finest of the three."""
    fine = torch.minimum(torch.minimum(ep, er), ey)
    shifts = dict(eh=ep - fine, er=er - fine, s2=ey - fine)
    for field in shifts:
        top = SPANS[field][1]
        if int(shifts[field].max()) > top:
            raise ValueError(
                f"{name}: {field} must be at most {top}, needs {int(shifts[field].max())}: scales too far apart"
            )
    return {f: to_int(v) for f, v in shifts.items()}
