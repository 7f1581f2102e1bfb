"""EfficientViT's quantizer: schemes and options give legal, living, integer-only graphs; accuracy with data."""

import dataclasses

import numpy as np
import pytest
import torch

from vitforge_sw.evaluate import evaluate
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.ir_trio import NODES, Depthwise, LinearAttend, NormAct, Post, software_only
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph
from vitforge_sw.models.alive import bring_to_life, probe_patches
from vitforge_sw.models.archive import archive_images, archive_patches
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import ModelSpec, resolve_model
from vitforge_sw.quant import quantize_model, scheme_for
from vitforge_sw.quant.trio import get_trio_scheme

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
        assert isinstance(node, NODES) and not software_only(node)
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
    assert any(software_only(n) for n in graph.nodes) == software
    assert Golden(graph).logits(small.patches[32:34]).shape == (2, 10)


def test_schemes_do_what_they_say(small):
    trio, ours = small.quantize("trio"), small.quantize("vitforge")
    rules = lambda g: {n.rule for n in g.nodes if isinstance(n, LinearAttend)}  # noqa: E731
    assert rules(trio) == {"log2"} and rules(ours) == {"reciprocal"}
    pads = lambda g: [n.pad for n in g.nodes if isinstance(n, Depthwise) and n.kernel == 3]  # noqa: E731
    assert set(pads(trio)) == {0} and all(p < 0 for p in pads(ours))
    shifted = [n for n in trio.nodes if isinstance(n, Depthwise) and n.kernel == 3]
    assert all(n.offset.any() for n in shifted)  # filter-wise shifting behind every Hardswish before PW2
    plain = small.quantize("trio", migration="none", shifting=False)
    uniform = [n for n in plain.nodes if isinstance(n, Post) and n.act == "hardswish"]
    assert all(len(set(n.s2.tolist())) == 1 and not n.offset.any() for n in uniform)
    assert any(len(set(n.s2.tolist())) > 1 for n in trio.nodes if isinstance(n, Post) and n.act == "hardswish")
    assert trio.tensors["head.classifier.0"].fmt == "int12" and any(isinstance(n, NormAct) for n in trio.nodes)


def test_scheme_errors():
    with pytest.raises(ValueError, match="scheme trio: migration must be none or pot or exact or channel, not 'no'"):
        get_trio_scheme("trio", migration="no")
    with pytest.raises(ValueError, match="scheme 'p2vit' is unknown for EfficientViT; schemes are trio, vitforge"):
        get_trio_scheme("p2vit")
    with pytest.raises(ValueError, match="unknown option 'wbits'"):
        get_trio_scheme("trio", wbits=4)
    with pytest.raises(ValueError, match="shifting must be true or false, not 1"):
        get_trio_scheme("trio", shifting=1)


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
