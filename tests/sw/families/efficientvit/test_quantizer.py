"""EfficientViT's quantizer: schemes and options give legal, living, integer-only graphs; accuracy with data."""

import dataclasses

import numpy as np
import pytest
import torch

from vitforge_sw.evaluate import evaluate
from vitforge_sw.families import quantize_model, scheme_for
from vitforge_sw.families.efficientvit import get_trio_scheme, lower, reconstruct
from vitforge_sw.families.efficientvit.frontend import import_efficientvit
from vitforge_sw.families.vit.alive import bring_to_life, probe_patches
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph
from vitforge_sw.models.archive import archive_images, archive_patches
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import ModelSpec, resolve_model
from vitforge_sw.ops import Depthwise, LayerNorm, LinearAttention, Post

SPEC = ModelSpec(
    "small", "efficientvit_b0",
    dict(widths=[8, 16, 16, 16, 32], depths=[1, 1, 1, 1, 1], head_dim=8, head_widths=[32, 48]), 10,
)  # fmt: skip


class Small:
    """An untrained EfficientViT of odd size, brought to life."""

    def __init__(self):
        self.model, self.image = load_model(SPEC, None, dict(image_size=37))
        self.patches = probe_patches(self.image, 44)
        bring_to_life(self.model, self.image, self.patches)

    def quantize(self, scheme, **options):
        chosen = scheme_for(self.model, scheme, **options)
        return quantize_model(self.model, SPEC, self.image, chosen, self.patches[:32], trained=False, progress=False)


@pytest.fixture(scope="module")
def small():
    return Small()


@pytest.fixture(scope="module", params=["trio", "vitforge"])
def quantized(request, small):
    return small.quantize(request.param)


def test_integers_only_and_runnable(quantized):
    for node in quantized.nodes:
        assert not node.software_only()
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            assert not isinstance(value, float), (node.name, field.name)
            assert not isinstance(value, np.ndarray) or value.dtype.kind == "i", (node.name, field.name)


def test_every_tensor_is_alive(small, quantized):
    env = Golden(quantized).run(small.patches[32:35])
    for name, info in quantized.tensors.items():
        x = env[name].to(torch.int32)
        assert x.shape[1:] == (info.tokens, info.channels)
        if x[0].numel() < 64:
            continue
        top = {"int8": 127, "int12": 2047}[info.fmt]
        assert len(x.unique()) >= 32, name
        assert float((x == 0).float().mean()) <= 0.9, name
        assert float((x.abs() >= top).float().mean()) < 0.05, name
    logits = env[quantized.output][:, 0]
    assert not torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_fast_path_and_file_agree_with_run(small, quantized, tmp_path):
    want = Golden(quantized).run(small.patches[32:])[quantized.output][:, 0]
    assert torch.equal(Golden(quantized).logits(small.patches[32:], batch=5), want)
    digest = save_graph(quantized, tmp_path / "m.safetensors")
    again = load_graph(tmp_path / "m.safetensors")
    assert graph_hash(again) == digest == graph_hash(quantized)
    assert torch.equal(Golden(again).logits(small.patches[32:]), want)


def test_deterministic(small):
    assert graph_hash(small.quantize("trio")) == graph_hash(small.quantize("trio"))


@pytest.mark.parametrize("scheme", ["trio", "vitforge"])
def test_block_reconstruction(small, scheme, monkeypatch):
    """Nearer to the float blocks on images trained on and on others; legal, integer, the same each time."""
    monkeypatch.setattr(reconstruct, "ITERATIONS", 30)
    monkeypatch.setattr(reconstruct, "WEIGHT_RATE", 0.05)
    plain, learned = small.quantize(scheme), small.quantize(scheme, reconstruction="block")
    assert "reconstruction" not in plain.meta
    blocks = learned.meta["reconstruction"]
    assert list(blocks) == [b.name for b in import_efficientvit(small.model).blocks]
    changed = [b for b in blocks.values() if b["after"] != b["before"]]
    assert len(changed) >= 2
    assert all(b["held_out_after"] < b["held_out_before"] for b in changed)
    assert sum(b["after"] / b["before"] for b in blocks.values()) < len(blocks)
    check_graph(learned)
    pairs = [(p, q) for p, q in zip(plain.nodes, learned.nodes, strict=True) if hasattr(p, "weight")]
    assert any(not np.array_equal(p.weight, q.weight) for p, q in pairs)
    assert [n.name for n in plain.nodes] == [n.name for n in learned.nodes]
    assert graph_hash(learned) == graph_hash(small.quantize(scheme, reconstruction="block"))


def test_rejected_block_stays_as_it_was(small, monkeypatch):
    """What does not help on held-out images leaves no trace."""
    monkeypatch.setattr(reconstruct, "ITERATIONS", 1)
    monkeypatch.setattr(reconstruct, "squared_error", lambda b, out, target, images: 1.0)
    plain, learned = small.quantize("trio"), small.quantize("trio", reconstruction="block")
    for p, q in zip(plain.nodes, learned.nodes, strict=True):
        for field in dataclasses.fields(p):
            assert np.array_equal(getattr(p, field.name), getattr(q, field.name)), (p.name, field.name)
    assert plain.meta["steps"] == learned.meta["steps"] and plain.meta["zeros"] == learned.meta["zeros"]


def test_vitforge_is_nearer_to_float_than_trio(small):
    result = {
        s: evaluate(small.quantize(s), small.patches[32:], [0] * 12, small.model)["logit_sqnr_db"]
        for s in ("trio", "vitforge")
    }
    assert result["vitforge"] > result["trio"] > 4


@pytest.mark.parametrize(
    "options,software",
    [
        (dict(migration="none", shifting=False), False),
        (dict(migration="exact"), True),
        (dict(migration="channel"), True),
        (dict(divisors="exact"), True),
        (dict(divisors="uniform8"), True),
        (dict(divisors="reciprocal", attention_scales="layer"), False),
        (dict(divisor_gain="head", norm_input="int8", depthwise_zero_point=True, residual_factors=True), False),
    ],
)
def test_options(small, options, software):
    graph = small.quantize("trio", **options)
    assert any(n.software_only() for n in graph.nodes) == software
    assert Golden(graph).logits(small.patches[32:34]).shape == (2, 10)


def test_schemes_do_what_they_say(small):
    trio, ours = small.quantize("trio"), small.quantize("vitforge")
    rules = lambda g: {n.rule for n in g.nodes if isinstance(n, LinearAttention)}  # noqa: E731
    assert rules(trio) == {"log2"} and rules(ours) == {"reciprocal"}
    pads = lambda g: [n.pad for n in g.nodes if isinstance(n, Depthwise) and n.kernel == 3]  # noqa: E731
    assert set(pads(trio)) == {0} and all(p < 0 for p in pads(ours))
    shifted = [n for n in trio.nodes if isinstance(n, Depthwise) and n.kernel == 3]
    assert all(n.offset.any() for n in shifted)  # filter-wise shifting behind every Hardswish before PW2
    plain = small.quantize("trio", migration="none", shifting=False)
    uniform = [n for n in plain.nodes if isinstance(n, Post) and n.act == "hardswish"]
    assert all(len(set(n.s2.tolist())) == 1 and not n.offset.any() for n in uniform)
    assert any(len(set(n.s2.tolist())) > 1 for n in trio.nodes if isinstance(n, Post) and n.act == "hardswish")
    assert trio.tensors["head.classifier.0"].fmt == "int12" and any(
        isinstance(n, LayerNorm) and n.act == "hardswish" for n in trio.nodes
    )


def test_scheme_errors():
    with pytest.raises(ValueError, match="scheme trio: migration must be none or pot or exact or channel, not 'no'"):
        get_trio_scheme("trio", migration="no")
    with pytest.raises(ValueError, match="scheme 'p2vit' is unknown for EfficientViT; schemes are trio, vitforge"):
        get_trio_scheme("p2vit")
    with pytest.raises(ValueError, match="unknown option 'wbits'"):
        get_trio_scheme("trio", wbits=4)
    with pytest.raises(ValueError, match="shifting must be true or false, not 1"):
        get_trio_scheme("trio", shifting=1)


def test_factors_that_parameter_entries_hold():
    """m1 * 2^-s1 is below 2 everywhere; larger factors without an activation are a shift behind it."""
    ratio = torch.tensor([1e-9, 0.3, 1.0, 1.9999, 1.99999999, 2.0, 127.0, 5000.0], dtype=torch.float64)
    for limited in (ratio[:4], ratio):
        f = lower.scaled("x", limited)
        factor = f["m1"].astype(np.float64) * 2.0 ** -f["s1"].astype(np.float64)
        assert (factor < 2).all()
        assert np.allclose(factor * 2.0 ** f["eh"], limited, rtol=2.0**-15, atol=0)
    with pytest.raises(ValueError, match="layer: re-quantization factors must be above 0 and at most 1.99997, need"):
        lower.dyadic("layer", ratio)
    assert lower.hardswish("x", 0.01, 3.0, least=0.2).p_step >= 0.2 > lower.hardswish("x", 0.01, 3.0).p_step


@pytest.mark.parametrize("scheme", ["trio", "vitforge"])
def test_one_pixel_wide_stages(scheme):
    """32 pixels: the last stage is one pixel, Ksum and Z hardly sum; every factor still fits its entry."""
    model, image = load_model(SPEC, None, dict(image_size=32))
    patches = probe_patches(image, 12)
    bring_to_life(model, image, patches)
    chosen = scheme_for(model, scheme)
    graph = quantize_model(model, SPEC, image, chosen, patches, trained=False, progress=False)
    for node in graph.nodes:
        if isinstance(node, Post):
            assert (node.m1 * 2.0 ** -node.s1.astype(np.float64) < 2).all(), node.name


@pytest.mark.parametrize("scheme,sqnr", [("trio", 21), ("vitforge", 24)])
def test_accuracy_on_cifar(data_folder, scheme, sqnr):
    spec = resolve_model("efficientvit_b0")
    model, image = load_model(spec, data_folder / "checkpoints" / "efficientvit_b0_cifar10_r64.safetensors")
    archive = data_folder / "cifar10_jpeg.zip"
    calib = archive_patches(archive, [n for n, _ in archive_images(archive, "train", 100)], image)
    test = archive_images(archive, "test", 150)
    graph = quantize_model(model, spec, image, scheme_for(model, scheme), calib, progress=False)
    patches = archive_patches(archive, [n for n, _ in test], image)
    result = evaluate(graph, patches, [c for _, c in test], model, batch=50)
    assert result["logit_sqnr_db"] > sqnr and result["agreement"] > 95
    assert result["float"]["top1"] - result["top1"] <= 5  # of 150
