"""LayerNorm with Hardswish behind it: arith_trio.layernorm_hardswish, vectorised over rows."""

import numpy as np
import torch

from vitforge_hw.arch import arith

from ..graph.ir_trio import NormAct
from .exact import round_shift_
from .layernorm import rsqrt
from .linear import uniform


class NormActOp:
    """One prepared ``NormAct`` node: (B, T, C) int8 or 12-bit integers to int8 (B, T, C)."""

    def __init__(self, node: NormAct):
        self.node = node
        shift = node.shift.astype(np.int64)
        self.gamma = torch.from_numpy(node.gamma.astype(np.int64))
        self.beta = torch.from_numpy(node.beta.astype(np.int64) + ((np.int64(1) << shift) >> 1))
        self.shift = uniform(shift, torch.int64)

    def __call__(self, q: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        x, node = q.long(), self.node
        c = x.shape[-1]
        s1, s2 = x.sum(-1, keepdim=True), (x * x).sum(-1, keepdim=True)
        if taps is not None:
            taps[f"{node.name}.S1"], taps[f"{node.name}.S2"] = s1[..., 0], s2[..., 0]
        m, e = rsqrt(c * s2 - s1 * s1)
        z = round_shift_((c * x - s1) * m, (e - arith.LN_Z_FRAC).expand_as(x)).clamp_(-32768, 32767)
        p = z.mul_(self.gamma).add_(self.beta).bitwise_right_shift_(self.shift).clamp_(-2048, 2047)
        h = (p + node.q3).clamp_(0, node.q6).mul_(p)
        return round_shift_(h, node.s2).add_(node.offset).clamp_(-128, 127).to(torch.int8)
