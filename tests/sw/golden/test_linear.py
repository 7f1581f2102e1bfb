"""PE array and post-processing against arith.postprocess: ties, extremes, random constants."""

import dataclasses

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden.matmul import MatmulOp
from vitforge_sw.golden.scores import ScoresOp
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import Matmul, Scores
from vitforge_sw.ops.post import clipped_ends, gelu_table

ACT = {"identity": arith.ACT_IDENTITY, "gelu": arith.ACT_GELU}
BITS = {"int8": 8, "int12": 12}


def constants(rng, n, **fixed):
    draw = dict(
        bias=rng.integers(-(1 << 20), 1 << 20, n),
        s1=rng.integers(0, 16, n),
        eh=rng.integers(0, 5, n),
        er=rng.integers(0, 5, n),
        s2=rng.integers(0, 10, n),
        offset=rng.integers(-128, 128, n),
    )
    draw |= {key: np.full(n, value) for key, value in fixed.items()}
    return {key: value.astype(np.int32) for key, value in draw.items()}


def reference(node, fmt, acc, c, residual):
    return arith.postprocess(
        int(acc),
        bias=int(node.bias[c]),
        s1=int(node.s1[c]),
        act=ACT[node.act],
        gelu_exp=node.gelu_exp,
        eh=int(node.eh[c]),
        residual=int(residual),
        er=int(node.er[c]),
        s2=int(node.s2[c]),
        offset=int(node.offset[c]),
        out_bits=BITS[fmt],
        narrow=node.narrow,
    )


@pytest.mark.parametrize("act", ["identity", "gelu"])
@pytest.mark.parametrize("residual", [None, "int8", "int12", "int16"])
@pytest.mark.parametrize("fmt,narrow", [("int8", False), ("int8", True), ("int12", False)])
@pytest.mark.parametrize("uniform", [False, True])
def test_linear(act, residual, fmt, narrow, uniform):
    rng = np.random.default_rng(7)
    n, k, t, b = 12, 20, 5, 2
    fixed = dict(s1=5, eh=0, er=2, s2=3, offset=-100) if uniform else {}
    node = Matmul(
        name="n",
        out=Ref("y"),
        x=Ref("x"),
        weight=rng.integers(-127, 128, (n, k)).astype(np.int8),
        act=act,
        gelu_exp=int(rng.integers(3, 11)),
        narrow=narrow,
        residual=Ref("r") if residual else None,
        **constants(rng, n, **fixed),
    )
    x = rng.integers(-128, 128, (b, t, k))
    x[0, 0] = -128
    r = None
    if residual:
        top = {"int8": 128, "int12": 2048, "int16": 32768}[residual]
        r = rng.integers(-top, top, (b, t, n))
        r[0, 1], r[0, 2] = -top, top - 1
    op = MatmulOp(node, fmt, t)
    got = op(torch.from_numpy(x.astype(np.int8)), None if r is None else torch.from_numpy(r).to(torch.int16))
    acc = x @ node.weight.astype(np.int64).T
    assert op.acc(torch.from_numpy(x.astype(np.int8))).tolist() == acc.tolist()
    want = [
        [[reference(node, fmt, acc[i, j, c], c, 0 if r is None else r[i, j, c]) for c in range(n)] for j in range(t)]
        for i in range(b)
    ]
    assert got.tolist() == want


@pytest.mark.parametrize("s1", [0, 1, 4, 29, 30, 31, 47])
def test_ties_and_large_shifts(s1):
    """Accumulators at every half step, and the largest that the proof allows."""
    half = 1 << max(s1 - 1, 0)
    values = sorted(
        {-half - 1, -half, half - 1, half, 3 * half, -3 * half, (1 << 26) - 1 - 128, -(1 << 26) + 129, 0, 1, -1}
    )
    values = [v for v in values if abs(v) < (1 << 26) - 128]
    n = len(values)
    node = Matmul(
        name="n",
        out=Ref("y"),
        x=Ref("x"),
        weight=np.ones((n, 1), np.int8),
        **constants(np.random.default_rng(0), n, s1=s1, s2=0, eh=0, er=0, offset=0)
        | {"bias": np.array(values, np.int32)},
    )
    got = MatmulOp(node, "int12", 1)(torch.zeros(1, 1, 1, dtype=torch.int8))
    assert got[0, 0].tolist() == [reference(node, "int12", 0, c, 0) for c in range(n)]


def test_token_offset_and_first_tokens():
    rng = np.random.default_rng(3)
    node = Matmul(
        name="n",
        out=Ref("y"),
        x=Ref("x"),
        weight=rng.integers(-127, 128, (8, 4)).astype(np.int8),
        token_offset=-1,
        **constants(rng, 8),
    )
    x = torch.from_numpy(rng.integers(-128, 128, (2, 6, 4)).astype(np.int8))
    acc = MatmulOp(node, "int8", 7).acc(x)
    assert acc[:, 0].abs().sum() == 0
    plain = x.long() @ torch.from_numpy(node.weight.astype(np.int64)).T
    assert torch.equal(acc[:, 1:].long(), plain)
    node = dataclasses.replace(node, token_offset=0)
    assert MatmulOp(node, "int8", 1)(x).shape == (2, 1, 8)
    node = dataclasses.replace(node, token_offset=2)
    assert torch.equal(MatmulOp(node, "int8", 5).acc(x)[:, :4].long(), plain[:, 2:])


@pytest.mark.parametrize("exp", range(3, 11))
def test_gelu_table(exp):
    assert gelu_table(exp).tolist() == [arith.gelu(p, exp) for p in range(-2048, 2048)]


@pytest.mark.parametrize("s1,s2", [(0, 0), (7, 4), (3, 1), (12, 0)])
def test_scores(s1, s2):
    rng = np.random.default_rng(s1)
    q = rng.integers(-128, 128, (2, 5, 24))
    k = rng.integers(-127, 128, (2, 5, 24))
    q[0, 0], k[0, 0], k[0, 1] = -128, -127, 127
    node = Scores(name="s", out=Ref("s"), q=Ref("q"), k=Ref("k"), s1=s1, s2=s2)
    got = ScoresOp(node, 24)(torch.from_numpy(q.astype(np.int8)), torch.from_numpy(k.astype(np.int8)))
    want = [
        [[arith.postprocess(int(q[b, i] @ k[b, j]), bias=0, s1=s1, s2=s2) for j in range(5)] for i in range(5)]
        for b in range(2)
    ]
    assert got.tolist() == want


@pytest.mark.parametrize("exp, s2, offset", [(6, 0, -117), (6, 0, -118), (4, 3, -128), (9, 4, 0), (3, 6, -90)])
def test_clipped_ends(exp, s2, offset):
    """Against every p: GELU's minimum at the lowest code is exact, one step lower it is clipped."""
    c = dict(bias=0, s1=0, eh=0, er=0, s2=s2, offset=offset)
    c = {key: np.full(1, value, np.int32) for key, value in c.items()}
    weight = np.ones((1, 1), np.int8)
    node = Matmul(name="fc", out=Ref("fc"), x=Ref("x"), weight=weight, act="gelu", gelu_exp=exp, **c)
    every = ((gelu_table(exp) + ((1 << s2) >> 1)) >> s2) + offset
    assert clipped_ends(node, "int8") == (bool((every < -128).any()), bool((every > 127).any()))
