"""Untrained models: every tensor of the quantized network carries signal, deterministically."""

import pytest
import torch

from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.families.vit.alive import bring_to_life, probe_patches
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import FORMATS
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import ModelSpec

ARGS = dict(img_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=100)


@pytest.mark.parametrize("scheme", ["vitforge", "p2vit"])
@pytest.mark.parametrize("extra", [{}, dict(init_values=1e-5)])
def test_every_tensor_is_alive(scheme, extra):
    spec = ModelSpec("m", "vit_tiny_patch16_224", ARGS | extra)
    model, image = load_model(spec)
    bring_to_life(model, image)
    patches = probe_patches(image, 12, seed=1)
    graph = quantize_model(model, spec, image, get_scheme(scheme), patches, trained=False, progress=False)
    assert graph.meta["trained"] is False
    env = Golden(graph).run(patches[:3])
    for name, tensor in env.items():
        info, values = graph.tensors[name], tensor.long()
        lo, hi, _ = FORMATS[info.fmt]
        if info.fmt != "int8" or values.numel() < 64:
            continue
        distinct, zero = len(values.unique()), float((values == 0).float().mean())
        saturated = float(((values == lo) | (values == hi)).float().mean())
        assert distinct >= min(64, values.numel() // 8), (name, distinct)
        assert zero <= 0.9 and (saturated < 0.05 or name == "input"), (name, zero, saturated)
    logits = env["head"][:, 0]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float((logits[a] != logits[b]).float().mean()) >= 0.9


def test_deterministic():
    spec = ModelSpec("m", "vit_tiny_patch16_224", ARGS)
    one, two = (bring_to_life(*load_model(spec)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
