"""The plain-int definitions against independent mathematics."""

import math
import random

import pytest

from vitforge_hw.arch import arith


def test_round_shift_is_floor_of_x_plus_half():
    for x in range(-300, 300):
        for n in range(0, 8):
            assert arith.round_shift(x, n) == math.floor(x / 2**n + 0.5)
        assert arith.round_shift(x, -3) == 8 * x


def test_saturate():
    assert [arith.saturate(x, 8) for x in (-129, -128, 127, 128)] == [-128, -128, 127, 127]
    assert arith.saturate(-128, 8, narrow=True) == -127


@pytest.mark.parametrize("e", range(arith.GELU_EXP_MIN, arith.GELU_EXP_MAX + 1))
def test_gelu_error_bound(e):
    """Below 2.4 steps of p at every scale, below 1.1 steps for scales of 2^-8 and coarser."""
    worst = 0.0
    for p in range(-2048, 2048):
        x = p / 2**e
        exact = 0.5 * x * (1 + math.erf(x / math.sqrt(2)))
        worst = max(worst, abs(arith.gelu(p, e) - exact * 2**e))
    assert worst < (1.1 if e <= 8 else 2.4)


def test_rsqrt_relative_error():
    rng = random.Random(0)
    values = (
        [1, 2, 3, 4] + [1 << n for n in range(45)] + [rng.randrange(1, 1 << rng.randrange(1, 46)) for _ in range(20000)]
    )
    worst = max(abs(m * 2.0**-e * math.sqrt(v) - 1) for v in values for m, e in [arith.rsqrt(v)])
    assert worst < 2**-13.3
    assert arith.rsqrt(0)[0] == 0


def test_layernorm_against_float():
    rng = random.Random(1)
    c = 192
    q = [max(-2048, min(2047, round(rng.gauss(3, 300)))) for _ in range(c)]
    gamma = [round(rng.uniform(-1.5, 1.5) * 2**12) for _ in range(c)]
    beta = [round(rng.uniform(-2, 2) * 2**22) for _ in range(c)]
    y = arith.layernorm(q, [0] * c, gamma, beta, [17] * c)
    mean = sum(q) / c
    std = math.sqrt(sum((x - mean) ** 2 for x in q) / c)
    for yi, x, g, b in zip(y, q, gamma, beta):
        exact = ((x - mean) / std * g / 2**12 + b / 2**22) * 2**5
        assert abs(yi - max(-128, min(127, exact))) < 0.52
    assert arith.layernorm([7] * c, [0] * c, gamma, beta, [17] * c) == [
        arith.saturate(arith.round_shift(b, 17), 8) for b in beta
    ]


def test_maxrel_codes():
    """Weights fall with u; the half steps lie where 20-integer-contract puts them."""
    weights = [arith.code_weight(arith.maxrel_code(u), arith.RULE_MAXREL) for u in range(256)]
    assert weights == sorted(weights, reverse=True)
    assert [arith.maxrel_code(u) for u in (0, 3, 4, 10, 11, 16, 63, 64, 71, 72, 167, 168)] == [
        0, 0, 1, 1, 2, 2, 8, 8, 8, 9, 14, 15,
    ]  # fmt: skip
    assert [arith.code_weight(q, 0) for q in (0, 1, 2, 7, 8, 14, 15)] == [1024, 768, 512, 96, 64, 1, 0]


def test_log2_codes_match_softmax():
    rng = random.Random(2)
    x = [rng.randrange(-128, 128) for _ in range(197)]
    c, sc = 369, 8  # log2(e) * 2^-4 per step
    codes = arith.softmax_codes(x, arith.RULE_LOG2, c, sc)
    scale = 369 / 256 / 16 * math.log(2)
    total = sum(math.exp((i - max(x)) * scale) for i in x)
    for q, i in zip(codes, x):
        exact = -math.log2(math.exp((i - max(x)) * scale) / total)
        assert q == 15 and exact > 14.3 or abs(q - exact) < 0.6


def test_row_factor_relative_error():
    worst = max(abs(m * 2.0 ** -(8 + p) * w - 1) for w in range(1, 300000, 7) for m, p in [arith.row_factor(w)])
    assert worst < 2**-7.7


def test_attend_is_a_weighted_mean():
    rng = random.Random(3)
    codes = [rng.randrange(16) for _ in range(197)]
    v = [rng.randrange(-128, 128) for _ in range(197)]
    weights = [arith.code_weight(q, 0) for q in codes]
    mean = sum(w * i for w, i in zip(weights, v)) / sum(weights)
    assert abs(arith.attend(codes, v, 0, 8) - mean) < 0.5 + 0.005 * abs(mean)
