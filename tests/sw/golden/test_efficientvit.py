"""Operations of the EfficientViT family against arith: ties, extremes, odd sizes, zero divisors."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden.layernorm import LayerNormOp
from vitforge_sw.golden.linear_attention import KeyValueOp, LinearAttentionOp, divisor_factor
from vitforge_sw.golden.matmul import MatmulOp
from vitforge_sw.golden.spatial import DepthwiseOp, TokenSumOp
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum

SEED = 11
ACT = {"identity": arith.ACT_IDENTITY, "hardswish": arith.ACT_HARDSWISH}
CASES = ["plain", "hardswish", "hardswish uniform", "residual", "wide", "m2"]


def int8(rng, *shape, low=-128):
    x = rng.integers(low, 128, shape)
    x.flat[0], x.flat[-1] = low, 127
    return torch.from_numpy(x.astype(np.int8))


def constants(rng, n, case):
    draw = dict(
        bias=rng.integers(-(1 << 16), 1 << 16, n), m1=rng.integers(1, 1 << 16, n), s1=rng.integers(14, 24, n),
        eh=rng.integers(0, 4, n), er=rng.integers(0, 4, n), s2=rng.integers(0, 6, n), offset=rng.integers(-128, 128, n),
    )  # fmt: skip
    draw["m1"][0], draw["s1"][0], draw["bias"][0] = 1, 0, 0  # the power-of-two form
    if n > 2:
        draw["m1"][1], draw["s1"][1] = 65535, 47
    kw = dict(narrow=case == "plain")
    if case == "residual":
        kw["residual"] = Ref("r")
    if case.startswith("hardswish") or case == "m2":
        draw["s2"] = draw["s2"] + 10
        kw |= dict(act="hardswish", q3=341, q6=682)
    if case == "hardswish uniform":
        draw |= {f: np.full(n, v) for f, v in dict(m1=40001, s1=20, eh=0, s2=12, offset=-100, bias=77).items()}
    if case == "m2":
        kw["m2"] = rng.integers(1, 1 << 16, n).astype(np.int32)
        draw["s2"] = draw["s2"] + 12
    return {k: v.astype(np.int32) for k, v in draw.items()} | kw


def expected(node, acc, residual=None, bits=8):
    """acc (B, T, N) to the output, element by element."""
    out = np.empty(acc.shape, dtype=np.int64)
    for index in np.ndindex(acc.shape):
        c = index[-1]
        fields = {f: int(getattr(node, f)[c]) for f in ("bias", "m1", "s1", "eh", "er", "s2", "offset")}
        out[index] = arith.postprocess(
            int(acc[index]), act=ACT[node.act], q3=node.q3, q6=node.q6, m2=1 if node.m2 is None else int(node.m2[c]),
            residual=0 if residual is None else int(residual[index]), out_bits=bits, narrow=node.narrow, **fields,
        )  # fmt: skip
    return out.tolist()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("groups", [1, 3])
def test_pointwise(case, groups):
    rng = np.random.default_rng(SEED)
    n, k, t = 12, 9, 5
    node = Matmul(name="n", out=Ref("y"), x=Ref("x"), groups=groups, **constants(rng, n, case),
                     weight=rng.integers(-127, 128, (n, k // groups)).astype(np.int8))  # fmt: skip
    fmt = "int12" if case == "wide" else "int8"
    x = int8(rng, 2, t, k)
    r = int8(rng, 2, t, n) if case == "residual" else None
    op = MatmulOp(node, fmt, t)
    full = np.zeros((n, k), dtype=np.int64)
    for row in range(n):
        g = row // (n // groups)
        full[row, g * (k // groups) : (g + 1) * (k // groups)] = node.weight[row]
    acc = x.numpy().astype(np.int64) @ full.T
    assert op.acc(x).tolist() == acc.tolist()
    assert op(x, r).tolist() == expected(node, acc, r, 12 if fmt == "int12" else 8)


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height,width", [(4, 4), (5, 3), (1, 6), (7, 8)])
def test_depthwise(k, stride, height, width):
    rng = np.random.default_rng(SEED + k)
    c, pad = 3, -77
    node = Depthwise(name="n", out=Ref("y"), x=Ref("x"), weight=rng.integers(-127, 128, (c, k * k)).astype(np.int8),
                     kernel=k, stride=stride, pad=pad, **constants(rng, c, "hardswish"))  # fmt: skip
    x = int8(rng, 2, height * width, c)
    oh, ow = arith.conv_size(height, stride), arith.conv_size(width, stride)
    acc = np.empty((2, oh * ow, c), dtype=np.int64)
    for b, i, j, ch in np.ndindex(2, oh, ow, c):
        maps = x[b, :, ch].view(height, width).tolist()
        acc[b, i * ow + j, ch] = arith.depthwise(maps, node.weight[ch].reshape(k, k).tolist(), i, j, stride, pad)
    op = DepthwiseOp(node, "int8", height, width)
    assert op.acc(x).tolist() == acc.tolist()
    assert op(x).tolist() == expected(node, acc)


@pytest.mark.parametrize("keys", [False, True])
def test_sums_over_tokens(keys):
    rng = np.random.default_rng(SEED)
    x = int8(rng, 2, 49, 4)
    node = TokenSum(name="n", out=Ref("y"), x=Ref("x"), keys=keys, **constants(rng, 4, "plain"))
    read = x.numpy().astype(np.int64)
    acc = (np.maximum(read, 0) if keys else read).sum(1, keepdims=True)
    assert TokenSumOp(node, "int8")(x).tolist() == expected(node, acc)


@pytest.mark.parametrize("tokens", [1, 4, 196])
def test_key_value(tokens):
    rng = np.random.default_rng(SEED)
    heads, dim = 2, 4
    k, v = int8(rng, 2, tokens, 8), int8(rng, 2, tokens, 8, low=-127)
    node = KeyValue(name="n", out=Ref("z"), k=Ref("k"), v=Ref("v"), heads=heads, **constants(rng, 8, "plain"))
    acc = np.empty((2, dim, 8), dtype=np.int64)
    for b, d, c in np.ndindex(2, dim, 8):
        acc[b, d, c] = arith.key_value(k[b, :, c // dim * dim + d].tolist(), v[b, :, c].tolist())
    op = KeyValueOp(node, "int8", tokens)
    assert op.acc(k, v).tolist() == acc.tolist()
    assert op(k, v).tolist() == expected(node, acc)


@pytest.mark.parametrize("rule,lo", [("log2", 0), ("log2", 3), ("reciprocal", 0), ("exact", 0), ("uniform8", 0)])
def test_linear_attend(rule, lo):
    rng = np.random.default_rng(SEED)
    heads, dim, tokens, c = 2, 4, 24, 8
    q, z = int8(rng, 2, tokens, c), int8(rng, 2, dim, c, low=-127)
    ksum = int8(rng, 2, 1, c, low=0)
    q[0, 3] = -5  # divisor 0 and dividend 0
    ksum[0, 0, :dim] = 0  # divisor 0 with a non-zero dividend
    node = LinearAttention(name="n", out=Ref("y"), q=Ref("q"), z=Ref("z"), ksum=Ref("ksum"), heads=heads,
                           rule=rule, lo=lo, shift=rng.integers(0, 12, c).astype(np.int32),
                           m1=40000, s1=22)  # fmt: skip
    taps = {}
    got = LinearAttentionOp(node, c)(q, z, ksum, taps).tolist()
    for b, t, i in np.ndindex(2, tokens, c):
        h = i // dim
        query = q[b, t, h * dim : (h + 1) * dim].tolist()
        dividend = arith.query_product(query, z[b, :, i].tolist())
        divisor = arith.query_product(query, ksum[b, 0, h * dim : (h + 1) * dim].tolist())
        assert taps["n.acc"][b, t, i] == dividend and taps["n.divisor"][b, t, h] == divisor
        shift = int(node.shift[i])
        if rule in ("log2", "reciprocal"):
            code = arith.DIV_LOG2 if rule == "log2" else arith.DIV_RECIPROCAL
            want = arith.divide(dividend, *arith.divisor_factor(divisor, code, lo), shift)
        else:
            d = divisor if rule == "exact" else arith.divisor_uniform(divisor, node.m1, node.s1)
            want = arith.divide_exact(dividend, d, shift)
        assert got[b][t][i] == want
        if divisor == 0:
            assert want == 0


@pytest.mark.parametrize("rule,code", [("log2", arith.DIV_LOG2), ("reciprocal", arith.DIV_RECIPROCAL)])
def test_divisor_factor_of_every_small_and_many_large_divisors(rule, code):
    rng = np.random.default_rng(SEED)
    d = (
        list(range(5000))
        + [(1 << n) + o for n in range(13, 25) for o in (-1, 0, 1)]
        + rng.integers(0, 1 << 26, 3000).tolist()
    )
    for lo in (0, 4) if rule == "log2" else (0,):
        mant, p = divisor_factor(torch.tensor(d), rule, lo)
        assert list(zip(mant.tolist(), p.tolist())) == [arith.divisor_factor(i, code, lo) for i in d]


@pytest.mark.parametrize("top", [2047, 127, 0])
def test_norm_act(top):
    rng = np.random.default_rng(SEED)
    c = 40
    x = rng.integers(-top - 1, top + 1, (3, 1, c)) if top else np.full((3, 1, c), 9)
    x[0] = 5  # a constant row: V = 0
    node = LayerNorm(name="n", out=Ref("y"), x=Ref("x"), act="hardswish",
                     gamma=rng.integers(-32768, 32768, c).astype(np.int32),
                     beta=rng.integers(-(1 << 24), 1 << 24, c).astype(np.int32),
                     shift=rng.integers(12, 18, c).astype(np.int32), q3=300, q6=600, s2=11, offset=-101)  # fmt: skip
    got = LayerNormOp(node, 1)(torch.from_numpy(x.astype(np.int16))).tolist()
    fields = (node.gamma.tolist(), node.beta.tolist(), node.shift.tolist())
    want = [[arith.layernorm_hardswish(r[0].tolist(), *fields, q3=300, q6=600, s2=11, offset=-101)] for r in x]
    assert got == want
