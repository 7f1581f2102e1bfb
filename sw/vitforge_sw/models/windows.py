"""Overlapping windows: the input bytes of a model whose first layer is a padded convolution (EfficientViT's stem).

The host packs the 27 values of each 3 x 3 window, so the first layer is a matrix product. Padding holds the byte
nearest to the mean, round(255 * mean) - 128: what the float model pads with zero after normalisation. numpy only.
"""

import numpy as np


def window_count(size: int, kernel: int, stride: int, padding: int) -> int:
    """Windows along one side."""
    return (size + 2 * padding - kernel) // stride + 1


def pad_bytes(mean: tuple[float, ...]) -> np.ndarray:
    """int8 (C,): the padding byte of each channel."""
    return np.array([int(np.floor(255 * m + 0.5)) - 128 for m in mean], dtype=np.int8)


def pixels_to_windows(
    pixels: np.ndarray, kernel: int, stride: int, padding: int, mean: tuple[float, ...]
) -> np.ndarray:
    """uint8 (H, W, C) to int8 (windows, C * kernel^2): pixel - 128 in the order (channel, row, column) of
    ``conv.weight.reshape(N, -1)``, windows row by row."""
    h, w, c = pixels.shape
    x = np.empty((h + 2 * padding, w + 2 * padding, c), dtype=np.int8)
    x[:] = pad_bytes(mean)
    x[padding : padding + h, padding : padding + w] = (pixels.astype(np.int16) - 128).astype(np.int8)
    view = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(0, 1))[::stride, ::stride]
    return np.ascontiguousarray(view).reshape(-1, c * kernel**2)


def windows_to_pixels(
    windows: np.ndarray, size: int, channels: int, kernel: int, stride: int, padding: int
) -> np.ndarray:
    """The inverse: int8 (B, windows, C * kernel^2) to int8 (B, C, size, size); needs kernel >= stride."""
    n = window_count(size, kernel, stride, padding)
    x = windows.reshape(-1, n, n, channels, kernel, kernel)
    at = np.minimum((np.arange(size) + padding) // stride, n - 1)
    inside = np.arange(size) + padding - stride * at
    assert inside.max() < kernel, "windows do not cover the image"
    rows = x[:, at, :, :, inside]  # advanced indices apart: (size, B, n, C, kernel)
    return np.ascontiguousarray(rows[:, :, at, :, inside].transpose(2, 3, 1, 0))
