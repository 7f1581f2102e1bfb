"""Softmax to 4-bit codes, and attention x value by the shifts that they stand for."""

import math

from ..enums import CodeRule
from .reciprocal import NO_FACTOR, row_factor
from .rounding import leading_one, round_shift, saturate

RULE_MAXREL, RULE_LOG2 = int(CodeRule.MAXREL), int(CodeRule.LOG2)
EXP2_TABLE = tuple(round(2**16 * 2 ** (-f / 16)) for f in range(16))  #: 2^-f/16, 16 fraction bits
LOG2_TABLE = tuple(round(16 * math.log2(1 + (i + 0.5) / 64)) for i in range(64))  #: 4 fraction bits, 0..16
U_MAX = 255  #: u has 4 integer and 4 fraction bits


def softmax_u(x: int, row_max: int, c: int, sc: int) -> int:
    """u = (max - x) * c * 2^-sc in units of 1/16, saturated to 8 bits; x int8, c 10 bits, sc 0..15."""
    return min(round_shift((row_max - x) * c, sc), U_MAX)


def maxrel_code(u: int) -> int:
    """Octave codes relative to the row maximum, half steps in the first four octaves."""
    k, f = u >> 4, u & 15
    if k < 4:
        return 2 * k + (0 if f <= 3 else 1 if f <= 10 else 2)
    return min(4 + ((u + 8) >> 4), 15)


def softmax_sum_term(u: int) -> int:
    """2^-u with 16 fraction bits (truncated)."""
    return EXP2_TABLE[u & 15] >> (u >> 4)


def softmax_log2_sum(s: int) -> int:
    """L = log2(S) with 4 fraction bits, S >= 1 in units of 2^-16: leading one and 6 mantissa bits."""
    n = leading_one(s)
    frac = (s >> (n - 6)) & 63
    return ((n - 16) << 4) + LOG2_TABLE[frac]


def log2_code(u: int, log_sum: int) -> int:
    """q = min(round(u + L), 15)."""
    return min((u + log_sum + 8) >> 4, 15)


def softmax_codes(x: list[int], rule: int, c: int, sc: int) -> list[int]:
    """4-bit codes of one row of int8 scores (every element valid)."""
    top = max(x)
    u = [softmax_u(i, top, c, sc) for i in x]
    if rule == RULE_MAXREL:
        return [maxrel_code(i) for i in u]
    log_sum = softmax_log2_sum(sum(softmax_sum_term(i) for i in u))
    return [log2_code(i, log_sum) for i in u]


def code_weight(q: int, rule: int) -> int:
    """The weight that a code stands for: units of 2^-10 (maxrel) or 2^-15 (log2); code 15 is 0."""
    if q == 15:
        return 0
    if rule == RULE_LOG2:
        return 1 << (15 - q)
    if q < 8:
        return (3 << (8 - (q >> 1))) if q & 1 else (4 << (8 - (q >> 1)))
    return 1 << (14 - q)


def attend(codes: list[int], v: list[int], rule: int, shift: int, use_factor: bool = True) -> int:
    """One output of attention x value: sum w(q_j) v_j by shifts, times the row factor, re-quantized to int8.

    y = sat8(round_shift(acc * mant, shift + p)); ``shift`` is an instruction constant, 0..31. Without the row
    factor (mant, p) = (128, 15).
    """
    acc = sum(code_weight(q, rule) * vj for q, vj in zip(codes, v, strict=True))
    mant, p = row_factor(sum(code_weight(q, rule) for q in codes)) if use_factor else NO_FACTOR
    return saturate(round_shift(acc * mant, shift + p), 8)
