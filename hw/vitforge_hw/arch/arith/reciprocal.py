"""Reciprocal of a sum as an 8-bit mantissa and an exponent: row factors of attention, divisors."""

from .rounding import leading_one

RECIP_TABLE = tuple(min(255, (2 * 65536 * 2 + (513 + 2 * i)) // (2 * (513 + 2 * i))) for i in range(256))
#: mantissa of 1/x for x = 1 + (i + 0.5)/256: round(65536 / (256 + i + 0.5)), clipped to 8 bits
NO_FACTOR = (128, 15)  #: used instead of the row factor by the published log2 rule


def row_factor(w: int) -> tuple[int, int]:
    """``(mant, p)`` with 1/w ~ mant * 2^-(8 + p), mant 128..255, p = index of w's leading one; (128, 0) for w = 0."""
    if w == 0:
        return 128, 0
    p = leading_one(w)
    index = (w >> (p - 8) if p >= 8 else w << (8 - p)) & 255
    return RECIP_TABLE[index], p
