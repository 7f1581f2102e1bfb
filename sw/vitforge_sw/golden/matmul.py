"""Matrix products with weights: PE array and R-MAC in down-forward accumulation."""

import numpy as np
import torch

from vitforge_hw.arch.config import ACC_BITS

from ..ops.matmul import Matmul
from .exact import carrier, int8_products, matmul
from .post import PostOp


class MatmulOp(PostOp):
    """One prepared ``Matmul``: (B, T, K) int8 to (B, tokens, N); groups as one batched product."""

    def __init__(self, node: Matmul, fmt: str, tokens: int):
        super().__init__(node, fmt)
        self.tokens = tokens
        weight = node.weight.astype(np.int64)
        #: proven bound of every partial sum of |acc|, int8 inputs
        self.bound = 128 * int(np.abs(weight).sum(1).max())
        assert self.bound + int(np.abs(node.bias).max()) < 1 << ACC_BITS - 1, node.name
        kept = torch.from_numpy(weight).view(node.groups, -1, weight.shape[1])
        if node.groups == 1 and int8_products():  # rows of weights stay rows: no copy
            self.weight = kept.to(torch.int8).transpose(1, 2)
        else:
            self.weight = kept.transpose(1, 2).contiguous().to(carrier(self.bound))

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        """The accumulators: int32 (B, tokens, N)."""
        if offset := self.node.token_offset:
            b, t, k = x.shape
            shifted = x.new_zeros(b, self.tokens, k)
            first = max(0, -offset)
            count = min(self.tokens - first, t - max(0, offset))
            shifted[:, first : first + count] = x[:, max(0, offset) : max(0, offset) + count]
            x = shifted
        x, g = x[:, : self.tokens], self.node.groups
        if g == 1:
            return matmul(x, self.weight[0], self.bound)
        y = matmul(x.unflatten(-1, (g, -1)).transpose(1, 2), self.weight, self.bound)
        return y.transpose(1, 2).flatten(2)
