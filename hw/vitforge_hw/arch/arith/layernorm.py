"""LayerNorm of a row, and the classifier's with Hardswish behind it."""

import math

from ..enums import P_BITS
from .post import hardswish
from .rounding import leading_one, round_shift, saturate

RSQRT_TABLE = tuple(round(2**12 / math.sqrt((i + 32.5) / 32)) for i in range(96))  #: 12 fraction bits
LN_Z_FRAC = 10  #: fraction bits of the normalised value z


def rsqrt(v: int) -> tuple[int, int]:
    """``(m, e)`` with 1/sqrt(v) ~ m * 2^-e, m of 16 bits; ``(0, 16)`` for v = 0.

    v is normalised by an even power of two to f in [1, 4) with 16 fraction bits (truncated), r0 is read from a
    table of 96 entries indexed by f's top bits, and one Newton step r = r0 (3 - f r0^2) / 2 follows.
    Relative error below 2^-13.3 (asserted in the tests).
    """
    if v == 0:
        return 0, 16
    k = leading_one(v) & ~1
    f = v >> (k - 16) if k >= 16 else v << (16 - k)
    r0 = RSQRT_TABLE[(f >> 11) - 32]
    t = round_shift(f * r0 * r0, 24)
    m = min(round_shift(r0 * (3 * 65536 - t), 13), 65535)
    return m, 16 + k // 2


def layernorm_stats(x: list[int]) -> tuple[int, int, int]:
    """``(S1, S2, V)`` of one row of (already PTF-shifted) integers; V = C*S2 - S1^2 >= 0 exactly."""
    s1, s2 = sum(x), sum(i * i for i in x)
    return s1, s2, len(x) * s2 - s1 * s1


def layernorm(q: list[int], a: list[int], gamma: list[int], beta: list[int], shift: list[int]) -> list[int]:
    """One row: x = q << a, z = (C x - S1) / sqrt(V), y = sat8(round_shift(z * gamma + beta, shift)).

    x has at most 12 bits: q of 12 bits with a = 0, or of 8 bits with PTF exponents a in 0..3. gamma 16 bits,
    beta 32 bits, shift 0..47; z has 10 fraction bits, saturated to 16 bits. V = 0 gives beta alone.
    """
    x = [qi << ai for qi, ai in zip(q, a, strict=True)]
    s1, _, v = layernorm_stats(x)
    m, e = rsqrt(v)
    out = []
    for xi, g, b, s in zip(x, gamma, beta, shift, strict=True):
        z = saturate(round_shift((len(x) * xi - s1) * m, e - LN_Z_FRAC), 16)
        out.append(saturate(round_shift(z * g + b, s), 8))
    return out


def layernorm_hardswish(
    x: list[int], gamma: list[int], beta: list[int], shift: list[int], *, q3: int, q6: int, s2: int, offset: int
) -> list[int]:
    """One row of 12-bit integers: z as in :func:`layernorm`, p = sat12(round_shift(z * gamma + beta, shift)),
    y = sat8(round_shift(hardswish(p), s2) + offset). V = 0 gives p = beta alone."""
    s1, _, v = layernorm_stats(x)
    m, e = rsqrt(v)
    out = []
    for xi, g, b, s in zip(x, gamma, beta, shift, strict=True):
        z = saturate(round_shift((len(x) * xi - s1) * m, e - LN_Z_FRAC), 16)
        p = saturate(round_shift(z * g + b, s), P_BITS)
        out.append(saturate(round_shift(hardswish(p, q3, q6), s2) + offset, 8))
    return out
