"""Rotations of the residual stream: orthogonal, the mean kept, the float function unchanged, outliers spread."""

import pytest
import torch
from torch.nn import functional as F

from vitforge_sw.families.vit.frontend import attention, import_vit, layer_norm
from vitforge_sw.families.vit.rotation import mixing, rotate
from vitforge_sw.models.images import patches_to_float


@pytest.mark.parametrize("channels", [1, 2, 15, 48, 64, 192, 768])
def test_mixing(channels):
    r = mixing(channels)
    eye, ones = torch.eye(channels, dtype=torch.float64), torch.ones(channels, dtype=torch.float64)
    assert torch.allclose(r @ r.T, eye, atol=1e-12) and torch.allclose(r @ ones, ones, atol=1e-12)
    if channels >= 48:  # one channel's value ends nowhere with more than a few times its even share
        assert float(r.abs().max()) <= 3.5 / channels**0.5


def logits(vit, x):
    for b in vit.blocks:
        n = layer_norm(x, b.norm1)
        q, k, v = (F.linear(n, a.weight, a.bias) for a in (b.q, b.k, b.v))
        x = x + F.linear(attention(q, k, v, b.heads, b.scale), b.proj.weight, b.proj.bias)
        n = layer_norm(x, b.norm2)
        x = x + F.linear(F.gelu(F.linear(n, b.fc1.weight, b.fc1.bias)), b.fc2.weight, b.fc2.bias)
    return F.linear(layer_norm(x[:, 0], vit.norm), vit.head.weight, vit.head.bias)


@torch.inference_mode()
def test_the_rotated_model_is_the_same_function(digits):
    vit, cfg = import_vit(digits.model), digits.image
    pixels = torch.from_numpy(patches_to_float(digits.test[:20], cfg))
    patches = F.unfold(pixels, cfg.patch_size, stride=cfg.patch_size).transpose(1, 2)
    r = mixing(vit.channels)
    rotated = rotate(vit, r)
    stream, want = vit.embedding(patches), digits.model(pixels)
    assert torch.allclose(rotated.embedding(patches), (stream.double() @ r).float(), atol=1e-4)
    assert torch.allclose(logits(rotated, rotated.embedding(patches)), want, atol=1e-3)
    assert all(bool((n.gamma == 1).all() and (n.beta == 0).all()) for b in rotated.blocks for n in (b.norm1, b.norm2))
