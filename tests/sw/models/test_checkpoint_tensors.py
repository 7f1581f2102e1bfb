"""Kinds and values of tensors in a checkpoint: what cannot be a weight is refused by its name."""

import pytest
import torch
from safetensors.torch import save_file

WEIGHT = "blocks.1.mlp.fc1.weight"


def quantized(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    "change, says",
    [
        (quantized, "is quantized (qint8)"),
        (lambda x: x.to_sparse(), "is sparse (sparse_coo)"),
        (lambda x: x.to_sparse_csr(), "is sparse (sparse_csr)"),
        (lambda x: x.to(torch.complex64), "is complex (complex64)"),
        (lambda x: x.to(torch.float8_e4m3fn), "is float8_e4m3fn, whose scale is unknown"),
        (lambda x: (x * 100).to(torch.int8), "is of integers (int8)"),
        (lambda x: x.to("meta"), "is without data (saved from the meta device)"),
    ],
)
def test_kinds_of_tensors(forms, state, tmp_path, change, says):
    torch.save(state | {WEIGHT: change(state[WEIGHT])}, tmp_path / "c.pth")
    text = forms.refusal(tmp_path / "c.pth")
    assert f"{WEIGHT} must be a dense float tensor (16 bits or more), {says}" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float_formats(forms, state, tmp_path, dtype):
    cast = {n: v.to(dtype) for n, v in state.items()}
    save_file(cast, tmp_path / "c.safetensors")
    want = forms.reference(forms.SPEC, {n: v.float() for n, v in cast.items()})
    assert torch.equal(forms.loaded(tmp_path / "c.safetensors")[0], want)


def test_values(forms, tmp_path):
    state, name = forms.random_weights(forms.EVIT), "stem.in_conv.norm.running_var"
    for value, says in [
        (-1e-3, "must be a variance of at least 0, has 1 below it of 8 (least -0.001)"),
        (float("nan"), "must be finite, has 1 NaN or Inf of 8"),
        (float("-inf"), "must be finite, has 1 NaN or Inf of 8"),
        (1e300, "must be finite, has 1 values beyond float32 of 8"),
    ]:
        bad = state[name].double()
        bad[2] = value
        save_file(state | {name: bad}, tmp_path / "c.safetensors")
        assert f"{name} {says}" in forms.refusal(tmp_path / "c.safetensors", forms.EVIT)


def test_views_of_few_values(forms, state, tmp_path):
    """A few bytes that say to be gigabytes are refused before anything of their size is made."""
    for name, change in (
        ("head.weight", lambda x: x[:1].expand(1 << 28, 16)),  # the classifier says how large the model is
        (WEIGHT, lambda x: torch.zeros(1).expand(1 << 40)),
    ):
        view = change(state[name])
        torch.save(state | {name: view}, tmp_path / "c.pth")
        says = f"{name} must have all of its {view.numel()} values in the file"
        assert (tmp_path / "c.pth").stat().st_size < 1 << 20 and says in forms.refusal(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x: x.to("meta"), "is without data (saved from the meta device)"),
        (lambda x: torch.nested.nested_tensor([x, x]), "is nested"),
        (lambda x: x.to_sparse(), "is sparse (sparse_coo)"),
    ],
)
def test_kinds_of_tensors_that_are_joined(forms, state, tmp_path, change, says):
    """Hugging Face's query, key and value become one matrix: what cannot be joined has the name of the file."""
    renamed = forms.hugging_face(state)
    name = "encoder.layer.1.attention.attention.key.weight"
    torch.save(renamed | {f"vit.{name}": change(renamed[f"vit.{name}"])}, tmp_path / "c.pth")
    text = forms.refusal(tmp_path / "c.pth")
    assert f"{name} must be a dense float tensor (16 bits or more), {says}" in text
