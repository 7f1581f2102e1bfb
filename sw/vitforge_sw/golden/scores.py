"""Attention scores: the PE array with keys as weights."""

import torch

from ..ops.scores import Scores
from .exact import matmul, round_shift_


class ScoresOp:
    """One prepared ``Scores`` node: q (B, T, d) and k (B, T, d) int8 to int8 (B, T, T)."""

    def __init__(self, node: Scores, channels: int):
        self.node = node
        self.bound = channels * 128 * 128

    def acc(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return matmul(q, k.transpose(1, 2), self.bound)

    def post(self, acc: torch.Tensor) -> torch.Tensor:
        p = round_shift_(acc, min(self.node.s1, 30)).clamp_(-2048, 2047)
        return round_shift_(p, self.node.s2).clamp_(-128, 127).to(torch.int8)

    def __call__(self, q: torch.Tensor, k: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        acc = self.acc(q, k)
        if taps is not None:
            taps[f"{self.node.name}.acc"] = acc.clone()
        return self.post(acc)
