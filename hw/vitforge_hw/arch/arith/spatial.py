"""Depthwise convolution and average pooling of one channel."""

from typing import Any

from .post import postprocess


def conv_size(size: int, stride: int) -> int:
    """Output height or width of an odd kernel k padded by k // 2."""
    return (size - 1) // stride + 1


def depthwise(x: list[list[int]], weight: list[list[int]], row: int, col: int, stride: int, pad: int) -> int:
    """Accumulator of output pixel (row, col) of one channel: x[height][width], weight[k][k], k odd.

    Taps outside the map read ``pad``, the input's zero-point; the zero-point itself is corrected in the bias.
    """
    k, acc = len(weight), 0
    for i in range(k):
        for j in range(k):
            r, c = row * stride + i - k // 2, col * stride + j - k // 2
            inside = 0 <= r < len(x) and 0 <= c < len(x[0])
            acc += weight[i][j] * (x[r][c] if inside else pad)
    return acc


def pool(x: list[int], **post: Any) -> int:
    """Average pooling of one channel: the exact sum, then the post-processing with m1 * 2^-s1 ~ 1 / N folded in."""
    return postprocess(sum(x), **post)
