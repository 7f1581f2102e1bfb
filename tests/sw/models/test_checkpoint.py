"""Models and checkpoints: bad input is one line, never a traceback of another kind."""

import dataclasses
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vitforge_sw.models.checkpoint import load_model, read_state_dict
from vitforge_sw.models.resolve import ModelSpec, build_model, resolve_model

HUB = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "in_chans": 1},
    "num_classes": 5,
    "pretrained_cfg": {"mean": [0.2], "std": [0.4], "crop_pct": 1.0, "interpolation": "bilinear"},
}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(HUB))
    spec = resolve_model(str(path))
    state = {k: v.clone() for k, v in build_model(spec).state_dict().items()}
    return spec, state, tmp_path


def error(call, *args, **kw) -> str:
    with pytest.raises(ValueError) as caught:
        call(*args, **kw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_resolve(tmp_path):
    assert resolve_model("deit_tiny_patch16_224").architecture == "deit_tiny_patch16_224"
    assert "is neither a timm model nor a .json file" in error(resolve_model, "deit_nano")
    assert error(resolve_model, "vit_\x1b[31m").startswith(r"model vit_\x1b[31m: 'vit_\x1b[31m' is neither")
    bad = tmp_path / "m.json"
    for text, message in [
        ("{", "not readable JSON"),
        ("[1]", "must hold a JSON object"),
        ("{}", "needs a string 'architecture'"),
        ('{"architecture": "vit_tiny_patch16_224", "model_args": 3}', "model_args must be dict"),
    ]:
        bad.write_text(text)
        assert message in error(resolve_model, str(bad))
    assert "not readable JSON" in error(resolve_model, str(tmp_path / "none.json"))
    bad.write_text('{"architecture": "vit_tiny_patch16_224", "model_args": {"color": 1}}')
    assert "refuses model_args" in error(build_model, resolve_model(str(bad)))
    bad.write_text('{"architecture": "vit_tiny_patch16_224", "model_args": {"embed_dim": 10}}')
    assert "refuses model_args" in error(build_model, resolve_model(str(bad)))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"num_heads": -1}, "num_heads must be in 0..65535, not -1"),  # timm takes it, and divides by sqrt(-dim)
        ({"num_classes": 1 << 31}, "num_classes must be in 0..65535, not 2147483648"),
        ({"depth": 1000}, "depth must be 1 to 200 blocks, not 1000"),  # minutes
        ({"depth": 0}, "depth must be 1 to 200 blocks, not 0"),
        ({"patch_size": True}, "patch_size must be a number, not True"),
        ({"embed_dim": 40_000}, "would have 19203640005 parameters, the most is 2147483648"),  # 77 GB
    ],
)
@pytest.mark.parametrize("shapes_only", [True, False])
def test_models_that_are_too_large(change, says, shapes_only):
    """Refused in a moment, before anything of their size is made."""
    spec = ModelSpec("large", HUB["architecture"], HUB["model_args"] | {"num_classes": 5} | change)
    assert error(build_model, spec, shapes_only=shapes_only) == f"model large: {says}"


def test_load(tiny):
    spec, state, folder = tiny
    save_file(state, folder / "c.safetensors")
    model, image = load_model(spec, folder / "c.safetensors")
    assert torch.equal(model.head.weight, state["head.weight"])
    assert (image.image_size, image.patch_size, image.in_chans) == (16, 8, 1)
    assert (image.mean, image.std, image.crop_pct, image.interpolation) == ((0.2,), (0.4,), 1.0, "bilinear")
    torch.save({"state_dict": state}, folder / "c.pth")
    assert torch.equal(load_model(spec, folder / "c.pth")[0].head.weight, state["head.weight"])


def test_classes_are_read_off_the_classifier(tiny):
    spec, state, folder = tiny
    state["head.weight"], state["head.bias"] = torch.randn(9, 16), torch.randn(9)
    save_file(state, folder / "c.safetensors")
    assert load_model(spec, folder / "c.safetensors")[0].num_classes == 9


def test_image_config_precedence(tiny):
    spec, state, folder = tiny
    save_file(state, folder / "c.safetensors")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"crop_pct": 0.5, "mean": [0.3]}}))
    _, image = load_model(spec, folder / "c.safetensors", overrides={"mean": [0.1], "std": None})
    assert (image.crop_pct, image.mean, image.std) == (0.5, (0.1,), (0.4,))
    (folder / "c.json").write_text(json.dumps({"pretrained_cfg": {"crop_pct": 0.6}}))
    assert load_model(spec, folder / "c.safetensors")[1].crop_pct == 0.6
    for size in (0.5, [], {}):
        odd = dataclasses.replace(spec, pretrained_cfg={"input_size": size})
        text = error(load_model, odd, folder / "c.safetensors")
        assert text.startswith("image config: pretrained_cfg of tiny is malformed (")
    text = error(load_model, spec, folder / "c.safetensors", overrides={"image_size": 32})
    assert "image_size 32 differs from the model's 16" in text


def test_untrained_is_seeded(tiny):
    spec = tiny[0]
    a, b, c = (load_model(spec, seed=s)[0].blocks[0].attn.qkv.weight for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_wrong_tensors(tiny):
    spec, state, folder = tiny
    path = folder / "c.safetensors"

    def saved(**change):
        save_file({k: v for k, v in (state | change).items() if v is not None}, path)
        return error(load_model, spec, path)

    assert "tensor norm.bias of tiny is missing" in saved(**{"norm.bias": None})
    assert "head.weight is missing, so the number of classes is unknown" in saved(**{"head.weight": None})
    assert "norm.bias must have shape (16,) for tiny, not (17,)" in saved(**{"norm.bias": torch.zeros(17)})
    assert "has no tensor extra (1 unexpected)" in saved(extra=torch.zeros(2))
    nan = state["norm.weight"].clone()
    nan[3] = float("nan")
    assert "norm.weight must be finite, has 1 NaN or Inf of 16" in saved(**{"norm.weight": nan})


def test_bad_files(tiny):
    spec, state, folder = tiny
    assert "no such file" in error(load_model, spec, folder / "none.safetensors")
    (folder / "c.txt").write_text("x")
    text = error(load_model, spec, folder / "c.txt")
    assert "is neither safetensors nor a file of torch.save (begins with b'x')" in text
    torch.save({"head": {"a": [1, 2]}}, folder / "c.pth")
    assert "must hold a state dict of tensors" in error(load_model, spec, folder / "c.pth")
    torch.save(build_model(spec), folder / "whole.pth")  # a pickled module is never unpickled
    text = error(load_model, spec, folder / "whole.pth")
    assert "holds a whole pickled model (class timm.models.vision_transformer.VisionTransformer)" in text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".safetensors", ".pth"]))
def test_corrupt_files(tiny, data, suffix):
    _, state, folder = tiny
    path = folder / f"c{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    blob = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        blob = blob[: data.draw(st.integers(0, len(blob) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 20))):
            blob[data.draw(st.integers(0, min(len(blob) - 1, 600)))] = data.draw(st.integers(0, 255))
    path.write_bytes(blob)
    try:
        read_state_dict(path)
    except ValueError as caught:
        assert "\n" not in str(caught)
