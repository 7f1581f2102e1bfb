"""Weights of fewer than eight bits in a file: as many bits each as ``weight_bits`` says, one after the other."""

import math

import numpy as np


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers in [-2^(bits-1), 2^(bits-1)) of any shape as uint8 (bytes,): two's complement, first bit first; the last
    byte is filled with zeros. ``bits``: 1 to 8."""
    codes = np.unpackbits(np.ascontiguousarray(values, dtype=np.int8).view(np.uint8)[..., None], axis=-1)
    return np.packbits(codes[..., 8 - bits :])


def unpack(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """int8 (shape) that ``pack`` makes ``packed`` of. ValueError: another number of bytes, or bits behind the end."""
    count = math.prod(shape)
    size = -(-count * bits // 8)
    if packed.dtype != np.uint8 or packed.shape != (size,):
        raise ValueError(f"must be uint8 ({size},) for {count} values of {bits} bits, is {packed.dtype} {packed.shape}")
    codes = np.unpackbits(packed)
    if codes[count * bits :].any():
        raise ValueError(f"must end in zeros behind {count} values of {bits} bits")
    raw = np.packbits(codes[: count * bits].reshape(*shape, bits), axis=-1).reshape(shape)
    return raw.view(np.int8) >> np.int8(8 - bits)
