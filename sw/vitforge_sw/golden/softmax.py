"""Softmax chunk: rows of int8 scores to 4-bit codes (arith.softmax_codes), through tables over max - x = 0..255."""

import torch

from vitforge_hw.arch import arith
from vitforge_hw.arch.enums import CodeRule

from ..ops.softmax import Softmax
from .layernorm import leading_one

_LOG2 = torch.tensor(arith.LOG2_TABLE, dtype=torch.int64)


def log2_sum(s: torch.Tensor) -> torch.Tensor:
    """arith.softmax_log2_sum of int64 sums (S >= 2^16: the maximum's own term)."""
    n = leading_one(s)
    return ((n - 16) << 4) + _LOG2[(s >> (n - 6)) & 63]


class SoftmaxOp:
    """One prepared ``Softmax`` node: int8 scores (B, T, T) to codes uint8 (B, T, T)."""

    def __init__(self, node: Softmax):
        self.node, self.rule = node, CodeRule.of(node.rule)
        u = [arith.softmax_u(0, d, node.c, node.sc) for d in range(256)]
        self.u = torch.tensor(u, dtype=torch.int32)
        self.codes = torch.tensor([arith.maxrel_code(i) for i in u], dtype=torch.uint8)
        self.terms = torch.tensor([arith.softmax_sum_term(i) for i in u], dtype=torch.int32)

    def __call__(self, x: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        d = x.amax(-1, keepdim=True).to(torch.int32) - x
        index = d.view(-1)
        if self.rule == arith.RULE_MAXREL:
            return self.codes.index_select(0, index).view(x.shape)
        total = log2_sum(self.terms.index_select(0, index).view(x.shape).sum(-1, keepdim=True))
        if taps is not None:
            taps[f"{self.node.name}.L"] = total[..., 0]
        u = self.u.index_select(0, index).view(x.shape)
        return u.add_((total + 8).to(torch.int32)).bitwise_right_shift_(4).clamp_(max=15).to(torch.uint8)
