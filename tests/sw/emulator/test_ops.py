"""The emulator's numpy operations against arch.arith."""

import numpy as np
import pytest

from vitforge_hw.arch import arith
from vitforge_sw.emulator import ops

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("e", range(arith.GELU_EXP_MIN, arith.GELU_EXP_MAX + 1))
def test_gelu_every_input(e):
    p = np.arange(-2048, 2048)
    assert ops.gelu(p, e).tolist() == [arith.gelu(int(i), e) for i in p]


@pytest.mark.parametrize("bits", [8, 12])
def test_postprocess(bits):
    n = 4000
    acc = RNG.integers(-(1 << 25), 1 << 25, n) >> RNG.integers(0, 20, n)
    f = dict(
        bias=RNG.integers(-(1 << 20), 1 << 20, n) >> RNG.integers(0, 20, n), s1=RNG.integers(0, 24, n),
        offset=RNG.integers(-128, 128, n),
        eh=RNG.integers(0, 16, n), er=RNG.integers(0, 16, n), s2=RNG.integers(0, 32, n),
    )  # fmt: skip
    r = RNG.integers(-2048, 2048, n)
    for act in (0, 1):
        for narrow in (False, True):
            got = ops.postprocess(acc, f, act, 8, r, bits, narrow)
            for i in range(n):
                want = arith.postprocess(
                    int(acc[i]), residual=int(r[i]), act=act, gelu_exp=8, out_bits=bits, narrow=narrow,
                    **{k: int(v[i]) for k, v in f.items()},
                )  # fmt: skip
                assert got[i] == want


def test_layernorm():
    for c, wide in ((48, True), (192, True), (64, False), (8, False)):
        q = RNG.integers(-2048, 2048, (6, c)) if wide else RNG.integers(-128, 128, (6, c))
        q[0] = q[0, 0]
        q[1] = np.where(np.arange(c) % 2, 2047, -2048) if wide else 127
        f = dict(a=np.zeros(c, dtype=np.int64) if wide else RNG.integers(0, 4, c), gamma=RNG.integers(-32768, 32768, c),
                 beta=RNG.integers(-(1 << 31), 1 << 31, c), shift=RNG.integers(0, 48, c))  # fmt: skip
        got = ops.layernorm(q, f)
        for i in range(len(q)):
            args = [f[k].tolist() for k in ("a", "gamma", "beta", "shift")]
            assert got[i].tolist() == arith.layernorm(q[i].tolist(), *args)


@pytest.mark.parametrize("rule", [arith.RULE_MAXREL, arith.RULE_LOG2])
def test_softmax_and_attend(rule):
    for keys in (1, 17, 197):
        x = RNG.integers(-128, 128, (8, keys))
        x[0] = 5
        v = RNG.integers(-128, 128, (keys, 6))
        for c, sc in ((1, 0), (23, 4), (1023, 15), (200, 7)):
            codes = ops.softmax_codes(x, rule, c, sc)
            assert codes.tolist() == [arith.softmax_codes(r.tolist(), rule, c, sc) for r in x]
            for shift, factor in ((8, True), (12, True), (0, True), (7, False)):
                got = ops.attend(codes, v, rule, shift, factor)
                for i in range(8):
                    want = [arith.attend(codes[i].tolist(), v[:, j].tolist(), rule, shift, factor) for j in range(6)]
                    assert got[i].tolist() == want


def test_attend_all_codes_zero():
    codes = np.full((2, 5), 15)
    assert (ops.attend(codes, np.ones((5, 3), dtype=int), 0, 4, True) == 0).all()


def test_rsqrt_wide_range():
    powers = 1 << np.arange(44)
    v = np.concatenate([np.arange(0, 5000), powers, powers[1:] - 1, RNG.integers(0, 1 << 44, 3000)])
    m, e = ops.rsqrt(v)
    for i, x in enumerate(v.tolist()):
        assert (int(m[i]), int(e[i])) == arith.rsqrt(x)
