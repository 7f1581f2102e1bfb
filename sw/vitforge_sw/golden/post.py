"""Post-processing of an engine's accumulators (arith.postprocess), vectorised."""

import numpy as np
import torch

from ..graph.ir import FORMATS
from ..ops.post import Post, gelu_table
from .exact import round_shift_

DTYPES = {"int8": torch.int8, "int12": torch.int16, "int16": torch.int16, "code4": torch.uint8}


def uniform(values: np.ndarray, dtype=torch.int32) -> int | torch.Tensor:
    """One int where all channels agree (cheaper), else a tensor (N,)."""
    values = np.asarray(values)
    return int(values[0]) if (values == values[0]).all() else torch.from_numpy(values.astype(np.int64)).to(dtype)


def shift_left(x: torch.Tensor, n: int | torch.Tensor) -> torch.Tensor:
    return x if isinstance(n, int) and n == 0 else torch.bitwise_left_shift(x, n)


class PostOp:
    """One prepared engine operation: ``acc(*inputs)`` by the subclass, int32 (B, T, N), then ``post``."""

    def __init__(self, node: Post, fmt: str):
        self.node, self.dtype = node, DTYPES[fmt]
        m1, s1 = (None if v is None else v.astype(np.int64) for v in (node.m1, node.s1))
        bias = node.bias.astype(np.int64)
        self.m1: int | torch.Tensor | None = None
        if m1 is None or (m1 == 1).all():  # powers of two: 32 bits suffice
            # |acc + bias| < 2^26: shifts of 30 and more give 0 alike
            s1 = np.minimum(s1, 30)
            self.s1 = uniform(s1)
            self.addend = torch.from_numpy(bias + ((1 << s1) >> 1)).to(torch.int32)
        else:  # (acc + bias) m1 + half: below 2^42 + 2^46
            self.m1, self.s1 = uniform(m1, torch.int64), uniform(s1, torch.int64)
            self.addend = uniform(bias * m1 + ((np.int64(1) << s1) >> 1), torch.int64)
        self.eh, self.er, self.s2 = uniform(node.eh), uniform(node.er), uniform(node.s2)
        self.offset = uniform(node.offset)
        self.m2 = None if node.m2 is None else torch.from_numpy(node.m2.astype(np.int64))
        lo, hi, _ = FORMATS[fmt]
        self.lo, self.hi = (-hi if node.narrow else lo), hi
        self.table, self.whole = None, False
        if node.act == "gelu":
            self.table = torch.from_numpy(gelu_table(node.gelu_exp)).to(torch.int32)
            one = all(isinstance(v, int) for v in (self.eh, self.s2, self.offset))
            if one and node.residual is None and node.m2 is None:  # the table holds y
                y = round_shift_(self.table << self.eh, self.s2).add_(self.offset).clamp_(self.lo, self.hi)
                self.table, self.whole = y.to(self.dtype), True

    def _p(self, acc: torch.Tensor) -> torch.Tensor:
        """The 12-bit p, int32; ``acc`` may be overwritten."""
        if self.m1 is None:
            return acc.add_(self.addend).bitwise_right_shift_(self.s1).clamp_(-2048, 2047)
        p = acc.long().mul_(self.m1).add_(self.addend).bitwise_right_shift_(self.s1)
        return p.clamp_(-2048, 2047).to(torch.int32)

    def post(self, acc: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Post-processing of accumulators (overwritten): the output tensor."""
        h = self._p(acc)
        if self.table is not None:
            h = self.table.index_select(0, h.add_(2048).view(-1)).view(h.shape)
            if self.whole:
                return h
        elif self.node.act == "relu":
            h = h.clamp_(min=0)
        elif self.node.act == "hardswish":
            h = (h + self.node.q3).clamp_(0, self.node.q6).mul_(h)
        if self.m2 is not None:  # software ablation: 24 + 16 bits
            s2 = self.s2 if isinstance(self.s2, int) else self.s2.long()
            y = round_shift_(shift_left(h.long() * self.m2, self.eh), s2)
        else:
            h = shift_left(h, self.eh)
            if residual is not None:
                h = h + shift_left(residual[:, : h.shape[1]].to(torch.int32), self.er)
            y = round_shift_(h, self.s2)
        if not (isinstance(self.offset, int) and self.offset == 0):
            y = y.add_(self.offset)
        return y.clamp_(self.lo, self.hi).to(self.dtype)

    def acc(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The accumulators: int32 (B, tokens, N)."""
        raise NotImplementedError

    def __call__(self, *inputs: torch.Tensor, taps: dict | None = None) -> torch.Tensor:
        """Inputs as the node lists them, a residual last. ``taps`` receives ``NODE.acc``."""
        residual = None if self.node.residual is None else inputs[-1]
        acc = self.acc(*inputs[: len(self.node.READS)])
        if taps is not None:
            taps[f"{self.node.name}.acc"] = acc.clone()
        return self.post(acc, residual)
