"""The EfficientViT family's plain-int definitions against independent mathematics."""

import math
import random
from fractions import Fraction

import pytest

from vitforge_hw.arch import arith


def clip(x, lo, hi):
    return min(max(x, lo), hi)


@pytest.mark.parametrize("s1", [0, 1, 15, 16, 33, 47])
def test_dyadic_is_floor_of_exact_product_plus_half(s1):
    rng = random.Random(s1)
    edge = [0, 1, -1, (1 << 26) - 1, 1 - (1 << 26)]
    for acc in edge + [rng.randrange(-(1 << 25), 1 << 25) for _ in range(300)]:
        for m1 in (1, 2, 3, 32768, 65535, rng.randrange(1, 65536)):
            exact = math.floor(Fraction(acc * m1, 1 << s1) + Fraction(1, 2))
            assert arith.dyadic(acc - 7, 7, m1, s1) == clip(exact, -2048, 2047)


def test_dyadic_where_double_precision_fails():
    """A product of 27 x 16 bits is exact; the tie lies where a float32 product would miss it."""
    assert arith.dyadic(33554431, 0, 65535, 41) == math.floor(Fraction(33554431 * 65535, 1 << 41) + Fraction(1, 2))
    assert arith.dyadic(3, 0, 1 << 15, 16) == 2 and arith.dyadic(-3, 0, 1 << 15, 16) == -1  # ties up


@pytest.mark.parametrize("q3", [60, 341, 1000, 2047])
def test_hardswish_is_exact_in_units_of_s_squared_over_6(q3):
    s = Fraction(3, q3)
    for p in range(-2048, 2048):
        x = p * s
        assert arith.hardswish(p, q3, 2 * q3) * s * s / 6 == x * clip(x + 3, 0, 6) / 6
    assert 2047 * arith.Q6_MAX < 1 << 23


def test_postprocess_with_m1_of_one_is_the_shift_only_form():
    rng = random.Random(3)
    for _ in range(2000):
        c = dict(
            bias=rng.randrange(-999, 999),
            s1=rng.randrange(12),
            eh=rng.randrange(5),
            er=rng.randrange(5),
            s2=rng.randrange(9),
            offset=rng.randrange(-128, 128),
            residual=rng.randrange(-128, 128),
            narrow=bool(rng.randrange(2)),
        )
        acc = rng.randrange(-(1 << 20), 1 << 20)
        p = max(-2048, min(2047, arith.round_shift(acc + c["bias"], c["s1"])))
        total = arith.round_shift((p << c["eh"]) + (c["residual"] << c["er"]), c["s2"]) + c["offset"]
        assert arith.postprocess(acc, **c) == max(-127 if c["narrow"] else -128, min(127, total))


def test_postprocess_hardswish_and_offset():
    # p = 300, h = 300 * min(300 + 341, 682) = 192300, >> 10 -> 188, - 128 -> 60
    assert arith.postprocess(300, act=arith.ACT_HARDSWISH, q3=341, q6=682, s2=10, offset=-128) == 60
    assert arith.postprocess(100, act=arith.ACT_HARDSWISH, q3=341, q6=682, m2=3, s2=10) == 127


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height,width", [(1, 1), (4, 4), (5, 7), (7, 2)])
def test_depthwise_pads_with_the_zero_point(k, stride, height, width):
    rng = random.Random(k * 10 + stride)
    x = [[rng.randrange(-128, 128) for _ in range(width)] for _ in range(height)]
    w = [[rng.randrange(-127, 128) for _ in range(k)] for _ in range(k)]
    zero, p = -93, k // 2
    full = [[zero] * (width + 2 * p)] * p + [[zero] * p + r + [zero] * p for r in x] + [[zero] * (width + 2 * p)] * p
    rows, cols = arith.conv_size(height, stride), arith.conv_size(width, stride)
    assert (rows, cols) == ((height + 2 * p - k) // stride + 1, (width + 2 * p - k) // stride + 1)
    total = sum(map(sum, w))
    for i in range(rows):
        for j in range(cols):
            window = [r[j * stride : j * stride + k] for r in full[i * stride : i * stride + k]]
            want = sum(a * b for wr, xr in zip(w, window) for a, b in zip(wr, xr))
            acc = arith.depthwise(x, w, i, j, stride, zero)
            assert acc == want
            # a zero-point is a constant of the bias, padding included
            moved = [[v - zero for v in r] for r in x]
            assert acc - zero * total == arith.depthwise(moved, w, i, j, stride, 0)


def test_divisor_log2_rounds_at_one_and_a_half():
    assert arith.divisor_log2(0b0110_0011) == 7
    for d in range(1, 5000):
        i = d.bit_length() - 1
        # bit(-1) = 0, so a divisor of 1 has code 0
        assert arith.divisor_log2(d) == (i + 1 if d >= 1.5 * 2**i and d > 1 else i)
    cases = {1: 0, 8: 0, 11: 0, 12: 1, 1 << 17: 14, 1 << 19: 15, 1 << 25: 15}
    assert {d: arith.divisor_code(d, 3) for d in cases} == cases


def test_log2_code_stands_for_eight_ninths():
    """Divisors of one code fill 0.75 .. 1.5 times 2^r; their mean is 9/8 * 2^r."""
    r = 12
    members = [d for d in range(1 << r - 1, 1 << r + 1) if arith.divisor_log2(d) == r]
    assert members == list(range(3 << r - 2, 3 << r - 1))
    assert abs(sum(members) / len(members) / 2**r - 9 / 8) < 1e-3


@pytest.mark.parametrize("shift", [0, 3, 8, 12])
def test_division_rules(shift):
    rng = random.Random(shift)
    for _ in range(4000):
        divisor = rng.randrange(1, 1 << rng.randrange(1, 19))
        dividend = rng.randrange(-(1 << 18), 1 << 18)
        exact = dividend / divisor * 2.0 ** (8 - shift)
        got = arith.divide(dividend, *arith.divisor_factor(divisor, arith.DIV_RECIPROCAL), shift)
        assert abs(got - clip(exact, -127, 127)) <= 0.5 + 0.0042 * min(abs(exact), 130)
        assert abs(arith.divide_exact(dividend, divisor, shift) - clip(exact, -127, 127)) <= 0.5
        lo = 3
        mant, p = arith.divisor_factor(divisor, arith.DIV_LOG2, lo)
        q = arith.divisor_code(divisor, lo)
        assert 0 <= q <= 15
        want = arith.saturate(arith.round_shift(dividend, q + lo + shift - 7), 8, narrow=True)
        assert arith.divide(dividend, mant, p, shift) == want


def test_divisor_of_zero_gives_zero_whatever_the_dividend():
    for rule in (arith.DIV_LOG2, arith.DIV_RECIPROCAL):
        for dividend in (0, 1, -5, 300000, -300000):
            assert arith.divide(dividend, *arith.divisor_factor(0, rule, 4), 0) == 0
    assert arith.divide_exact(5, 0, 3) == 0


def test_linear_attention_of_one_head_against_rationals():
    """Exact division of unrequantized sums is ReLU linear attention."""
    rng = random.Random(9)
    tokens, d = 20, 8
    q, k, v = ([[rng.randrange(-127, 128) for _ in range(d)] for _ in range(tokens)] for _ in range(3))
    ksum = [arith.key_sum([r[i] for r in k]) for i in range(d)]
    for t in range(tokens):
        divisor = arith.query_product(q[t], ksum)
        for e in range(d):
            z = [arith.key_value([r[i] for r in k], [r[e] for r in v]) for i in range(d)]
            dividend = arith.query_product(q[t], z)
            attention = [sum(max(a, 0) * max(b, 0) for a, b in zip(q[t], row)) for row in k]
            want = Fraction(sum(a * row[e] for a, row in zip(attention, v)), sum(attention))
            assert Fraction(dividend, divisor) == want
            assert arith.divide_exact(dividend, divisor, 8) == clip(math.floor(want + Fraction(1, 2)), -127, 127)


def test_pool_is_the_rounded_mean():
    rng = random.Random(5)
    for n in (1, 4, 49, 144):
        s1 = 15 + n.bit_length()
        m1 = min(round((1 << s1) / n), 65535)
        x = [rng.randrange(-128, 128) for _ in range(n)]
        assert abs(arith.pool(x, m1=m1, s1=s1) - sum(x) / n) <= 0.51


def test_layernorm_hardswish_against_float():
    rng = random.Random(1)
    c, q3 = 160, 341
    x = [clip(round(rng.gauss(30, 400)), -2048, 2047) for _ in range(c)]
    gamma = [round(rng.uniform(0.2, 1.5) * 2**13) for _ in range(c)]
    beta = [round(rng.uniform(-1, 1) * 2**23) for _ in range(c)]
    step = 3 / q3  # p = value / step; z has 10 fraction bits, so z * gamma has 23: shift and step are folded into gamma
    g = [round(i / 2**13 / step * 2**6) for i in gamma]
    b = [round(i / 2**23 / step * 2**16) for i in beta]
    y = arith.layernorm_hardswish(x, g, b, [16] * c, q3=q3, q6=2 * q3, s2=12, offset=-100)
    mean = sum(x) / c
    std = math.sqrt(sum((i - mean) ** 2 for i in x) / c)
    for yi, xi, gi, bi in zip(y, x, g, b):
        value = ((xi - mean) / std * gi / 2**6 + bi / 2**16) * step
        want = value * clip(value + 3, 0, 6) / 6 / (step**2 / 6 * 2**12) - 100
        assert abs(yi - clip(want, -128, 127)) < 0.75
    same = arith.layernorm_hardswish([7] * c, g, b, [16] * c, q3=q3, q6=2 * q3, s2=12, offset=0)
    assert same == [
        arith.saturate(arith.round_shift(arith.hardswish(arith.round_shift(i, 16), q3, 2 * q3), 12), 8) for i in b
    ]
