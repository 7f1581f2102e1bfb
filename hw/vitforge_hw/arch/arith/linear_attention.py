"""ReLU linear attention of one head: sums, products, and the division by relu(q) Ksum."""

from ..enums import DivisionRule
from .reciprocal import row_factor
from .rounding import leading_one, round_shift, saturate


def relu(x: int) -> int:
    """q and k as the engines read them: 0..127."""
    return max(x, 0)


def key_sum(k: list[int]) -> int:
    """Adder tree: sum over tokens of one channel of K (27 bits: up to 2^19 tokens)."""
    return sum(relu(i) for i in k)


def key_value(k: list[int], v: list[int]) -> int:
    """One element of Z = K^T V: sum over tokens of relu(k) * v, v in -127..127."""
    return sum(relu(i) * j for i, j in zip(k, v, strict=True))


def query_product(q: list[int], column: list[int]) -> int:
    """Dividend (a column of the int8 Z) or divisor (the int8 Ksum) of one token: it stays an accumulator."""
    return sum(relu(i) * j for i, j in zip(q, column, strict=True))


DIV_LOG2, DIV_RECIPROCAL = int(DivisionRule.LOG2), int(DivisionRule.RECIPROCAL)
CODE_MAX = 15  #: 4-bit codes of divisors


def divisor_log2(d: int) -> int:
    """r = i + bit(i - 1), i the leading one of d > 0: rounds up at 1.5 * 2^i; 0110_0011 -> 7."""
    i = leading_one(d)
    return i + (d >> (i - 1) & 1 if i else 0)


def divisor_code(d: int, lo: int) -> int:
    """q = clip(r - lo, 0, 15) of d > 0, ``lo`` a constant of the layer."""
    return max(0, min(CODE_MAX, divisor_log2(d) - lo))


def divisor_factor(d: int, rule: int, lo: int = 0) -> tuple[int, int]:
    """(mant, p) by which a dividend is multiplied and shifted: 8 bits and 5 bits; (0, 0) for d = 0, so the output is 0.

    ``DIV_RECIPROCAL``: 1/d ~ mant * 2^-(8 + p), :func:`row_factor`. ``DIV_LOG2``: (128, lo + q), a shift
    alone; the code stands for 8/9 * 2^-r, a gain that belongs to the consumer's scale.
    """
    if d == 0:
        return 0, 0
    return row_factor(d) if rule == DIV_RECIPROCAL else (128, lo + divisor_code(d, lo))


def divide(dividend: int, mant: int, p: int, shift: int) -> int:
    """y = sat8n(round_shift(dividend * mant, p + shift)): the post-processing with m1 and s1 of the token.

    ``shift`` 0..31 per channel. For the log2 rule the same as round_shift(dividend, q + lo + shift - 7).
    """
    return saturate(round_shift(dividend * mant, p + shift), 8, narrow=True)


def divide_exact(dividend: int, divisor: int, shift: int) -> int:
    """Software mode to compare with: dividend / divisor * 2^(8 - shift), one rounding (ties toward +inf); 0 / 0 = 0."""
    if divisor == 0:
        return 0
    den = divisor << shift
    return saturate((2 * (dividend << 8) + den) // (2 * den), 8, narrow=True)


def divisor_uniform(d: int, m1: int, s1: int) -> int:
    """Software mode: the divisor on an 8-bit uniform grid, 0..255."""
    return min(255, round_shift(d * m1, s1))
