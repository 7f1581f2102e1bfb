"""A refit mends what a layer's rounded inputs lack, and leaves alone what it cannot mend."""

import pytest
import torch

from vitforge_sw.quant.refit import refit
from vitforge_sw.quant.stream import split_moment

RIDGES = (0.01, 0.1, 1.0, 10.0)


def case(error, seed=0):
    """(float weights, inputs, those with errors, moments): 48 images of 9 tokens, 12 channels that hang together."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(48, 9, 12, generator=g) @ torch.randn(12, 12, generator=g)
    weight, rough = torch.randn(5, 12, generator=g), error(x, g)
    w = torch.full((48, 9), 1 / (48 * 9))
    missing = (x - rough) @ weight.T
    return weight, x, rough, split_moment(rough, w), split_moment(rough, w, missing)


def lost(weight, delta, x, rough):
    return float((x @ weight.T - rough @ (weight + delta).T).square().mean())


def test_mends_what_the_inputs_tell():
    """Errors that the inputs predict vanish; independent ones shrink, on other images as well."""
    gain = torch.linspace(0.7, 1.2, 12)
    weight, x, rough, h, c = case(lambda x, g: x * gain)
    assert lost(weight, refit(h, c, (1e-9,)), x, rough) < 1e-6 * lost(weight, 0, x, rough)
    noise = lambda x, g: x + 2 * torch.randn(x.shape, generator=g)  # noqa: E731
    weight, x, rough, h, c = case(noise)
    delta = refit(h, c, RIDGES)
    more = torch.Generator().manual_seed(9)
    other = torch.randn(200, 9, 12, generator=more) @ torch.linalg.cholesky(torch.cov(x.flatten(0, 1).T)).T
    assert lost(weight, delta, other, noise(other, more)) < 0.9 * lost(weight, 0, other, noise(other, more))


def test_leaves_alone_what_is_chance():
    """What is missing has nothing to do with the inputs: no candidate helps on held-back images."""
    g = torch.Generator().manual_seed(1)
    x, missing = torch.randn(8, 2, 12, generator=g), torch.randn(8, 2, 5, generator=g)
    w = torch.full((8, 2), 1 / 16)
    assert refit(split_moment(x, w), split_moment(x, w, missing), RIDGES[:2]) is None
    assert refit(split_moment(x, w), split_moment(x, w, missing), RIDGES[:1]) is not None  # asked for by number


@pytest.mark.parametrize("ridge", (0.1, 1.0))
def test_equation(ridge):
    """(H + ridge diag H) D' = C'."""
    *_, h, c = case(lambda x, g: x * 0.9)
    delta = refit(h, c, (ridge,)).double()
    left = (h[0].double() + ridge * torch.diag(h[0].diagonal().double())) @ delta.T
    assert torch.allclose(left, c[0].double().T, rtol=1e-3, atol=1e-4 * float(c[0].abs().max()))
