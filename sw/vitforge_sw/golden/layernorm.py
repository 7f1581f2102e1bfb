"""LayerNorm chunk, with or without Hardswish behind it."""

import numpy as np
import torch

from vitforge_hw.arch import arith

from ..ops.layernorm import LayerNorm
from .exact import round_shift_

_RSQRT = torch.tensor(arith.RSQRT_TABLE, dtype=torch.int64)
_STEPS = torch.tensor([2.0 ** (arith.LN_Z_FRAC - e) for e in range(64)], dtype=torch.float64)


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

    arith.layernorm, or arith.layernorm_hardswish, vectorised over rows. Integers are carried by float64: the largest,
    (C x - S1) m, stays below 2^41 and a rounding constant below 2^47; shifts are products with powers of two.
    """

    def __init__(self, node: LayerNorm, tokens: int):
        self.node, self.tokens = node, tokens
        self.scale = None if node.a is None or not node.a.any() else torch.from_numpy(2.0 ** node.a.astype(np.int64))
        shift = node.shift.astype(np.int64)
        self.gamma = torch.from_numpy(node.gamma * 2.0**-shift)
        self.beta = torch.from_numpy((node.beta.astype(np.int64) + ((np.int64(1) << shift) >> 1)) * 2.0**-shift)

    def stats(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x (B, T, C) float64, S1 and S2 (B, T, 1) int64."""
        x = q[:, : self.tokens].double()
        if self.scale is not None:
            x.mul_(self.scale)
        return x, x.sum(-1, keepdim=True).long(), (x * x).sum(-1, keepdim=True).long()

    def __call__(self, q: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        x, s1, s2 = self.stats(q)
        c = x.shape[-1]
        m, e = rsqrt(c * s2 - s1 * s1)
        if taps is not None:
            taps[f"{self.node.name}.S1"], taps[f"{self.node.name}.S2"] = s1[..., 0], s2[..., 0]
        step = _STEPS[e]  # z = (C x - S1) m step, rounded half up
        z = x.mul_(m * c * step).add_(0.5 - s1 * m * step).floor_().clamp_(-32768, 32767)
        y = z.mul_(self.gamma).add_(self.beta).floor_()
        if self.node.act == "hardswish":
            p = y.clamp_(-2048, 2047).to(torch.int32)
            h = (p + self.node.q3).clamp_(0, self.node.q6).mul_(p)
            y = round_shift_(h, self.node.s2).add_(self.node.offset)
        return y.clamp_(-128, 127).to(torch.int8)
