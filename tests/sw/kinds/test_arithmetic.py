"""The numpy operations of the kinds against arch.arith."""

import numpy as np
import pytest

from vitforge_hw.arch import arith
from vitforge_sw.kinds import arithmetic as ops

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("e", range(arith.GELU_EXP_MIN, arith.GELU_EXP_MAX + 1))
def test_gelu_every_input(e):
    p = np.arange(-2048, 2048)
    assert ops.gelu(p, e).tolist() == [arith.gelu(int(i), e) for i in p]


@pytest.mark.parametrize("bits", [8, 12])
def test_postprocess(bits):
    n = 3000
    acc = RNG.integers(-(1 << 25), 1 << 25, n) >> RNG.integers(0, 20, n)
    e = RNG.integers(-10, 11, n)
    entries = dict(
        bias=RNG.integers(-(1 << 25), 1 << 25, n) >> RNG.integers(0, 20, n), m1=RNG.integers(0, 1 << 15, n),
        s1=RNG.integers(0, 32, n), e=e, s2=RNG.integers(0, 32, n), offset=RNG.integers(-128, 128, n),
    )  # fmt: skip
    entries["m1"][::2] = 0
    r = RNG.integers(-2048, 2048, n)
    f = ops.constants(entries)
    for act, act0, act1 in ((0, 0, 0), (1, 8, 0), (2, 300, 601), (2, 4095, 4095)):
        for narrow in (False, True):
            got = ops.postprocess(acc, f, act, act0, act1, r, bits, narrow)
            for i in range(n):
                c = {k: int(v[i]) for k, v in f.items()}
                kw = dict(residual=int(r[i]), act=act, out_bits=bits, narrow=narrow)
                kw |= dict(gelu_exp=act0, q3=act0, q6=act1)
                assert got[i] == arith.postprocess(int(acc[i]), **c, **kw)
                if c.pop("m1") == 1 << 15:  # scales are powers of two
                    c["s1"] -= 15
                    assert got[i] == arith.postprocess(int(acc[i]), **c, **kw)


def test_hardswish_every_input():
    p = np.arange(-2048, 2048)
    for q3, q6 in ((1, 2), (341, 682), (2048, 4095)):
        assert ops.hardswish(p, q3, q6).tolist() == [arith.hardswish(int(i), q3, q6) for i in p]


@pytest.mark.parametrize(("rule", "lo"), [(1, 0), (0, 0), (0, 7), (0, 15)])
def test_division(rule, lo):
    d = np.concatenate([np.arange(1000), RNG.integers(0, 1 << 26, 3000) >> RNG.integers(0, 26, 3000), [(1 << 26) - 1]])
    mant, p = ops.divisor_factor(d, rule, lo)
    dividend = RNG.integers(-(1 << 25), 1 << 25, len(d)) >> RNG.integers(0, 20, len(d))
    shift = RNG.integers(0, 32, len(d))
    zero = dict.fromkeys(("bias", "s2", "offset", "eh", "er"), 0)
    y = ops.postprocess(dividend, zero | dict(m1=mant, s1=p + shift), 0, 0, 0, 0, 8, True)
    for i in range(len(d)):
        factor = arith.divisor_factor(int(d[i]), rule, lo)
        assert (int(mant[i]), int(p[i])) == factor
        assert y[i] == arith.divide(int(dividend[i]), *factor, int(shift[i]))


def test_matmul8_is_exact_at_its_limits():
    for k in (1024, 1040, 4128):
        x = np.full((3, k), -128, dtype=np.int8)
        w = np.full((2, k), -128, dtype=np.int8)
        w[1], x[2] = 127, 127
        x[1] = RNG.integers(-128, 128, k)
        assert (ops.matmul8(x, w) == x.astype(np.int64) @ w.astype(np.int64).T).all()


def test_layernorm_hardswish():
    for c in (8, 48, 400):
        q = RNG.integers(-2048, 2048, (5, c))
        q[0] = q[0, 0]
        f = dict(a=np.zeros(c, dtype=np.int64), gamma=RNG.integers(-32768, 32768, c),
                 beta=RNG.integers(-(1 << 31), 1 << 31, c) >> 12, shift=RNG.integers(8, 24, c))  # fmt: skip
        kw = dict(q3=341, q6=682, s2=13, offset=-9)
        got = ops.layernorm_hardswish(q, f, *kw.values())
        for i in range(len(q)):
            args = [f[k].tolist() for k in ("gamma", "beta", "shift")]
            assert got[i].tolist() == arith.layernorm_hardswish(q[i].tolist(), *args, **kw)


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
