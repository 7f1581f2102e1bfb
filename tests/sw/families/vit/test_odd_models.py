"""Models with odd numbers in them (dead rows, huge biases, outliers): a valid graph that follows the float model."""

import copy

import numpy as np
import pytest
import torch

from vitforge_sw.evaluate import evaluate
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.families.vit.quantizer import reconstruct
from vitforge_sw.models.resolve import ModelSpec, build_model, image_config


def dead_rows(m):
    for layer in (m.blocks[0].attn.qkv, m.blocks[1].attn.proj, m.blocks[2].mlp.fc1, m.blocks[3].mlp.fc2):
        layer.weight[3], layer.weight[5] = 0, layer.weight[5] * 1e-9
    m.blocks[0].mlp.fc2.weight[7] = 0
    m.blocks[0].mlp.fc2.bias[7] = 0


def big_biases(m):
    m.blocks[1].attn.proj.weight[2] *= 1e-4
    m.blocks[1].attn.proj.bias[2] = 9.0
    m.blocks[2].mlp.fc1.bias[4] = -50.0
    m.blocks[0].attn.qkv.bias[0] = 30.0


def outlier_channel(m):
    m.pos_embed[..., 5] += 40.0


def dead_norm(m):
    m.blocks[0].norm1.weight[4] = 0
    m.blocks[1].norm2.weight[6] = 0
    m.blocks[1].norm2.bias[6] = 0
    m.norm.weight[9] = 1e-8


def no_position(m):
    m.pos_embed.zero_()
    m.cls_token.zero_()


def zero_attention(m):
    m.blocks[1].attn.qkv.weight.zero_()
    m.blocks[1].attn.qkv.bias.zero_()


def zero_branches(m):
    """As zero-initialised branches are before training: what they add is exactly nothing."""
    for b in m.blocks[:2]:
        for layer in (b.attn.proj, b.mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()


def small_branches(m):
    """A fresh layer scale of 1e-5 folded in."""
    for b in m.blocks:
        for layer in (b.attn.proj, b.mlp.fc2):
            layer.weight *= 1e-5
            layer.bias *= 1e-5


def constant_norms(m):
    m.blocks[1].norm1.weight.zero_()
    m.blocks[2].norm2.weight.zero_()
    m.blocks[2].norm2.bias.zero_()


CHANGES = [dead_rows, big_biases, outlier_channel, dead_norm, no_position, zero_attention]


@pytest.mark.parametrize("scheme", ["vitforge", "p2vit"])
@pytest.mark.parametrize("change", [*CHANGES, zero_branches, small_branches, constant_norms])
def test_odd_model(digits, scheme, change):
    model = copy.deepcopy(digits.model)
    with torch.no_grad():
        change(model)
    graph = quantize_model(model, digits.spec, digits.image, get_scheme(scheme), digits.calib[:30], progress=False)
    result = evaluate(graph, digits.test[:100], digits.labels[:100], model)
    print(change.__name__, result)
    assert result["logit_sqnr_db"] >= {"vitforge": 15, "p2vit": 7.5}[scheme]


@pytest.mark.parametrize("change", [dead_rows, zero_branches, outlier_channel, big_biases])
def test_block_reconstruction(digits, change, monkeypatch):
    monkeypatch.setattr(reconstruct, "ITERATIONS", 5)
    model = copy.deepcopy(digits.model)
    with torch.no_grad():
        change(model)
    scheme = get_scheme("vitforge", reconstruction="block")
    graph = quantize_model(model, digits.spec, digits.image, scheme, digits.calib[:8], progress=False)
    assert all(np.isfinite(list(p.values())).all() for p in graph.meta["reconstruction"].values())


def test_fresh_deit3():
    """timm's own initial weights: a layer scale of 1e-6."""
    args = dict(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    spec = ModelSpec("fresh", "deit3_small_patch16_224", args, num_classes=10)
    model = build_model(spec, seed=1)
    assert float(model.blocks[0].ls1.gamma.detach().abs().max()) < 1e-5
    image = image_config(model, spec)
    rng = np.random.default_rng(0)
    patches = rng.integers(-128, 128, (8, image.patches, image.patch_bytes), dtype=np.int8)
    graph = quantize_model(model, spec, image, get_scheme("vitforge"), patches, progress=False)
    result = evaluate(graph, patches, [0] * 8, model)
    assert result["logit_sqnr_db"] >= 30 and result["agreement"] == 100
