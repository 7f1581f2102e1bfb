"""timm's own adaptations of a checkpoint, and the number of classes, which the checkpoint decides."""

import re

import torch
from safetensors.torch import save_file

from vitforge_sw.models.resolve import ModelSpec
from vitforge_sw.models.timm_import import import_timm


def test_counters_are_not_needed(forms, tmp_path):
    state = forms.random_weights(forms.EVIT)
    bare = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert len(bare) < len(state)
    save_file(bare | {"stem.total_ops": torch.zeros(1, dtype=torch.float64)}, tmp_path / "c.safetensors")
    got, _ = forms.loaded(tmp_path / "c.safetensors", forms.EVIT, 64)
    assert torch.equal(got, forms.reference(forms.EVIT, state, 64))


def test_deit3_layer_scale(forms, tmp_path):
    spec = ModelSpec("d3", "deit3_small_patch16_224", forms.ARGS, num_classes=5)
    state = forms.random_weights(spec)
    assert "blocks.0.ls1.gamma" in state and state["pos_embed"].shape[1] == 4
    old = {re.sub(r"ls([12])\.gamma", r"gamma_\1", n): v for n, v in state.items()}  # Meta's own files
    torch.save({"model": old}, tmp_path / "c.pth")
    assert torch.equal(forms.loaded(tmp_path / "c.pth", spec)[0], forms.reference(spec, state))


def test_position_embedding_of_another_image_size(forms, state, tmp_path):
    """A 2 x 2 grid taken at 32 pixels: resampled to 4 x 4, by timm's own function, and said."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("larger", forms.SPEC.architecture, forms.ARGS | {"img_size": 32}, num_classes=5)
    got, notes = forms.loaded(tmp_path / "c.safetensors", spec, 32)
    assert notes == ["checkpoint: pos_embed resampled from 2 x 2 to 4 x 4 patches"]
    resample = import_timm().layers.resample_abs_pos_embed
    moved = state | {"pos_embed": resample(state["pos_embed"], new_size=[4, 4], num_prefix_tokens=1)}
    assert torch.equal(got, forms.reference(spec, moved, 32))


def test_patches_of_another_size_are_refused(forms, state, tmp_path):
    """timm would resample these weights too, and quietly make another model of them."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("coarse", forms.SPEC.architecture, forms.ARGS | {"patch_size": 4}, num_classes=5)
    text = forms.refusal(tmp_path / "c.safetensors", spec)
    assert "patch_embed.proj.weight must have shape (16, 1, 4, 4) for coarse, not (16, 1, 8, 8)" in text


def test_distilled(forms, tmp_path):
    spec = ModelSpec("distilled", "deit_tiny_distilled_patch16_224", forms.ARGS, num_classes=5)
    state = forms.random_weights(spec)
    save_file(state, tmp_path / "c.safetensors")
    assert torch.equal(forms.loaded(tmp_path / "c.safetensors", spec)[0], forms.reference(spec, state))
    assert "is a distilled DeiT (dist_token, head_dist), which MODEL is not; give the distilled one" in forms.refusal(
        tmp_path / "c.safetensors"
    )


def test_number_of_classes(forms, state, want, tmp_path):
    """The checkpoint decides; that the JSON says another number is said."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("ten", forms.SPEC.architecture, forms.ARGS, num_classes=10)
    got, notes = forms.loaded(tmp_path / "c.safetensors", spec)
    assert torch.equal(got, want)
    assert notes == ["classes: the checkpoint has 5, ten says 10: the checkpoint decides"]
    inside = ModelSpec("ten", forms.SPEC.architecture, forms.ARGS | {"num_classes": 10})
    assert torch.equal(forms.loaded(tmp_path / "c.safetensors", inside)[0], want)
