"""The signature over program, weights and constants: what the hardware checks while it loads them.

A signature is 32 bits, 0 before the first beat. A beat's words of 32 bits, word i rotated left by ROTATE * i, are
combined by exclusive or; the signature is multiplied by x^SHIFT modulo POLYNOMIAL (primitive) and combined with that.
No single wrong bit and no exchange of two words goes unnoticed, anything else with a probability of 2^-32.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

POLYNOMIAL = 0x04C11DB7  #: without x^32
ROTATE = 7  #: odd: the words of a beat all lie differently
SHIFT = 16  #: with it no word of a beat lies as one of the next beat, turned further, does
BITS = 32
_MASK = (1 << BITS) - 1


def rotate(value: int, count: int) -> int:
    """32 bits rotated left."""
    count %= BITS
    return (value << count | value >> (BITS - count)) & _MASK


def times_x(value: int) -> int:
    """Times x."""
    return (value << 1 & _MASK) ^ (POLYNOMIAL if value >> (BITS - 1) else 0)


def over_x(value: int) -> int:
    """The inverse of :func:`times_x` (the polynomial's lowest bit is 1)."""
    return (value ^ POLYNOMIAL) >> 1 | 1 << (BITS - 1) if value & 1 else value >> 1


def _repeat(function: Callable[[int], int], value: int) -> int:
    for _ in range(SHIFT):
        value = function(value)
    return value


@functools.cache
def overflow() -> tuple[int, ...]:
    """What the upper SHIFT bits become; entry 2^i is one of them alone."""
    table = [0]
    for i in range(SHIFT):
        one = _repeat(times_x, 1 << (BITS - SHIFT + i))
        table += [one ^ value for value in table]
    return tuple(table)


def step(signature: int) -> int:
    """Times x^SHIFT."""
    return (signature << SHIFT & _MASK) ^ overflow()[signature >> (BITS - SHIFT)]


def step_back(signature: int) -> int:
    """The inverse of :func:`step`."""
    return _repeat(over_x, signature)


def fold(data: bytes, beat_bytes: int) -> Sequence[int]:
    """Each beat's words combined."""
    words = np.frombuffer(data, "<u4").reshape(-1, beat_bytes // 4).astype(np.uint64)
    counts = np.arange(beat_bytes // 4, dtype=np.uint64) * np.uint64(ROTATE) % np.uint64(BITS)
    turned = (words << counts | words >> (np.uint64(BITS) - counts)) & np.uint64(_MASK)
    return np.bitwise_xor.reduce(turned, axis=1).tolist()


def signature(data: bytes, beat_bytes: int) -> int:
    """Of whole beats."""
    value = 0
    if data.count(0) == len(data):  # zero stays zero: what a model's shapes weigh
        return value
    for word in fold(data, beat_bytes):
        value = step(value) ^ word
    return value


def balance(data: bytes, beat_bytes: int, word: int) -> int:
    """What word ``word`` of the first beat, 0 in ``data``, must be so that the whole has signature 0."""
    value = signature(data, beat_bytes)
    for _ in range(len(data) // beat_bytes - 1):
        value = step_back(value)
    return rotate(value, -ROTATE * word)
