"""check_model: supported models pass, each unsupported feature is explained, import_vit computes the same network."""

import dataclasses

import pytest
import torch

from vitforge_hw.arch.config import PRESETS
from vitforge_sw.compiler import compile_graph
from vitforge_sw.families.vit.check import check_model
from vitforge_sw.families.vit.frontend import attention, import_vit, layer_norm
from vitforge_sw.families.vit.shapes import shape_graph
from vitforge_sw.models.resolve import ModelSpec, build_model

SMALL = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=7)


def build(architecture="vit_tiny_patch16_224", **args):
    return build_model(ModelSpec("m", architecture, SMALL | args))


def refused(model, word=16):
    return [row for row in check_model(model, word) if not row.supported]


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "vit_base_patch16_224"]
)
def test_standard_models_are_supported(name):
    with torch.device("meta"):
        rows = check_model(build_model(ModelSpec(name, name)))
    assert all(row.supported for row in rows)
    assert rows[0].layer == "embed" and rows[0].shape[1:] == (3, 16, 16)
    assert {"blocks.11.attn.qkv", "blocks.0.mlp.fc1", "norm", "head"} <= {row.layer for row in rows}


@pytest.mark.parametrize(
    "args,layer,text",
    [
        (dict(qk_norm=True, norm_layer="rmsnorm"), "blocks.0.attn.q_norm", "q_norm must be LayerNorm"),
        (dict(scale_attn_norm=True), "blocks.0.attn.norm", "the heads together"),
        (dict(embed_dim=40), "embed", "embed_dim 40 must be a multiple of 16"),
        (dict(embed_dim=48, num_heads=2), "blocks.0.attn.qkv", "head dimension 24 must be a multiple of 16"),
        (dict(mlp_ratio=2.25), "blocks.0.mlp.fc1", "hidden width 72 must be a multiple of 16"),
        (dict(global_pool="max"), "pool", "global_pool must be 'token' or 'avg', not 'max'"),
        (dict(reg_tokens=8), "prefix tokens", "9 tokens before the patches exceed 8"),
        (dict(pre_norm=True), "norm_pre", "before the blocks"),
        (dict(act_layer="silu"), "blocks.0.mlp.act", "must be GELU or ReLU, not SiLU"),
        (dict(img_size=256, patch_size=8), "tokens", "1025 tokens exceed 511"),
        (dict(num_classes=0), "head", "one linear layer"),
    ],
)
def test_unsupported_features_are_explained(args, layer, text):
    model = build(**args)
    rows = {row.layer: row for row in refused(model)}
    assert layer in rows and text in rows[layer].reason
    if "multiple of" not in text:
        with pytest.raises(ValueError, match="is not supported") as caught:
            import_vit(model)
        assert "\n" not in str(caught.value)


def test_word_of_eight():
    assert not refused(build(embed_dim=40, num_heads=1, mlp_ratio=2), word=8)


def test_convolutional_models():
    with torch.device("meta"):
        rows = check_model(build_model(ModelSpec("r", "resnet18")))
    assert not rows[0].supported and any(r.layer == "layer1.0.conv1" and not r.supported for r in rows)


KINDS = [
    {}, dict(qkv_bias=False), dict(no_embed_class=True), dict(init_values=0.5), dict(act_layer="relu"),
    dict(reg_tokens=4), dict(reg_tokens=2, no_embed_class=True), dict(qk_norm=True), dict(global_pool="avg"),
    dict(global_pool="avg", fc_norm=False), dict(global_pool="avg", class_token=False),
    dict(global_pool="avg", class_token=False, reg_tokens=3, pool_include_prefix=True),
    dict(architecture="deit_tiny_distilled_patch16_224"),
]  # fmt: skip


@pytest.mark.parametrize("args", KINDS, ids=lambda a: " ".join(f"{k}={v}" for k, v in a.items()) or "plain")
@torch.inference_mode()
def test_description_computes_the_model(args):
    model = build(**args)
    assert not refused(model)
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.add_(torch.randn(p.shape, generator=g) * 0.1)
    x = torch.randn(2, 3, 32, 32, generator=g)
    vit = import_vit(model)
    y = vit.embedding(torch.nn.functional.unfold(x, 8, stride=8).transpose(1, 2))
    linear = lambda y, a: torch.nn.functional.linear(y, a.weight, a.bias)  # noqa: E731
    for b in vit.blocks:
        n = layer_norm(y, b.norm1)
        q, k = (b.normed(part, linear(n, getattr(b, part))) for part in "qk")
        y = y + linear(attention(q, k, linear(n, b.v), b.heads, b.scale), b.proj)
        y = y + linear(b.activation(linear(layer_norm(y, b.norm2), b.fc1)), b.fc2)
    assert torch.allclose(vit.logits(y), model(x), atol=1e-4)


def test_width_is_the_configurations():
    """1152 channels: accepted by check, compiled where LayerNorm has the width, refused elsewhere with that reason."""
    wide = dict(embed_dim=1152, num_heads=18, mlp_ratio=2, depth=1)
    assert not refused(build(**wide))
    graph = shape_graph(1, 1152, 18, 2304, 17, 192, 7)
    config = dataclasses.replace(PRESETS["p2vit"], name="wide", max_channels=1152)
    assert compile_graph(graph, config).macs["blocks.0.mlp.fc1"] == 17 * 1152 * 2304
    with pytest.raises(ValueError, match=r"at most max_channels = 1024 channels, not 1152 \(preset p2vit\)"):
        compile_graph(graph, PRESETS["p2vit"])
    assert "exceed the LayerNorm unit's 4096" in refused(build(embed_dim=4112, num_heads=1, depth=1))[0].reason


def test_layers_have_one_name():
    """Rows of operations have the integer graph's names; q, k and v of the heads are parts of one row."""
    rows = [r.layer for r in check_model(build())]
    made = [n.name for n in shape_graph(2, 32, 2, 128, 17, 192, 7).nodes]
    whole = [n for n in made if ".h" not in n]
    assert whole == [r for r in rows if r in set(whole)]
