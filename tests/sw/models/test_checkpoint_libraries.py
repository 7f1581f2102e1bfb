"""Checkpoints under the names of other libraries: the same logits."""

import json

import pytest
import torch
from safetensors.torch import save_file

from vitforge_sw.models.checkpoint import label_names, load_model


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_hugging_face(forms, state, want, tmp_path, family):
    renamed = forms.hugging_face(state, family)
    assert f"{family}.layernorm.weight" in renamed and f"{family}.encoder.layer.1.layernorm_after.bias" in renamed
    extra = {f"{family}.embeddings.mask_token": torch.zeros(1, 1, 16), f"{family}.pooler.dense.bias": torch.zeros(16)}
    save_file(renamed | extra, tmp_path / "model.safetensors")
    got, notes = forms.loaded(tmp_path / "model.safetensors")
    assert torch.equal(got, want) and notes == ["checkpoint: Hugging Face's names, mapped to timm's"]
    del renamed[f"{family}.encoder.layer.1.attention.attention.key.bias"]
    save_file(renamed, tmp_path / "model.safetensors")
    assert "encoder.layer.1.attention.attention.key.bias is missing" in forms.refusal(tmp_path / "model.safetensors")


def test_hugging_face_image_options_and_labels(forms, state, tmp_path):
    save_file(forms.hugging_face(state), tmp_path / "model.safetensors")
    config = {"id2label": {str(i): f"cat {i}" for i in range(5)}, "num_labels": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {
        "image_mean": [0.25], "image_std": [0.5], "resample": 2, "size": {"height": 20, "width": 20},
        "do_center_crop": True, "crop_size": {"height": 16, "width": 16},
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    notes = []
    _, image = load_model(forms.SPEC, tmp_path / "model.safetensors", notes=notes)
    assert (image.mean, image.std, image.interpolation) == ((0.25,), (0.5,), "bilinear")
    assert (image.crop_mode, image.crop_pct) == ("squash", 0.8)
    assert "checkpoint: image options from preprocessor_config.json beside it" in notes
    assert label_names(forms.SPEC, config, 5) == tuple(f"cat {i}" for i in range(5))
    assert label_names(forms.SPEC, {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}, 5) == ()
    assert label_names(forms.SPEC, {"label_names": ["a", "b"]}, 5, notes) == ()
    assert notes[-1] == "labels: 2 label names for 5 classes, so they are not used"


def test_mit_efficientvit(forms, tmp_path):
    state = forms.random_weights(forms.EVIT)
    renamed = forms.mit(state)
    assert not set(renamed) & set(state) and len(renamed) == len(state)
    torch.save({"state_dict": renamed, "ema": {0.9998: renamed}, "epoch": 1}, tmp_path / "b0.pt")
    got, notes = forms.loaded(tmp_path / "b0.pt", forms.EVIT, 64)
    assert torch.equal(got, forms.reference(forms.EVIT, state, 64))
    assert "checkpoint: MIT-Han-Lab's names, mapped to timm's" in notes
