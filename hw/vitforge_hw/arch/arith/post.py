"""Activation functions, and the post-processing of an engine's result."""

import math

from ..enums import P_BITS, Act
from .rounding import round_shift, saturate

M1_BITS = 16  #: dyadic multiplier, 1 <= m1 < 2^16
S1_MAX = 47  #: shift behind it
Q6_MAX = (1 << P_BITS) - 1  #: Hardswish's upper clip: 12 bits unsigned, h = p * clip(...) has 24 bits

GELU_FRAC = 7  #: fraction bits of the table's argument
GELU_ENTRIES = 512  #: the table covers |x| < 4
GELU_OUT_FRAC = 10  #: fraction bits of the table's values
GELU_EXP_MIN, GELU_EXP_MAX = 3, 10  #: p's fraction bits that the unit accepts

#: g(t) = t * Phi(-t) for t = i / 128 in units of 2^-10, so that gelu(x) = relu(x) - g(|x|)
GELU_TABLE = tuple(
    round(2**GELU_OUT_FRAC * t * 0.5 * math.erfc(t / math.sqrt(2)))
    for t in (i / 2**GELU_FRAC for i in range(GELU_ENTRIES))
)


def gelu(p: int, e: int) -> int:
    """GELU of the 12-bit ``p`` with ``e`` fraction bits (3..10); the result has the same scale.

    ``relu(p) - g(|p|)``: |p| is rounded to 7 fraction bits, g read from a ROM of 512 x 8 bits (10 fraction
    bits), 0 beyond |x| >= 4, and rounded to p's scale.
    """
    index = round_shift(abs(p), e - GELU_FRAC)
    g = GELU_TABLE[index] if index < GELU_ENTRIES else 0
    return max(p, 0) - round_shift(g, GELU_OUT_FRAC - e)


def hardswish(p: int, q3: int, q6: int) -> int:
    """p * clip(p + q3, 0, q6), q3 = 3 steps and q6 = 6 steps of p's scale s: Hardswish in units of s^2 / 6."""
    return p * max(0, min(q6, p + q3))


ACT_IDENTITY, ACT_GELU, ACT_HARDSWISH = (int(act) for act in Act)


def activation(p: int, act: int, *, exp: int = 8, q3: int = 0, q6: int = 0) -> int:
    """``act`` selects identity, GELU or Hardswish of the 12-bit p; ``exp``: GELU's fraction bits."""
    if act == ACT_GELU:
        return gelu(p, exp)
    return hardswish(p, q3, q6) if act == ACT_HARDSWISH else p


def dyadic(acc: int, bias: int, m1: int, s1: int) -> int:
    """p = sat12(round_shift((acc + bias) * m1, s1)): exact, |acc + bias| < 2^26, one 27 x 18 multiplier."""
    return saturate(round_shift((acc + bias) * m1, s1), P_BITS)


def postprocess(
    acc: int,
    *,
    bias: int = 0,
    m1: int = 1,
    s1: int = 0,
    act: int = ACT_IDENTITY,
    gelu_exp: int = 8,
    q3: int = 0,
    q6: int = 0,
    m2: int = 1,
    eh: int = 0,
    residual: int = 0,
    er: int = 0,
    s2: int = 0,
    offset: int = 0,
    out_bits: int = 8,
    narrow: bool = False,
) -> int:
    """One output of an engine: re-quantization, activation, residual, offset. All constants are per channel but
    ``act``, ``gelu_exp``, ``q3``, ``q6`` (per instruction).

    p = dyadic(acc);  h = act(p)
    y = sat(round_shift((h * m2 << eh) + (residual << er), s2) + offset)      8 or 12 bits

    ``m1`` is 1 where scales are powers of two, so that p is a shift alone. ``m2`` is 1 in hardware; other values serve
    the software ablation with exact migration factors. ``narrow`` keeps operands of activation products (keys, Z) in
    -127..127, so that they are legal weights of the packed multipliers.
    """
    h = activation(dyadic(acc, bias, m1, s1), act, exp=gelu_exp, q3=q3, q6=q6)
    return saturate(round_shift((h * m2 << eh) + (residual << er), s2) + offset, out_bits, narrow)
