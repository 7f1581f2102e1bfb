"""Pointwise, depthwise, pooling and token sums with the dyadic post-processing (arith_trio.postprocess)."""

import numpy as np
import torch

from vitforge_hw.arch import arith_trio

from ..graph.ir import FORMATS
from ..graph.ir_trio import Depthwise, KeySum, Pointwise, Pool, Post
from .exact import carrier, matmul, round_shift_
from .linear import shift_left, uniform

_DTYPE = {"int8": torch.int8, "int12": torch.int16}


class PostOp:
    """Post-processing of one node: accumulators int32 (B, T, N) to the output format."""

    def __init__(self, node: Post, fmt: str):
        self.node, self.dtype = node, _DTYPE[fmt]
        m1, s1 = node.m1.astype(np.int64), node.s1.astype(np.int64)
        # (acc + bias) m1 + half: below 2^42 + 2^46
        addend = node.bias.astype(np.int64) * m1 + ((np.int64(1) << s1) >> 1)
        self.m1, self.s1 = uniform(m1, torch.int64), uniform(s1, torch.int64)
        self.addend = uniform(addend, torch.int64)
        self.eh, self.er, self.s2 = uniform(node.eh), uniform(node.er), uniform(node.s2)
        self.offset = uniform(node.offset)
        self.m2 = None if node.m2 is None else torch.from_numpy(node.m2.astype(np.int64))
        lo, hi, _ = FORMATS[fmt]
        self.lo, self.hi = (-hi if node.narrow else lo), hi

    def post(self, acc: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        p = acc.long().mul_(self.m1).add_(self.addend).bitwise_right_shift_(self.s1)
        h = p.clamp_(-2048, 2047).to(torch.int32)
        if self.node.act == "hardswish":
            h = (h + self.node.q3).clamp_(0, self.node.q6).mul_(h)
        if self.m2 is not None:  # software ablation: 24 + 16 bits
            y = round_shift_(shift_left(h.long() * self.m2, self.eh), self._long(self.s2))
        else:
            h = shift_left(h, self.eh)
            if residual is not None:
                h = h + shift_left(residual.to(torch.int32), self.er)
            y = round_shift_(h, self.s2)
        if not (isinstance(self.offset, int) and self.offset == 0):
            y = y.add_(self.offset)
        return y.clamp_(self.lo, self.hi).to(self.dtype)

    @staticmethod
    def _long(n):
        return n if isinstance(n, int) else n.long()

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None, taps: dict | None = None) -> torch.Tensor:
        acc = self.acc(x)
        if taps is not None:
            taps[f"{self.node.name}.acc"] = acc.clone()
        return self.post(acc, residual)


class PointwiseOp(PostOp):
    """(B, T, K) int8 to (B, T, N); groups as one batched product."""

    def __init__(self, node: Pointwise, fmt: str):
        super().__init__(node, fmt)
        weight = node.weight.astype(np.int64)
        #: proven bound of every partial sum, int8 inputs
        self.bound = 128 * int(np.abs(weight).sum(1).max())
        kept = torch.from_numpy(weight).view(node.groups, -1, weight.shape[1]).transpose(1, 2).contiguous()
        self.weight = kept.to(carrier(self.bound))

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        g = self.node.groups
        if g == 1:
            return matmul(x, self.weight[0], self.bound)
        y = matmul(x.unflatten(-1, (g, -1)).transpose(1, 2), self.weight, self.bound)
        return y.transpose(1, 2).flatten(2)


class DepthwiseOp(PostOp):
    """(B, H * W, C) int8 to (B, H' * W', C): a sum of shifted copies, in integers throughout."""

    def __init__(self, node: Depthwise, fmt: str, height: int, width: int):
        super().__init__(node, fmt)
        self.size = height, width
        self.out = [arith_trio.conv_size(s, node.stride) for s in self.size]
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


class PoolOp(PostOp):
    """(B, T, C) int8 to (B, 1, C): the exact sum over pixels."""

    def __init__(self, node: Pool, fmt: str):
        super().__init__(node, fmt)

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True, dtype=torch.int32)


class KeySumOp(PostOp):
    """(B, T, C) int8 keys to Ksum (B, 1, C)."""

    def __init__(self, node: KeySum, fmt: str):
        super().__init__(node, fmt)

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0).sum(1, keepdim=True, dtype=torch.int32)
