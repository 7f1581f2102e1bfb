"""Shifter array: 4-bit codes x values, row factor, re-quantization (arith.attend)."""

import torch

from vitforge_hw.arch import arith
from vitforge_hw.arch.enums import CodeRule

from ..ops.attend import Attend
from .exact import matmul, round_shift_
from .layernorm import leading_one

_RECIP = torch.tensor(arith.RECIP_TABLE, dtype=torch.int64)


def row_factor(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """arith.row_factor of int64 weight sums: (mant, p)."""
    one = w.clamp(min=1)
    p = leading_one(one)
    index = torch.where(p >= 8, one >> (p - 8).clamp(min=0), one << (8 - p).clamp(min=0)) & 255
    zero = w == 0
    return _RECIP[index].masked_fill(zero, 128), p.masked_fill(zero, 0)


class AttendOp:
    """One prepared ``Attend`` node: codes (B, T, keys) and v (B, keys, d) int8 to int8 (B, T, d)."""

    def __init__(self, node: Attend):
        self.node = node
        self.weights = torch.tensor(
            [arith.code_weight(q, CodeRule.of(node.rule)) for q in range(16)], dtype=torch.float32
        )

    def acc(self, codes: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(accumulators int32, weight sums int64 (B, T, 1)). The sums bound every partial sum: |v| <= 128."""
        w = self.weights.index_select(0, codes.view(-1).to(torch.int32)).view(codes.shape)
        # 511 weights of at most 2^15 sum to less than 2^24: the sum is exact in float32
        total = w.sum(-1, keepdim=True).long()
        return matmul(w, v, 128 * int(total.max())), total

    def __call__(self, codes: torch.Tensor, v: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        acc, total = self.acc(codes, v)
        if taps is not None:
            taps[f"{self.node.name}.acc"] = acc
        if self.node.factor:
            mant, p = row_factor(total)
            y = round_shift_(acc.long().mul_(mant), p + self.node.shift)
        else:
            mant, p = arith.NO_FACTOR
            y = round_shift_(acc.long().mul_(mant), p + self.node.shift)
        return y.clamp_(-128, 127).to(torch.int8)
