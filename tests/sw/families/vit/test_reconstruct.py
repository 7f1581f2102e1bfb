"""Block reconstruction: the simulation is the golden model, what is learned is kept only where it is better."""

import dataclasses

import numpy as np
import pytest
import torch

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.vit.quantizer import reconstruct
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.ir import FORMATS
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.graph.serialize import graph_hash
from vitforge_sw.models.resolve import ModelSpec, build_model, image_config
from vitforge_sw.ops import Matmul
from vitforge_sw.quant.quality import Quality


def weights(graph) -> dict[str, np.ndarray]:
    return {node.name: node.weight for node in graph.nodes if isinstance(node, Matmul)}


def logits(digits, graph) -> tuple[torch.Tensor, torch.Tensor]:
    """Of images that no layer was fitted to: float, integer."""
    images = digits.test[:100]
    return float_logits(digits.model, images, digits.image), real_logits(graph, Golden(graph).logits(images))


@pytest.mark.parametrize("options", [dict(scheme="vitforge"), dict(scheme="p2vit", wbits=4)])
def test_the_simulation_is_the_golden_model(digits, options, monkeypatch):
    """To the bit, with the integers that the branch has."""
    seen = []

    @torch.inference_mode(False)
    def compared(build, name, first, before, out, target):
        env = build.stream.env
        env.update({key: value.clone() for key, value in env.items()})
        model = reconstruct.branch_model(build, build.graph.nodes[first:])
        for layer in model.layers:
            hard = torch.from_numpy(layer.node.weight).float() - layer.rounded.base
            assert set(hard.unique().tolist()) <= {0.0, 1.0}
            with torch.no_grad():
                layer.rounded.v.copy_((hard - 0.5) * 100)
            assert torch.equal(layer.rounded.learned(), torch.from_numpy(layer.node.weight).float())
        with torch.no_grad():
            low, high, _ = FORMATS[build.graph.tensors[out.name].fmt]
            got = reconstruct.rounded(model(torch.arange(12))).clamp(low, high)
        assert torch.equal(got, env[out.name][:12].float()), name
        seen.append(name)

    monkeypatch.setattr(reconstruct, "reconstruct", compared)
    digits.quantize(options.pop("scheme"), 16, reconstruction="block", **options)
    assert seen == [f"blocks.{i}.{part}" for i in range(4) for part in ("attn", "mlp")]


def test_learned_where_it_is_better(digits, monkeypatch):
    """Nearer to the float stream on images trained on and on others; legal, the same each time."""
    monkeypatch.setattr(reconstruct, "ITERATIONS", 40)
    monkeypatch.setattr(reconstruct, "WEIGHT_RATE", 0.2)
    plain, learned, again = (
        digits.quantize("p2vit", 24, wbits=2, **how) for how in ({}, *2 * [dict(reconstruction="block")])
    )
    assert "reconstruction" not in plain.meta
    parts = learned.meta["reconstruction"]
    assert list(parts) == [f"blocks.{i}.{part}" for i in range(4) for part in ("attn", "mlp")]
    assert all(p["after"] < p["before"] and p["held_out_after"] < p["held_out_before"] for p in parts.values())
    assert parts["blocks.0.attn"]["held_out_after"] < 0.8 * parts["blocks.0.attn"]["held_out_before"]
    whole, better = (sqnr_db(*logits(digits, graph)) for graph in (plain, learned))
    assert better > whole + 2, (whole, better)
    check_graph(learned)
    old, new = weights(plain), weights(learned)
    assert [n.name for n in plain.nodes] == [n.name for n in learned.nodes]
    first = [name for name in old if name.startswith("blocks.0.attn.")]
    moves = np.concatenate([(new[name].astype(int) - old[name]).ravel() for name in first])
    assert set(moves.tolist()) == {-1, 0, 1}, "to a neighbour"
    assert graph_hash(learned) == graph_hash(again)
    assert learned.meta["treated"][-1].startswith("block reconstruction: 8 of 8 branches")


def test_any_number_of_threads(digits, monkeypatch):
    monkeypatch.setattr(reconstruct, "ITERATIONS", 20)
    monkeypatch.setattr(reconstruct, "WEIGHT_RATE", 0.2)
    before = torch.get_num_threads()
    hashes = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            hashes.append(graph_hash(digits.quantize("p2vit", 12, wbits=2, reconstruction="block")))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert hashes[0] == hashes[1]


def test_quality_is_that_of_what_was_learned(digits, monkeypatch):
    monkeypatch.setattr(reconstruct, "ITERATIONS", 40)
    monkeypatch.setattr(reconstruct, "WEIGHT_RATE", 0.2)
    plain, learned = Quality(), Quality()
    for quality, how in ((plain, "none"), (learned, "block")):
        scheme = get_scheme("p2vit", wbits=2, reconstruction=how)
        parts = digits.model, digits.spec, digits.image, scheme, digits.calib[:24]
        quantize_model(*parts, progress=False, quality=quality)
    name = "blocks.0.attn"
    assert learned.layers[f"{name}.proj"] > plain.layers[f"{name}.proj"] + 1
    assert f"{name}.q" in plain.layers and f"{name}.q" not in learned.layers, "of integers that are no more"


def test_what_does_not_help_leaves_no_trace(digits, monkeypatch):
    monkeypatch.setattr(reconstruct, "ITERATIONS", 1)
    monkeypatch.setattr(reconstruct, "squared_error", lambda *args: 1.0)
    plain, learned = (digits.quantize("vitforge", 12, reconstruction=how) for how in ("none", "block"))
    for p, q in zip(plain.nodes, learned.nodes, strict=True):
        for field in dataclasses.fields(p):
            assert np.array_equal(getattr(p, field.name), getattr(q, field.name)), (p.name, field.name)
    assert set(plain.tensors) == set(learned.tensors)


def test_no_image_held_back(digits):
    with pytest.raises(ValueError, match="at least 4 calibration images, not 3"):
        digits.quantize("vitforge", 3, reconstruction="block")


@pytest.mark.parametrize("kind", [dict(qk_norm=True), dict(act_layer="relu"), dict(global_pool="avg")])
def test_kinds(kind, monkeypatch):
    """Attention with LayerNorms of queries and keys stays as it is."""
    monkeypatch.setattr(reconstruct, "ITERATIONS", 3)
    args = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=7, mlp_ratio=2)
    spec = ModelSpec("kind", "vit_tiny_patch16_224", args | kind)
    model = build_model(spec)
    image = image_config(model, spec)
    patches = np.random.default_rng(0).integers(-128, 128, (8, image.patches, image.patch_bytes), dtype=np.int8)
    scheme = get_scheme("vitforge", reconstruction="block")
    graph = quantize_model(model, spec, image, scheme, patches, trained=False, progress=False)
    parts = ("mlp",) if kind.get("qk_norm") else ("attn", "mlp")
    assert list(graph.meta["reconstruction"]) == [f"blocks.{i}.{part}" for i in range(2) for part in parts]
    assert ("left as they are" in graph.meta["treated"][-1]) == bool(kind.get("qk_norm"))
