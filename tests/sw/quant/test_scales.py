"""Power-of-two scales: adaptive rounding, PTF, weights, lowering."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.families.vit import lower
from vitforge_sw.families.vit.smoothing import nearest_power, query_key_exponents, smooth_linear
from vitforge_sw.quant.rounding import round_chosen, round_gptq, round_nearest, weight_exponents
from vitforge_sw.quant.scales import error, pot, quantize, search, search_ptf
from vitforge_sw.quant.weights import quantize_weight


def samples(rows=500, channels=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, generator=g) * torch.exp(torch.randn(channels, generator=g))
    return x, torch.full((rows,), 1 / rows)


def test_pot_is_exact():
    assert pot(torch.tensor([-30, -1, 0, 5])).tolist() == [2.0**-30, 0.5, 1, 32]


def test_quantize_rounds_half_up_and_saturates():
    x = torch.tensor([-0.25, -0.75, 0.25, 0.75, 100.0, -100.0])
    assert quantize(x, -1, -128, 127).tolist() == [0, -1, 1, 2, 127, -128]


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), float("-inf")])
def test_values_beyond_float32_are_refused(odd):
    with pytest.raises(ValueError, match="^model: values .* leave float32: weights are too large"):
        search(torch.tensor([[1.0, 2.0], [odd, 3.0]]), torch.full((2,), 0.5), -128, 127)


@pytest.mark.parametrize("channel", [False, True])
def test_search_finds_the_least_error(channel):
    x, w = samples()
    e = search(x, w, -8, 7, channel=channel)
    every = torch.stack([error(x, k, -8, 7, w) for k in range(-12, 8)])
    if channel:
        assert torch.equal(every.argmin(0).int() - 12, e)
    else:
        assert int(every.sum(1).argmin()) - 12 == int(e)


def test_search_respects_the_lower_bound():
    x, w = samples()
    assert (search(x, w, -2048, 2047, channel=True, least=3) >= 3).all()


def test_ptf_beats_one_scale():
    x, w = samples(channels=40)
    base, a = search_ptf(x, w, -128, 127)
    assert a.min() >= 0 and a.max() <= 3 and len(a.unique()) > 1
    single = error(x, search(x, w, -128, 127), -128, 127, w).sum()
    assert error(x, base + a, -128, 127, w).sum() < single


def test_weight_exponents_are_the_best_of_four():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 30, generator=g) * torch.tensor([0.01, 0.1, 1, 3, 10, 0.5])[:, None]
    x = torch.randn(200, 30, generator=g)
    h = x.T @ x
    e = weight_exponents(weight, h, 127, "channel")

    def loss(k):
        q = round_nearest(weight, k, 127) * pot(k)[:, None]
        return ((x @ (q - weight).T) ** 2).sum(0)

    for d in (-1, 1):
        assert (loss(e) <= loss(e + d) * 1.001).all()
    assert len(weight_exponents(weight, h, 127, "layer").unique()) == 1


def test_gptq_beats_nearest_where_inputs_correlate():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=g) @ torch.randn(8, 48, generator=g) + 0.1 * torch.randn(400, 48, generator=g)
    weight = torch.randn(10, 48, generator=g)
    h = x.T @ x
    e = weight_exponents(weight, h, 7, "channel")

    def loss(q):
        assert q.abs().max() <= 7 and torch.equal(q, q.round())
        return float(((x @ (q * pot(e)[:, None] - weight).T) ** 2).sum())

    assert loss(round_gptq(weight, e, h, 7)) < 0.3 * loss(round_nearest(weight, e, 7))


def test_zero_rows_and_dead_inputs():
    weight = torch.zeros(3, 5)
    weight[0] = 1
    h = torch.zeros(5, 5)
    for rounding in ("nearest", "gptq"):
        q, e = quantize_weight(weight, h, rounding=rounding)
        assert torch.isfinite(q).all() and (q[1:] == 0).all() and e.abs().max() < 40


def test_smoothing_helps_where_channels_differ():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 32, generator=g) * torch.exp(2 * torch.randn(32, generator=g))
    w = torch.full((400,), 1 / 400)
    weight = torch.randn(16, 32, generator=g) / x.abs().amax(0)
    plain = smooth_linear(x, w, weight, (), -128, 127, 8)
    smooth = smooth_linear(x, w, weight, (0.4, 0.5, 0.6), -128, 127, 8)
    assert len(plain.unique()) == 1 and len(smooth.unique()) > 2
    err = lambda e: float(((quantize(x, e, -128, 127) * pot(e) - x) @ weight.T).square().sum())  # noqa: E731
    assert err(smooth) < 0.5 * err(plain)


def test_the_nearest_power_is_nearest_on_the_linear_scale():
    s = torch.tensor([1.0, 1.45, 1.55, 2.9, 3.1, 0.74, 0.76])
    assert nearest_power(torch.log2(s)).tolist() == [0, 0, 1, 1, 2, -1, 0]


@pytest.mark.parametrize("channel", [False, True])
def test_query_and_key_exponents_keep_one_product_scale(channel):
    q, w = samples(seed=1)
    k, _ = samples(seed=2)
    eq, ek = query_key_exponents(q, k, w, channel)
    assert len((eq + ek).unique()) == 1


def test_shifts_reproduce_real_arithmetic():
    """Fields from the exponents, put through arith.postprocess, give the real-valued result to half a step."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        ea, ep_more = int(rng.integers(-14, -8)), int(rng.integers(0, 6))
        e_res, e_out = int(rng.integers(-9, -5)), int(rng.integers(-6, -3))
        ep = ea + ep_more
        f = {k: int(v) for k, v in lower.shifts_residual(torch.tensor([ea]), torch.tensor([ep]), e_res, e_out).items()}
        acc, r = int(rng.integers(-500, 500)) << ep_more, int(rng.integers(-60, 60))
        y = arith.postprocess(acc, bias=0, s1=f["s1"], eh=f["eh"], er=f["er"], s2=f["s2"], residual=r, out_bits=12)
        assert abs(y * 2.0**e_out - (acc * 2.0**ea + r * 2.0**e_res)) <= 2.0 ** (e_out - 1) + 2.0 ** (ep - 1)


def test_a_stream_is_never_finer_than_both_addends():
    """Behind a massive layer the stream could take finer steps than anything added to it; entries cannot hold that."""
    ep, e_res = torch.tensor([-6, -3, -9, -5], dtype=torch.int32), -5
    for out in ([-8, -8, -8, -8], [-8, -7, -5, -6]):
        out = lower.coarse_enough(torch.tensor(out, dtype=torch.int32), ep, e_res)
        assert int(out.max() - out.min()) <= 3
        f = lower.shifts_residual(ep, ep, e_res, out)
        assert bool((f["s2"] >= torch.minimum(f["eh"], f["er"])).all())


def test_rounding_is_chosen_by_held_back_inputs():
    """Few rows of correlated inputs: GPTQ follows chance correlations, the choice is not worse than the better one."""
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(24, 24, generator=g)
    weight = torch.randn(8, 24, generator=g)
    for rows in (12, 2000):
        x = torch.randn(rows, 24, generator=g) @ mix
        fit, held = (part.T @ part / rows for part in (x[: rows * 3 // 4], x[rows * 3 // 4 :]))
        e = weight_exponents(weight, fit + held, 7, "channel")
        test = torch.randn(3000, 24, generator=g) @ mix
        loss = lambda q: float(((q * pot(e)[:, None] - weight) @ test.T).square().mean())  # noqa: B023, E731
        nearest, gptq = loss(round_nearest(weight, e, 7)), loss(round_gptq(weight, e, fit + held, 7))
        chosen = loss(round_chosen(weight, e, fit, held, 7))
        assert chosen <= 1.1 * min(nearest, gptq) or rows == 12 and chosen <= max(nearest, gptq)


def test_softmax_constants():
    for scale, e in [(0.125, 0), (0.25, -3), (0.125, 4), (0.125, -12)]:
        c, sc = lower.softmax_constants(scale, e)
        assert 0 < c < 1024 and 0 <= sc <= 15
        want = 16 * 1.4426950408889634 * scale * 2.0**e
        assert c * 2.0**-sc == pytest.approx(want, rel=0.001 if e > -10 else 0.2)
    with pytest.raises(ValueError, match="too coarse"):
        lower.softmax_constants(1.0, 10)


def test_layernorm_fields_use_their_width():
    g = torch.tensor([1.0, 0.01, 30.0, 0.0])
    f = lower.layernorm_fields("n", g, torch.tensor([0.1, -3.0, 20.0, 0.0]), torch.full((4,), -5), torch.zeros(4))
    assert (np.abs(f["gamma"][[0, 2]]) >= 1 << 14).all() and (np.abs(f["gamma"]) < 1 << 15).all()
    real = f["gamma"] * 2.0 ** (10 - f["shift"]) * 2.0**-5
    assert np.allclose(real, g.numpy(), rtol=1e-3)


def test_a_layernorm_that_its_output_cannot_hold_is_refused_by_name():
    one, beta, e_out = torch.ones(2), torch.tensor([0.0, 3e11]), torch.tensor([-4, -6])
    with pytest.raises(ValueError, match=r"blk\.norm: channel 1: gamma 1, beta 3e\+11 .* in steps of 2\^-6, .*images"):
        lower.layernorm_fields("blk.norm", one, beta, e_out, torch.zeros(2))


def test_ranges_are_refused_by_name():
    z = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"blk: s1 must be in 0\.\.47, needs -1\.\.-1"):
        lower.linear_fields("blk", torch.zeros(1, 1), torch.zeros(1), z, dict(s1=z - 1, eh=z, er=z, s2=z))
    # a bias beyond its field takes a coarser accumulator, as far as the shift behind it goes
    with pytest.raises(ValueError, match=r"blk: s1 must be in 0\.\.47, needs -5\.\.-5"):
        lower.linear_fields("blk", torch.zeros(1, 1), torch.tensor([1e9]), z, dict(s1=z, eh=z, er=z, s2=z))
    wide = lower.linear_fields("blk", torch.zeros(1, 1), torch.tensor([1e9]), z, dict(s1=z + 10, eh=z, er=z, s2=z))
    assert wide["s1"].tolist() == [5] and wide["bias"].tolist() == [1e9 / 2**5]
