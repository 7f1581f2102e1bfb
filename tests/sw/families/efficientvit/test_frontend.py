"""The float description of EfficientVit equals timm's model at any resolution; check names what does not run."""

import pytest
import torch
from torch import nn

from vitforge_sw.families.efficientvit.frontend import LiteMLA, float_windows, import_efficientvit
from vitforge_sw.families.efficientvit.shapes import efficientvit_shapes
from vitforge_sw.families.vit.check import check_model
from vitforge_sw.models.resolve import ModelSpec, build_model, resolve_model

SMALL = dict(widths=[8, 16, 16, 16, 32], depths=[2, 1, 2, 1, 2], head_dim=8, head_widths=[32, 48])


def small(**args):
    return build_model(ModelSpec("small", "efficientvit_b0", SMALL | args, 10))


def perturb(model):
    """BatchNorm statistics that folding must take into account."""
    g = torch.Generator().manual_seed(1)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.copy_(0.1 * torch.randn(m.running_mean.shape, generator=g))
            m.running_var.copy_(0.5 + torch.rand(m.running_var.shape, generator=g))
            with torch.no_grad():
                m.weight.copy_(0.5 + torch.rand(m.weight.shape, generator=g))
                m.bias.copy_(0.1 * torch.randn(m.bias.shape, generator=g))
    return model


@pytest.mark.parametrize("size", [32, 45, 64])
def test_float_description_is_timms_model(size):
    model = perturb(small())
    net, x = import_efficientvit(model), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    names = []
    with torch.inference_mode():
        got = net(float_windows(x, 3, 2, 1), lambda name, _: names.append(name))
        assert torch.allclose(got, model(x), atol=1e-5)
    assert names[0] == "stem.in_conv" and names[-1] == "head.classifier.4" and len(set(names)) == len(names)


def test_q_k_and_v_are_runs_of_channels():
    model = small()
    net = import_efficientvit(model)
    block = next(b for b in net.blocks if isinstance(b, LiteMLA))
    timm_block = model.stages[2].blocks[1].context_module.main
    x = torch.randn(1, 4, 4, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        ours = block.qkv(x)
        theirs = timm_block.qkv(x.permute(0, 3, 1, 2)).reshape(1, -1, 24, 16).transpose(-1, -2)  # (B, heads, T, q k v)
        for part, (mine, want) in enumerate(zip(ours.chunk(3, -1), theirs.chunk(3, -1))):
            got = mine.flatten(1, 2).unflatten(-1, (2, 8)).transpose(1, 2)
            assert torch.allclose(got, want, atol=1e-6), part


@pytest.mark.parametrize("name", ["efficientvit_b0", "efficientvit_b1", "efficientvit_b2", "efficientvit_b3"])
def test_check_supports_b0_to_b3(name):
    with torch.device("meta"):
        rows = check_model(build_model(resolve_model(name)))
    assert all(row.supported for row in rows) and len(rows) > 100
    assert [r.layer for r in rows][0] == "stem.in_conv" and rows[-1].layer == "head.classifier.4"


def refused(model, layer, text):
    row = next(r for r in check_model(model) if r.layer == layer)
    assert not row.supported and text in row.reason
    with pytest.raises(ValueError, match="is not supported"):
        import_efficientvit(model)


def test_check_names_what_does_not_run():
    refused(small(act_layer=nn.ReLU6), "stem.in_conv.act", "must be Hardswish, not ReLU6")
    refused(small(global_pool="max"), "head.pool", "pooling must be 'avg', not 'max'")
    model = small()
    model.reset_classifier(0)
    refused(model, "head.classifier.4", "num_classes must not be 0")
    model = small()
    model.stages[2].blocks[1].context_module.main.kernel_func = nn.GELU()
    refused(model, "stages.2.blocks.1.context_module.kernel_func", "needs ReLU, not GELU")
    model = small()
    model.stages[0].blocks[0].main.depth_conv.conv.dilation = (2, 2)
    refused(model, "stages.0.blocks.0.depth_conv", "dilation must be 1")
    model = build_model(resolve_model("efficientvit_l1"))
    assert not all(r.supported for r in check_model(model))


def test_layers_have_one_name():
    """From ``check`` to the first mismatch: every row that is an operation has the integer graph's name for it."""
    model = small()
    rows = [r.layer for r in check_model(model)]
    graph = efficientvit_shapes(import_efficientvit(model), 16)
    made = [n.name for n in graph.nodes if n.role.part not in ("ksum", "kv", "attend")]
    assert made == [r for r in rows if r in set(made)] and len(made) == len(set(made))
