"""Weight rows and parameter entries: read back as the machine reads them, against arith."""

import numpy as np
import pytest

from vitforge_hw.arch import arith
from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import LN_PARAM_FIELDS, PARAM_BYTES, POST_PARAM_FIELDS, unpack
from vitforge_sw.compiler.program.parameters import depthwise_rows, layernorm_params, post_params, weight_rows
from vitforge_sw.graph.ir import Ref
from vitforge_sw.ops import LayerNorm, LinearAttention, Matmul, Scores

TRIO, TINY, P2VIT = PRESETS["trio"], PRESETS["tiny_hybrid"], PRESETS["p2vit"]
LIMIT = (1 << 26) - 1
NONE = np.zeros((1, 1), dtype=np.int8)  #: weights are no parameters


def entries(data, fields=POST_PARAM_FIELDS):
    words = data.reshape(-1, PARAM_BYTES)
    return [unpack(fields, int.from_bytes(w.tobytes(), "little")) for w in words]


def machine(e, acc, residual, **kw):
    """What a post-processing lane computes from an entry."""
    return arith.postprocess(
        acc, bias=e["bias"], m1=(1 << 15) + e["m1"], s1=15 + e["s1"], eh=max(e["e"], 0), er=max(-e["e"], 0), s2=e["s2"],
        offset=e["offset"], residual=residual, **kw,
    )  # fmt: skip


def accumulators(rng, bias):
    """Sums that the bounds allow: |acc + bias| < 2^26."""
    some = (rng.integers(-LIMIT, LIMIT + 1, 60) >> rng.integers(0, 26, 60)).tolist()
    return [max(-LIMIT, min(LIMIT, a)) - bias for a in [*some, LIMIT, -LIMIT, 0]]


def columns(rng, n, **more):
    low = rng.integers(0, 4, n)
    bias = rng.integers(-(1 << 25), 1 << 25, n) >> rng.integers(0, 26, n)
    return dict(bias=bias, s1=rng.integers(0, 48, n), eh=low + rng.integers(0, 10, n), er=low + rng.integers(0, 10, n),
                s2=rng.integers(13, 32, n), offset=rng.integers(-128, 128, n)) | more  # fmt: skip


@pytest.mark.parametrize("residual", [None, Ref("r")])
def test_powers_of_two(residual):
    rng = np.random.default_rng(1)
    n = 37
    c = columns(rng, n)
    node = Matmul(name="l", out=Ref("y"), x=Ref("x"), weight=NONE, residual=residual, **c)
    found = entries(post_params(node, n, P2VIT))
    assert len(found) == 48 and found[n:] == [dict.fromkeys(found[0], 0)] * 11
    for i in range(n):
        f = {k: int(v[i]) for k, v in c.items()}
        for acc in accumulators(rng, f["bias"]):
            r = int(rng.integers(-2048, 2048)) if residual else 0
            assert machine(found[i], acc, r, out_bits=12) == arith.postprocess(acc, residual=r, out_bits=12, **f)


def test_scores():
    node = Scores(name="s", out=Ref("y"), q=Ref("q"), k=Ref("k"), s1=40, s2=3)
    found = entries(post_params(node, 17, P2VIT))
    assert found[16]["s1"] == 31 and found[0]["s2"] == 3 and found[17]["s2"] == 0


@pytest.mark.parametrize("residual", [None, Ref("r")])
@pytest.mark.parametrize("act", [arith.ACT_IDENTITY, arith.ACT_HARDSWISH])
def test_dyadic(residual, act):
    rng = np.random.default_rng(2)
    n = 50
    m1 = rng.integers(1, 1 << 16, n) >> rng.integers(0, 16, n)
    m1[:4] = 1, 65535, 32768, 1
    m1 = np.maximum(m1, 1)
    # gains below 2: s1 at least 15 after the multiplier has 16 bits
    c = columns(rng, n, m1=m1)
    c["s1"] = np.clip(c["s1"] // 2 + 8, np.floor(np.log2(m1)).astype(int), 47)
    c["s1"][:4] = 0, 47, 15, 47
    node = Matmul(name="l", out=Ref("y"), x=Ref("x"), weight=NONE, residual=residual, **c)
    found = entries(post_params(node, n, TRIO))
    kw = dict(act=act, q3=300, q6=601, out_bits=8)
    for i in range(n):
        f = {k: int(v[i]) for k, v in c.items()}
        for acc in accumulators(rng, f["bias"]):
            r = int(rng.integers(-2048, 2048)) if residual else 0
            assert machine(found[i], acc, r, **kw) == arith.postprocess(acc, residual=r, **f, **kw)


def test_what_entries_cannot_hold():
    one = {k: np.zeros(3, dtype=int) for k in ("bias", "eh", "er", "s2", "offset")} | dict(
        m1=np.full(3, 40000), s1=np.full(3, 20)
    )

    def node(residual=None, **change):
        values = {k: v.copy() for k, v in one.items()}
        for k, v in change.items():
            values[k][1] = v
        return Matmul(name="the.layer", out=Ref("y"), x=Ref("x"), weight=NONE, residual=residual, **values)

    for change, text in (
        (dict(s1=14), r"m1 \* 2\^-s1 must be below 2, not 40000 \* 2\^-14 \(channel 1\)"),
        (dict(m1=0), r"m1 must be 1..65535, not 0 \(channel 1\)"),
        (dict(bias=1 << 25), r"bias must be in -33554432..33554431, not 33554432 \(channel 1\)"),
        (dict(eh=3, er=2, s2=1, residual=Ref("r")), r"s2 must be at least min\(eh, er\), not 1 with eh = 3, er = 2"),
    ):
        with pytest.raises(ValueError, match="layer the.layer: " + text):
            post_params(node(**change), 3, TRIO)
    post_params(node(eh=3, er=2, s2=1), 3, TRIO)  # er does not count without a residual


def test_division_and_layernorm():
    shift = np.arange(16) * 2 + 1
    node = LinearAttention(name="d", out=Ref("y"), q=Ref("q"), z=Ref("z"), ksum=Ref("s"), shift=shift)
    found = entries(post_params(node, 16, TRIO))
    assert [e["s1"] for e in found] == shift.tolist() and not any(e["m1"] or e["bias"] for e in found)
    c = dict(gamma=np.array([-32768, 7]), beta=np.array([-(1 << 31), 5]), shift=np.array([47, 0]))
    for ptf, a in ((None, [0, 0]), (np.array([3, 1]), [3, 1])):
        node = LayerNorm(name="n", out=Ref("y"), x=Ref("x"), a=ptf, **c)
        found = entries(layernorm_params(node), LN_PARAM_FIELDS)
        assert [e["beta"] for e in found] == c["beta"].tolist() and [e["a"] for e in found] == a


@pytest.mark.parametrize("config", [P2VIT, TRIO, TINY])
@pytest.mark.parametrize(("n", "k"), [(5, 3), (32, 64), (33, 40)])
def test_weight_rows(config, n, k):
    weight = np.random.default_rng(3).integers(-127, 128, (n, k)).astype(np.int8)
    rows = weight_rows(weight, config).view(np.int8)
    ksteps, h = -(-k // config.word), config.word // config.width
    assert rows.shape == (-(-n // config.lanes) * ksteps * h, config.lanes * config.width)
    for index in np.ndindex(rows.shape):
        row, byte = index
        tile, step = divmod(row, ksteps * h)
        lane, i = divmod(byte, config.width)
        out, channel = tile * config.lanes + lane, step // h * config.word + step % h * config.width + i
        assert rows[index] == (weight[out, channel] if out < n and channel < k else 0)


def test_groups_must_be_whole_words():
    weight = np.ones((64, 16), dtype=np.int8)
    assert (weight_rows(weight, TRIO, 4) == weight_rows(weight, TRIO)).all()
    with pytest.raises(ValueError, match="8 groups of 16 inputs and 8 outputs: both must be multiples of word = 16"):
        weight_rows(weight, TRIO, 8)


@pytest.mark.parametrize(("c", "stride"), [(16, 1), (16, 2), (40, 1), (272, 2)])
def test_depthwise_rows(c, stride):
    weight = np.random.default_rng(4).integers(-127, 128, (c, 9)).astype(np.int8)
    rows = depthwise_rows(weight, TRIO, stride).view(np.int8)
    narrow, slots, lanes = c <= 16 and stride == 1, TRIO.width, TRIO.lanes
    assert len(rows) == -(-c // (lanes * slots)) * 9
    for row, byte in np.ndindex(rows.shape):
        (s, tap), (slot, channel) = divmod(row, 9), divmod(byte, lanes)
        at = channel if narrow else (s * slots + slot) * lanes + channel
        assert rows[row, byte] == (weight[at, tap] if at < c else 0)
