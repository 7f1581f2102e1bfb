"""Names in a checkpoint: prefixes, foreign ones, ``--map``, what lacks its head."""

import json

import pytest
import torch
from safetensors.torch import save_file

from vitforge_sw.models.checkpoint import read_map
from vitforge_sw.models.resolve import build_model, resolve_model


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.", "model.module.net.", "visual."]
)
def test_prefixes(forms, state, want, tmp_path, prefix):
    save_file({prefix + n: v for n, v in state.items()}, tmp_path / "c.safetensors")
    got, notes = forms.loaded(tmp_path / "c.safetensors")
    assert torch.equal(got, want) and notes == [f"checkpoint: {prefix} taken off the names"]


def test_prefix_of_a_part(forms, state, want, tmp_path):
    """A classifier beside a backbone."""
    parts = {("module." if n.startswith("head") else "module.backbone.") + n: v for n, v in state.items()}
    save_file(parts, tmp_path / "c.safetensors")
    assert torch.equal(forms.loaded(tmp_path / "c.safetensors")[0], want)


def test_foreign_names(forms, state, tmp_path):
    save_file({f"layer{i}.w": v for i, v in enumerate(state.values())}, tmp_path / "c.safetensors")
    text = forms.refusal(tmp_path / "c.safetensors")
    assert "its names are not those of tiny: found layer0.w, layer1.w, layer10.w, ... (32 tensors)" in text
    assert "expected blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, blocks.0.attn.qkv.bias, ... (32)" in text
    assert "--map F.json renames them" in text


def test_map(forms, state, want, tmp_path):
    other = {"enc." + n.replace("blocks.0.attn.qkv", "first.qkv"): v for n, v in state.items()} | {
        "loss": torch.zeros(1)
    }
    save_file(other, tmp_path / "c.safetensors")
    rules = {"enc.": "", "enc.first.": "blocks.0.attn.", "loss": None}
    (tmp_path / "m.json").write_text(json.dumps(rules))
    names = read_map(tmp_path / "m.json")
    assert torch.equal(forms.loaded(tmp_path / "c.safetensors", names=names)[0], want)
    assert "has no tensor nothing. that --map names; it has enc." in forms.refusal(
        tmp_path / "c.safetensors", names=names | {"nothing.": "x."}
    )
    assert "two tensors become head.weight by --map" in forms.refusal(
        tmp_path / "c.safetensors", names=names | {"loss": "head.weight"}
    )
    for text in ("{", "[]", '{"a": 3}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(ValueError, match="map .*m.json: "):
            read_map(tmp_path / "m.json")


def test_headless(forms, state, tmp_path):
    save_file({n: v for n, v in state.items() if not n.startswith("head")}, tmp_path / "c.safetensors")
    text = forms.refusal(tmp_path / "c.safetensors")
    assert "the classifier head.weight is missing, so the number of classes is unknown; a backbone alone" in text


@pytest.mark.parametrize("name", ["timm/{}", "hf_hub:timm/{}", "hf-hub:timm/{}", "{}.augreg_in21k_ft_in1k"])
def test_names_of_the_hub(name):
    spec = resolve_model(name.format("vit_tiny_patch16_224"))
    model = build_model(spec, shapes_only=True)
    assert type(model).__name__ == "VisionTransformer" and model.embed_dim == 192
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
