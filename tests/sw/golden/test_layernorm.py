"""LayerNorm against arith.layernorm: constant rows, ties, extremes, PTF."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden.layernorm import LayerNormOp, leading_one, rsqrt
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import LayerNorm


def test_leading_one():
    values = sorted({v for k in range(53) for v in (1 << k, (1 << k) + 1, (2 << k) - 1) if v < 1 << 53})
    assert leading_one(torch.tensor(values)).tolist() == [v.bit_length() - 1 for v in values]


def test_rsqrt():
    rng = np.random.default_rng(0)
    values = [0, 1, 2, 3, 4, (1 << 42) - 1] + [int(2 ** rng.uniform(0, 42)) for _ in range(3000)]
    m, e = rsqrt(torch.tensor(values))
    assert list(zip(m.tolist(), e.tolist(), strict=True)) == [arith.rsqrt(v) for v in values]


@pytest.mark.parametrize(
    "c,lo,hi,ptf",
    [(48, -2048, 2047, False), (192, -2048, 2047, False), (24, -128, 127, True), (1024, -2048, 2047, False)],
)
def test_layernorm(c, lo, hi, ptf):
    rng = np.random.default_rng(c)
    rows = rng.integers(lo, hi + 1, (1, 7, c))
    rows[0, 0] = 5  # constant: V = 0
    rows[0, 1] = 0
    rows[0, 1, 0] = 1  # the smallest variance
    rows[0, 2, : c // 2], rows[0, 2, c // 2 :] = lo, hi
    rows[0, 3] = lo
    rows[0, 3, -1] = hi  # one outlier: z saturates or nearly
    rows[0, 4] = rng.integers(-1, 2, c)
    node = LayerNorm(
        name="n",
        out=Ref("n"),
        x=Ref("x"),
        gamma=rng.integers(-32768, 32768, c).astype(np.int32),
        beta=rng.integers(-(1 << 31), 1 << 31, c).astype(np.int32),
        shift=rng.integers(0, 48, c).astype(np.int32),
        a=(rng.integers(0, 4, c) if ptf else np.zeros(c)).astype(np.int32),
    )
    node.gamma[:2], node.beta[:2], node.shift[:2] = 1 << 10, 1 << 9, 11
    taps = {}
    got = LayerNormOp(node, 6)(torch.from_numpy(rows).to(torch.int8 if ptf else torch.int16), taps)
    lists = [v.tolist() for v in (node.a, node.gamma, node.beta, node.shift)]
    want = [arith.layernorm(rows[0, t].tolist(), *lists) for t in range(6)]
    assert got.shape == (1, 6, c) and got[0].tolist() == want
    for t in range(6):
        s1, s2, _ = arith.layernorm_stats([q << a for q, a in zip(rows[0, t].tolist(), lists[0], strict=True)])
        assert (taps["n.S1"][0, t], taps["n.S2"][0, t]) == (s1, s2)


def test_close_to_float_layernorm():
    """Independent of arith: in steps of 2^-5, off float LayerNorm by half a step and the tables' error."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(-2048, 2048, (3, 50, 192), generator=g) // torch.randint(1, 200, (1, 50, 1), generator=g)
    gamma, beta = torch.rand(192, generator=g) * 2, torch.randn(192, generator=g) * 0.3
    # y = (z 2^10 g + b) 2^-18 in steps of 2^-5
    g_int, b_int = (gamma * 2**13).round().int().numpy(), (beta * 2**23).round().int().numpy()
    node = LayerNorm(name="n", out=Ref("n"), x=Ref("x"), gamma=g_int, beta=b_int, shift=np.full(192, 18, np.int32))
    got = LayerNormOp(node, 50)(x.short()).float() / 32
    want = torch.nn.functional.layer_norm(x.float(), (192,), gamma, beta, eps=0)
    error = (got - want.clamp(-4, 127 / 32)).abs().max()
    assert error < 0.51 / 32 + 0.002, float(error) * 32
