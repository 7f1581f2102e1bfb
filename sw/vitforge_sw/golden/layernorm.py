"""LayerNorm chunk, with or without Hardswish behind it."""

import numpy as np
import torch

from vitforge_hw.arch import arith

from ..ops.layernorm import LayerNorm
from .exact import round_shift_
from .post import shift_left, uniform

_RSQRT = torch.tensor(arith.RSQRT_TABLE, dtype=torch.int64)


def leading_one(x: torch.Tensor) -> torch.Tensor:
    """Index of the most significant one of positive int64 below 2^53 (frexp of a float64 is exact there)."""
    return torch.frexp(x.double())[1].long() - 1


def rsqrt(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """arith.rsqrt of int64 (any shape): (m, e)."""
    one = v.clamp(min=1)
    k = leading_one(one) & ~1
    f = torch.where(k >= 16, one >> (k - 16).clamp(min=0), one << (16 - k).clamp(min=0))
    r0 = _RSQRT[(f >> 11) - 32]
    t = round_shift_(f * r0 * r0, 24)
    m = round_shift_(r0 * (3 * 65536 - t), 13).clamp_(max=65535)
    zero = v == 0
    return m.masked_fill(zero, 0), (16 + k // 2).masked_fill(zero, 16)


class LayerNormOp:
    """One prepared ``LayerNorm`` node: (B, T, C) int8 or 12-bit integers to int8 (B, tokens, C).

    arith.layernorm, or arith.layernorm_hardswish, vectorised over rows.
    """

    def __init__(self, node: LayerNorm, tokens: int):
        self.node, self.tokens = node, tokens
        self.a = 0 if node.a is None else uniform(node.a)
        self.gamma = torch.from_numpy(node.gamma.astype(np.int64))
        shift = np.asarray(node.shift, dtype=np.int64)
        self.beta = torch.from_numpy(node.beta.astype(np.int64) + ((1 << shift) >> 1))
        self.shift = uniform(shift, torch.int64)

    def stats(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x (B, T, C) int32, S1 and S2 (B, T, 1) int64."""
        x = shift_left(q[:, : self.tokens].to(torch.int32), self.a)
        return x, x.sum(-1, keepdim=True), (x * x).sum(-1, keepdim=True)

    def __call__(self, q: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        x, s1, s2 = self.stats(q)
        c = x.shape[-1]
        m, e = rsqrt(c * s2 - s1 * s1)
        if taps is not None:
            taps[f"{self.node.name}.S1"], taps[f"{self.node.name}.S2"] = s1[..., 0], s2[..., 0]
        shift = e - arith.LN_Z_FRAC
        # (C x - S1) m, rounded: the row's constants are gathered into one addend
        addend = (torch.bitwise_left_shift(torch.ones_like(shift), shift) >> 1) - s1 * m
        z = (x.long() * (m * c)).add_(addend).bitwise_right_shift_(shift).clamp_(-32768, 32767)
        y = z.mul_(self.gamma).add_(self.beta).bitwise_right_shift_(self.shift)
        if self.node.act == "hardswish":
            p = y.clamp_(-2048, 2047)
            h = (p + self.node.q3).clamp_(0, self.node.q6).mul_(p)
            y = round_shift_(h, self.node.s2).add_(self.node.offset)
        return y.clamp_(-128, 127).to(torch.int8)
