"""Attention x value against arith.attend: arbitrary codes, empty rows, extremes."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden.attend import AttendOp, row_factor
from vitforge_sw.golden.softmax import SoftmaxOp
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import Attend, Softmax


def test_row_factor():
    values = list(range(2048)) + [(1 << k) + d for k in range(11, 24) for d in (-1, 0, 1, 77)]
    mant, p = row_factor(torch.tensor(values))
    assert list(zip(mant.tolist(), p.tolist(), strict=True)) == [arith.row_factor(v) for v in values]


@pytest.mark.parametrize("rule,factor", [("maxrel", True), ("log2", True), ("log2", False)])
@pytest.mark.parametrize("shift", [0, 5, 8, 31])
@pytest.mark.parametrize("keys", [17, 511])
def test_attend(rule, factor, shift, keys):
    rng = np.random.default_rng(shift)
    codes = rng.integers(0, 16, (1, 8, keys))
    v = rng.integers(-128, 128, (1, keys, 6))
    v[0, :, 0], v[0, :, 1] = -128, 127
    codes[0, 0], codes[0, 1] = 0, 15
    codes[0, 2], codes[0, 2, 0] = 15, 14
    codes[0, 3] = 1
    got = AttendOp(Attend(name="a", out=Ref("a"), codes=Ref("c"), v=Ref("v"), rule=rule, shift=shift, factor=factor))(
        torch.from_numpy(codes.astype(np.uint8)), torch.from_numpy(v.astype(np.int8))
    )
    number = arith.RULE_MAXREL if rule == "maxrel" else arith.RULE_LOG2
    want = [
        [arith.attend(codes[0, t].tolist(), v[0, :, c].tolist(), number, shift, factor) for c in range(6)]
        for t in range(8)
    ]
    assert got[0].tolist() == want


@pytest.mark.parametrize("rule,factor,floor", [("maxrel", True, 21), ("log2", True, 14.5), ("log2", False, 13.5)])
def test_close_to_float_attention(rule, factor, floor):
    """Independent of arith: softmax and attention x value against float, 197 keys."""
    g = torch.Generator().manual_seed(0)
    scores = (torch.randn(2, 197, 197, generator=g) * 12).round().clamp(-128, 127)
    v = torch.randint(-128, 128, (2, 197, 64), generator=g)
    c, sc = round(16 * 1.4426950408889634 * 0.125 * 2**8), 8
    codes = SoftmaxOp(Softmax(name="s", out=Ref("s"), x=Ref("x"), rule=rule, c=c, sc=sc))(scores.to(torch.int8))
    shift = 8 if factor else 7  # outputs in v's steps
    got = AttendOp(Attend(name="a", out=Ref("a"), codes=Ref("c"), v=Ref("v"), rule=rule, shift=shift, factor=factor))(
        codes, v.to(torch.int8)
    ).double()
    want = torch.softmax(scores.double() * 0.125, -1) @ v.double()
    sqnr = 10 * torch.log10(want.square().sum() / (got - want).square().sum())
    assert sqnr > floor, float(sqnr)
