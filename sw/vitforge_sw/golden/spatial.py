"""Depthwise convolution and sums over tokens."""

import numpy as np
import torch

from vitforge_hw.arch import arith

from ..ops.depthwise import Depthwise
from ..ops.token_sum import TokenSum
from .post import PostOp


class DepthwiseOp(PostOp):
    """(B, H * W, C) int8 to (B, H' * W', C): a sum of shifted copies, in integers throughout."""

    def __init__(self, node: Depthwise, fmt: str, height: int, width: int):
        super().__init__(node, fmt)
        self.size = height, width
        self.out = [arith.conv_size(s, node.stride) for s in self.size]
        assert 128 * int(np.abs(node.weight.astype(np.int64)).sum(1).max()) < 1 << 31
        self.weight = torch.from_numpy(node.weight.astype(np.int32).T.copy())  # (k * k, C)

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        k, s, (h, w), (oh, ow) = self.node.kernel, self.node.stride, self.size, self.out
        r = k // 2
        c = x.shape[-1]
        full = torch.full((len(x), h + 2 * r, w + 2 * r, c), self.node.pad, dtype=torch.int32)
        full[:, r : r + h, r : r + w] = x.reshape(len(x), h, w, c)
        acc = torch.zeros(len(x), oh, ow, c, dtype=torch.int32)
        for tap in range(k * k):
            i, j = divmod(tap, k)
            acc.addcmul_(full[:, i : i + s * oh : s, j : j + s * ow : s][:, :oh, :ow], self.weight[tap])
        return acc.flatten(1, 2)


class TokenSumOp(PostOp):
    """(B, T, C) int8 to (B, 1, C): the exact sum over tokens, of keys behind ReLU."""

    def __init__(self, node: TokenSum, fmt: str):
        super().__init__(node, fmt)

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        return (x.clamp(min=0) if self.node.keys else x).sum(1, keepdim=True, dtype=torch.int32)
