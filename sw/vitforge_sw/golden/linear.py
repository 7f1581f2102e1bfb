"""PE array and post-processing: linear layers and attention scores (arith.postprocess)."""

import numpy as np
import torch

from vitforge_hw.arch import arith

from ..graph.ir import FORMATS, Linear, Scores
from .exact import matmul, round_shift_

_DTYPE = {"int8": torch.int8, "int12": torch.int16, "int16": torch.int16}


def uniform(values: np.ndarray, dtype=torch.int32) -> int | torch.Tensor:
    """One int where all channels agree (cheaper), else a tensor (N,)."""
    values = np.asarray(values)
    return int(values[0]) if (values == values[0]).all() else torch.from_numpy(values.astype(np.int64)).to(dtype)


def shift_left(x: torch.Tensor, n: int | torch.Tensor) -> torch.Tensor:
    return x if isinstance(n, int) and n == 0 else torch.bitwise_left_shift(x, n)


def gelu_table(exp: int) -> torch.Tensor:
    """arith.gelu of every 12-bit p: int32 (4096,), index p + 2048."""
    return torch.tensor([arith.gelu(p, exp) for p in range(-2048, 2048)], dtype=torch.int32)


def clipped_ends(node: Linear, fmt: str) -> tuple[bool, bool]:
    """Whether any accumulator can make the output saturate at its low, at its high end.

    GELU has a minimum, and a zero-point often puts it at the lowest code: the many values there are exact, not clipped.
    """
    if node.act != "gelu" or node.residual is not None:
        return True, True
    table = gelu_table(node.gelu_exp).numpy().astype(np.int64)
    ends = np.array([[table.min()], [table.max()]]) << node.eh.astype(np.int64)
    s2 = node.s2.astype(np.int64)
    y = ((ends + ((1 << s2) >> 1)) >> s2) + node.offset
    lo, hi, _ = FORMATS[fmt]
    return bool(y[0].min() < lo), bool(y[1].max() > hi)


class LinearOp:
    """One prepared ``Linear`` node. ``__call__(x, residual)``: (B, T, K) integers to (B, tokens, N)."""

    def __init__(self, node: Linear, fmt: str, tokens: int):
        self.node, self.tokens, self.dtype = node, tokens, _DTYPE[fmt]
        weight = node.weight.astype(np.int64)
        #: proven bound of every partial sum of |acc|, int8 inputs
        self.bound = 128 * int(np.abs(weight).sum(1).max())
        self.weight = torch.from_numpy(np.ascontiguousarray(weight.T))
        self.weight = self.weight.to(torch.float32 if self.bound <= 1 << 24 else torch.float64)
        assert self.bound + int(np.abs(node.bias).max()) < 1 << 26, node.name
        # |acc + bias| < 2^26: shifts of 30 and more give 0 alike
        self.s1 = uniform(np.minimum(node.s1, 30))
        s1 = np.minimum(np.asarray(node.s1, dtype=np.int64), 30)
        self.bias = torch.from_numpy(node.bias.astype(np.int64) + ((1 << s1) >> 1)).to(torch.int32)
        self.eh, self.er, self.s2 = uniform(node.eh), uniform(node.er), uniform(node.s2)
        self.offset = uniform(node.offset)
        lo, hi, _ = FORMATS[fmt]
        self.lo, self.hi = (-hi if node.narrow else lo), hi
        self.table = None
        if node.act == "gelu":
            self.table = gelu_table(node.gelu_exp)
            if all(isinstance(v, int) for v in (self.eh, self.s2, self.offset)) and node.residual is None:
                y = round_shift_(self.table << self.eh, self.s2).add_(self.offset).clamp_(self.lo, self.hi)
                self.table, self.whole = y.to(self.dtype), True
                return
        self.whole = False

    def acc(self, x: torch.Tensor) -> torch.Tensor:
        """The accumulators: int32 (B, tokens, N)."""
        if offset := self.node.token_offset:
            b, t, k = x.shape
            shifted = x.new_zeros(b, self.tokens, k)
            first = max(0, -offset)
            count = min(self.tokens - first, t - max(0, offset))
            shifted[:, first : first + count] = x[:, max(0, offset) : max(0, offset) + count]
            x = shifted
        return matmul(x[:, : self.tokens], self.weight, self.bound)

    def post(self, acc: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Post-processing of accumulators (overwritten): the output tensor."""
        p = acc.add_(self.bias).bitwise_right_shift_(self.s1).clamp_(-2048, 2047)
        if self.table is not None:
            h = self.table.index_select(0, p.add_(2048).view(-1)).view(p.shape)
            if self.whole:
                return h
        else:
            h = p
        h = shift_left(h, self.eh)
        if residual is not None:
            h = h + shift_left(residual[:, : self.tokens].to(torch.int32), self.er)
        y = round_shift_(h, self.s2)
        if not (isinstance(self.offset, int) and self.offset == 0):
            y = y.add_(self.offset)
        return y.clamp_(self.lo, self.hi).to(self.dtype)

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        return self.post(self.acc(x), residual)


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

    def __call__(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return self.post(self.acc(q, k))
