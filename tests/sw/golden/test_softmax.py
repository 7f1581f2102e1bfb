"""Softmax codes against arith.softmax_codes, both rules."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden.softmax import SoftmaxOp
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import Softmax


@pytest.mark.parametrize("rule", ["maxrel", "log2"])
@pytest.mark.parametrize("c,sc", [(739, 8), (1023, 0), (1, 15), (0, 3), (600, 7)])
def test_softmax(rule, c, sc):
    rng = np.random.default_rng(c)
    rows = rng.integers(-128, 128, (1, 10, 33))
    rows[0, 0], rows[0, 1] = -128, 127
    rows[0, 2, 0], rows[0, 2, 1:] = 127, -128
    rows[0, 3] = rng.integers(-5, 5, 33)
    rows[0, 4] = np.arange(33) - 16  # every small difference once
    node = Softmax(name="s", out=Ref("s"), x=Ref("x"), rule=rule, c=c, sc=sc)
    taps = {}
    got = SoftmaxOp(node)(torch.from_numpy(rows.astype(np.int8)), taps)
    number = arith.RULE_MAXREL if rule == "maxrel" else arith.RULE_LOG2
    for t in range(10):
        row = rows[0, t].tolist()
        assert got[0, t].tolist() == arith.softmax_codes(row, number, c, sc)
        if rule == "log2":
            total = sum(arith.softmax_sum_term(arith.softmax_u(i, max(row), c, sc)) for i in row)
            assert taps["s.L"][0, t] == arith.softmax_log2_sum(total)
