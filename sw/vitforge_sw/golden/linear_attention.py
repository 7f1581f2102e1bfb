"""ReLU linear attention: K^T V, Q Z, divisors and the division (arith), every head at once."""

import numpy as np
import torch

from ..ops.key_value import KeyValue
from ..ops.linear_attention import LinearAttention
from .attend import row_factor
from .exact import matmul, round_shift_
from .layernorm import leading_one
from .post import PostOp


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, heads * dim) to (B, heads, T, dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def divisor_log2(d: torch.Tensor) -> torch.Tensor:
    """arith.divisor_log2 of positive int64."""
    i = leading_one(d)
    return i + torch.where(i > 0, (d >> (i - 1).clamp(min=0)) & 1, 0)


def divisor_factor(d: torch.Tensor, rule: str, lo: int) -> tuple[torch.Tensor, torch.Tensor]:
    """arith.divisor_factor of non-negative int64: (mant, p), (0, 0) for 0."""
    zero = d == 0
    if rule == "reciprocal":
        mant, p = row_factor(d)
    else:
        p = (divisor_log2(d.clamp(min=1)) - lo).clamp_(0, 15).add_(lo)
        mant = torch.full_like(p, 128)
    return mant.masked_fill(zero, 0), p.masked_fill(zero, 0)


class KeyValueOp(PostOp):
    """One prepared ``KeyValue`` node: k, v (B, T, C) int8 to Z (B, dim, C) int8."""

    def __init__(self, node: KeyValue, fmt: str, tokens: int):
        super().__init__(node, fmt)
        self.bound = tokens * 127 * 127

    def acc(self, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        heads = self.node.heads
        z = matmul(split_heads(k.clamp(min=0), heads).transpose(-1, -2), split_heads(v, heads), self.bound)
        return z.transpose(1, 2).flatten(2)


class LinearAttentionOp:
    """One prepared ``LinearAttention`` node: q (B, T, C), Z (B, dim, C), Ksum (B, 1, C) to int8 (B, T, C)."""

    def __init__(self, node: LinearAttention, channels: int):
        self.node = node
        self.bound = channels // node.heads * 127 * 127
        self.shift = torch.from_numpy(node.shift.astype(np.int64)).view(node.heads, -1)

    def acc(self, q: torch.Tensor, z: torch.Tensor, ksum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(dividend int32 (B, T, heads, dim), divisor int32 (B, T, heads, 1))."""
        heads = self.node.heads
        q = split_heads(q.clamp(min=0), heads)
        dividend = matmul(q, split_heads(z, heads), self.bound)
        divisor = matmul(q, split_heads(ksum, heads).transpose(-1, -2), self.bound)
        return dividend.transpose(1, 2), divisor.transpose(1, 2)

    def divide(self, dividend: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
        """int64 (B, T, heads, dim) in -127..127."""
        node, d = self.node, divisor.long()
        if node.rule in ("log2", "reciprocal"):
            mant, p = divisor_factor(d, node.rule, node.lo)
            return round_shift_(dividend.long() * mant, (p + self.shift).expand_as(dividend)).clamp_(-127, 127)
        if node.rule == "uniform8":
            d = round_shift_(d * node.m1, node.s1).clamp_(max=255)
        den = torch.bitwise_left_shift(d.clamp(min=1), self.shift)
        y = torch.div((dividend.long() << 9) + den, 2 * den, rounding_mode="floor").clamp_(-127, 127)
        return y.masked_fill_(d == 0, 0)

    def __call__(self, q: torch.Tensor, z: torch.Tensor, ksum: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        dividend, divisor = self.acc(q, z, ksum)
        if taps is not None:
            taps[f"{self.node.name}.acc"] = dividend.flatten(2)
            taps[f"{self.node.name}.divisor"] = divisor.flatten(2)
        return self.divide(dividend, divisor).flatten(2).to(torch.int8)
