"""Constants of the post-processing as the parameter entries hold them (isa.POST_PARAM_FIELDS)."""

import numpy as np
from numpy.typing import ArrayLike

from vitforge_hw.arch.isa import POST_PARAM_FIELDS

M1_ONE = 15  #: entries hold m1 = 2^15 + field and s1 = 15 + field
_S1_LIMIT = next((1 << f.bits) - 1 for f in POST_PARAM_FIELDS if f.name == "s1")  #: largest field: s1 = 46

Columns = tuple[np.ndarray, np.ndarray]


def power_shift(s1: ArrayLike) -> np.ndarray:
    """Field of a shift by s1 alone, 2^15 * 2^-(15 + s1).

    Beyond 31 it is 31: |acc + bias| < 2^26, so 0 < acc + bias + 2^30 < 2^31 and round_shift by 31 is 0, as by more.
    """
    return np.minimum(np.asarray(s1, dtype=np.int64), _S1_LIMIT)


def dyadic(layer: str, m1: np.ndarray | None, s1: np.ndarray, channels: int) -> Columns:
    """Fields of m1 * 2^-s1: m1 is shifted left to 16 bits and s1 raised with it, which changes no result. ``m1`` None:
    1.

    s1 > 46 becomes 46: |(acc + bias) m1| < 2^26 * 2^16 = 2^42, so adding 2^45 gives less than 2^46 and the shift 0, as
    by more.
    """
    if m1 is None:
        return np.zeros(channels, dtype=np.int64), power_shift(s1)
    m1 = np.broadcast_to(np.asarray(m1, dtype=np.int64), (channels,))
    s1 = np.broadcast_to(np.asarray(s1, dtype=np.int64), (channels,))
    if (m1 < 1).any() or (m1 >> (M1_ONE + 1)).any():
        at = int(np.argmax((m1 < 1) | (m1 >> (M1_ONE + 1) > 0)))
        raise ValueError(f"layer {layer}: m1 must be 1..{(2 << M1_ONE) - 1}, not {m1[at]} (channel {at})")
    left = M1_ONE + 1 - np.frexp(m1.astype(np.float64))[1]
    if (low := s1 + left < M1_ONE).any():
        at = int(np.argmax(low))
        raise ValueError(
            f"layer {layer}: m1 * 2^-s1 must be below 2, not {m1[at]} * 2^-{s1[at]} (channel {at}): "
            "the machine shifts right by 15 or more"
        )
    return (m1 << left) - (1 << M1_ONE), np.minimum(s1 + left - M1_ONE, _S1_LIMIT)


def addition(
    layer: str, eh: ArrayLike, er: ArrayLike, s2: ArrayLike, residual: bool, channels: int
) -> Columns:
    """Fields e and s2 of round_shift((h << eh) + (residual << er), s2).

    With a = min(eh, er) both addends are multiples of 2^a, so that s2 - a, eh - a, er - a give the same result where
    s2 >= a; of eh - a and er - a one is 0. Without a residual er does not count.
    """
    eh, er, s2 = (np.broadcast_to(np.asarray(v, dtype=np.int64), (channels,)) for v in (eh, er, s2))
    if not residual:
        return eh, s2
    common = np.minimum(eh, er)
    if (s2 < common).any():
        at = int(np.argmax(s2 < common))
        raise ValueError(
            f"layer {layer}: s2 must be at least min(eh, er), not {s2[at]} with eh = {eh[at]}, er = {er[at]} "
            f"(channel {at})"
        )
    return eh - er, s2 - common
