"""Rounding and saturation."""


def round_shift(x: int, n: int) -> int:
    """``x * 2**-n`` rounded half up (ties toward +inf); a left shift for negative ``n``."""
    if n > 0:
        return (x + (1 << (n - 1))) >> n
    return x << -n


def saturate(x: int, bits: int, narrow: bool = False) -> int:
    """Clip to a signed number of ``bits`` bits; ``narrow`` leaves out the most negative value."""
    hi = (1 << (bits - 1)) - 1
    return max(-hi if narrow else -hi - 1, min(hi, x))


def leading_one(x: int) -> int:
    """Index of the most significant one of ``x > 0``."""
    assert x > 0
    return x.bit_length() - 1
