"""Rounding of few bits: no step raises the layer-output error, and the result beats GPTQ's."""

import pytest
import torch

from vitforge_sw.quant.descent import damped, descend, quantize_few, row_errors
from vitforge_sw.quant.rounding import round_gptq, round_nearest, weight_exponents
from vitforge_sw.quant.weights import quantize_weight


@pytest.fixture
def layer():
    """(weights (N, K), second moments of two parts of correlated inputs)."""
    g = torch.Generator().manual_seed(5)
    mix = torch.randn(80, 80, generator=g) * torch.rand(80, generator=g)
    x = torch.randn(900, 80, generator=g) @ mix
    return torch.randn(24, 80, generator=g), x[:600].T @ x[:600] / 900, x[600:].T @ x[600:] / 900


def test_descent_by_hand():
    """Two inputs with correlation 0.9: (0.6, 0.6) rounds to (1, 1), error 0.608; (1, 0) leaves 0.088."""
    h = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    w, e = torch.tensor([[0.6, 0.6]]), torch.zeros(1, dtype=torch.int32)
    q = descend(w, e, h, torch.tensor([[1.0, 1.0]]), 7)
    assert sorted(q[0].tolist()) == [0.0, 1.0]
    assert row_errors(w, q, e, h).item() == pytest.approx(0.088, abs=1e-6)


def test_no_step_raises_the_error(layer):
    w, fit, held = layer
    h = damped(fit + held, 0.01)
    e = weight_exponents(w, h, 7, "channel")
    for start in (round_nearest(w, e, 7), round_gptq(w, e, h, 7), torch.zeros_like(w)):
        q = descend(w, e, h, start, 7)
        assert torch.equal(q, q.round()) and q.abs().max() <= 7
        assert (row_errors(w, q, e, h) <= row_errors(w, start, e, h) * (1 + 1e-5)).all()


def test_better_than_gptq(layer):
    w, fit, held = layer
    h = fit + held
    q, e = quantize_few(w, fit, held, 7)
    first = weight_exponents(w, h, 7, "channel")
    gptq = row_errors(w, round_gptq(w, first, h, 7), first, h).sum()
    assert row_errors(w, q, e, h).sum() < 0.97 * gptq
    least = first + 1
    assert (quantize_few(w, fit, held, 7, least)[1] >= least).all()
    same = quantize_weight(w, h, 4, "channel", "chosen", None, held)
    assert torch.equal(same[0], quantize_few(w, h - held, held, 7)[0])


def test_from_few_images_rounding_to_nearest_is_kept(layer):
    """Two images say nothing about the third: what they would have compensated is chance."""
    w = layer[0]
    x = torch.randn(3, 80, generator=torch.Generator().manual_seed(1))
    fit, held = x[:2].T @ x[:2], x[2:].T @ x[2:]
    q, e = quantize_few(w, fit, held, 7)
    nearest = round_nearest(w, weight_exponents(w, fit + held, 7, "channel"), 7)
    assert row_errors(w, q, e, held).sum() <= row_errors(w, nearest, e, held).sum() * 1.5
