"""Checkpoints as people have them: every form gives the same logits, or the reason is named."""

import argparse
import collections
import json
import pathlib
import re
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitforge_sw.models.checkpoint import label_names, load_model, read_map
from vitforge_sw.models.resolve import ModelSpec, build_model, resolve_model
from vitforge_sw.models.timm_import import import_timm

ARGS = dict(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, in_chans=1)
SPEC = ModelSpec("tiny", "vit_tiny_patch16_224", ARGS, num_classes=5)
EVIT = ModelSpec(
    "evit",
    "efficientvit_b0",
    dict(widths=[8, 8, 16, 16, 16], depths=[1, 1, 1, 2, 2], head_dim=8, head_widths=[32, 48]),
    5,
)


def random_weights(spec, seed=0) -> dict[str, torch.Tensor]:
    """A state dict in which no two tensors are alike, so that a mix-up shows in the logits."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in build_model(spec).state_dict().items():
        if value.is_floating_point():
            value = torch.rand(value.shape, generator=g) * 0.5 + (0.5 if name.endswith("var") else -0.25)
        state[name] = value
    return state


@torch.inference_mode()
def logits(model, size) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    chans = 1 if hasattr(model, "patch_embed") and model.patch_embed.proj.in_channels == 1 else 3
    return model.eval()(torch.randn(2, chans, size, size, generator=g))


def reference(spec, state, size=16) -> torch.Tensor:
    model = build_model(spec, num_classes=state[next(n for n in reversed(state) if n.endswith("weight"))].shape[0])
    model.load_state_dict(state)
    return logits(model, size)


@pytest.fixture(scope="module")
def state():
    return random_weights(SPEC)


@pytest.fixture(scope="module")
def want(state):
    return reference(SPEC, state)


def loaded(path, spec=SPEC, size=16, **options) -> tuple[torch.Tensor, list[str]]:
    """(logits, lines)"""
    notes = []
    model, _ = load_model(spec, path, notes=notes, **options)
    return logits(model, size), notes


def refusal(path, spec=SPEC, **options) -> str:
    with pytest.raises(ValueError) as caught:
        load_model(spec, path, **options)
    text = str(caught.value)
    assert text.isprintable(), "one line, no escape codes"
    return text


# ---------------------------------------------------------------- what a file is


@pytest.mark.parametrize("name", ["c.safetensors", "c.pth", "c.pth.tar", "c.ckpt", "c.bin", "c", "c.txt"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_by_content_not_by_name(state, want, tmp_path, name, kind):
    if kind == "safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    got, notes = loaded(tmp_path / name)
    assert torch.equal(got, want) and notes == []


def test_what_a_file_is_instead(tmp_path):
    path = tmp_path / "c.safetensors"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883664\n"
    for content, says in [
        (pointer, "is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull"),
        (b"<!DOCTYPE html><title>Not found</title>", "is a web page, not a checkpoint"),
        (b"\x1f\x8b\x08\x00 and more", "is compressed (gzip); unpack it first"),
        (b"\0" * 257 + b"ustar\0" + b"\0" * 300, "is a tar archive; unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"GGUF\x03\0\0\0", "is a GGUF file"),
        (b'{"weight_map": {}}', "is JSON text, not weights"),
        (b"hello", "is neither safetensors nor a file of torch.save (begins with b'hello')"),
    ]:
        path.write_bytes(content)
        text = refusal(path)
        assert says in text and "corrupt" not in text
    np.savez(tmp_path / "jax.npz", a=np.zeros(2))
    assert "is a NumPy archive (JAX weights)" in refusal(tmp_path / "jax.npz")


def test_damaged_files_are_called_so(state, tmp_path):
    path = tmp_path / "c"
    for kind in ("safetensors", "zip", "legacy"):
        if kind == "safetensors":
            save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert "corrupt or truncated" in refusal(path), kind
    path.write_bytes(b"")
    assert "corrupt or truncated (the file is empty)" in refusal(path)


def test_torchscript(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "c.pt")
    assert "is a TorchScript program; save the model's state dict instead" in refusal(tmp_path / "c.pt")


# ---------------------------------------------------------------- what lies around the weights


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keys", ["model", "state_dict", "model_state_dict", "net", "weights", "state_dict.model", "x"])
def test_nesting(state, want, tmp_path, keys, zipped):
    inner = state
    for key in reversed(keys.split(".")):
        inner = {key: inner}
    beside = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1}]}}
    torch.save(inner | beside, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    got, notes = loaded(tmp_path / "c.pth")
    assert torch.equal(got, want) and notes == []


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema.module", "ema.0.9998"])
def test_averaged_weights_are_preferred(state, want, tmp_path, key):
    top, _, below = key.partition(".")
    below = 0.9998 if below == "0.9998" else below  # as MIT-Han-Lab writes it
    torch.save({"state_dict": random_weights(SPEC, 9), top: {below: state} if below else state}, tmp_path / "c.pth")
    got, notes = loaded(tmp_path / "c.pth")
    assert torch.equal(got, want)
    assert notes == [f"checkpoint: averaged (EMA) weights taken, under {top}, not those under state_dict"]


def test_averaged_weights_by_prefix(state, want, tmp_path):
    """A Lightning module that holds both copies in one state dict."""
    both = {f"model.{n}": v for n, v in random_weights(SPEC, 9).items()} | {
        f"ema_model.{n}": v for n, v in state.items()
    }
    torch.save({"state_dict": both}, tmp_path / "c.ckpt")
    got, notes = loaded(tmp_path / "c.ckpt")
    assert torch.equal(got, want)
    assert notes == ["checkpoint: averaged (EMA) weights taken, named ema_model.*, not the others"]


def test_averaged_weights_that_are_no_state_dict(state, want, tmp_path):
    torch.save({"model": state, "ema": {"shadow_params": list(state.values()), "decay": 0.99}}, tmp_path / "c.pth")
    got, notes = loaded(tmp_path / "c.pth")
    assert torch.equal(got, want)
    assert notes == ["checkpoint: what ema holds is no state dict; the weights under model are taken"]
    torch.save({"model": state, "model_ema": None}, tmp_path / "c.pth")
    assert loaded(tmp_path / "c.pth")[1] == []


@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_beside_the_weights(state, want, tmp_path, zipped):
    """As training scripts save them; their classes are neither imported nor run."""
    counts = collections.defaultdict(int)
    counts["seen"] = 3
    beside = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("/data"), nested=argparse.Namespace(a=[1, 2])),
        "config": types.SimpleNamespace(depth=2),
        "counts": counts,
        "best": np.float64(81.8),
        "history": np.arange(4.0),
    }
    torch.save({"model": state, **beside}, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    got, notes = loaded(tmp_path / "c.pth")
    assert torch.equal(got, want) and notes == []


def test_configuration_of_a_library_that_is_not_installed(state, want, tmp_path):
    modules = {name: types.ModuleType(name) for name in ("omegaconf", "omegaconf.dictconfig")}
    module = modules["omegaconf.dictconfig"]
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})
    config = module.DictConfig()
    config.content = {"lr": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        for name in modules:
            patch.setitem(sys.modules, name, modules[name])
        torch.save({"model": state, "cfg": config}, tmp_path / "c.pth")
    assert torch.equal(loaded(tmp_path / "c.pth")[0], want)


class Meter:
    """Somebody's own class."""


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_that_are_not_read(state, tmp_path, zipped):
    torch.save({"model": state, "meter": Meter()}, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    text = refusal(tmp_path / "c.pth")
    assert re.search(r"holds an object of \S*Meter, and reading it would run its code; save the state dict alone", text)
    torch.save(build_model(SPEC), tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    text = refusal(tmp_path / "c.pth")
    assert "holds a whole pickled model (class timm.models.vision_transformer.VisionTransformer)" in text
    assert "save model.state_dict() instead" in text and "corrupt" not in text


def test_code_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "touched",))

    class Shell:
        def __reduce__(self):
            import os

            return (os.system, (f"touch {tmp_path / 'touched'}",))

    for thing, says in ((Evil(), "builtins.getattr|getattr"), (Shell(), "posix.system")):
        torch.save({"model": thing}, tmp_path / "c.pth")
        assert re.search(says, refusal(tmp_path / "c.pth"))
    assert not (tmp_path / "touched").exists()


def test_nothing_that_could_be_weights(state, tmp_path):
    path = tmp_path / "c.pth"
    for content, says in [
        ({"epoch": 3}, "must hold a state dict of tensors, not a mapping with epoch"),
        ([torch.zeros(2)], "must hold a state dict of tensors, not list"),
        (torch.zeros(2), "must hold a state dict of tensors, not Tensor"),
        ({"teacher": state, "student2": state}, "it has several, teacher, student2; keep one"),
    ]:
        torch.save(content, path)
        assert says in refusal(path)


def test_escape_codes_in_names_are_shown(state, tmp_path):
    torch.save(state | {"\x1b[31mred\nline": torch.zeros(1)}, tmp_path / "c.pth")
    assert r"\x1b[31mred\nline" in refusal(tmp_path / "c.pth")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.", "model.module.net.", "visual."]
)
def test_prefixes(state, want, tmp_path, prefix):
    save_file({prefix + n: v for n, v in state.items()}, tmp_path / "c.safetensors")
    got, notes = loaded(tmp_path / "c.safetensors")
    assert torch.equal(got, want) and notes == [f"checkpoint: {prefix} taken off the names"]


def test_prefix_of_a_part(state, want, tmp_path):
    """A classifier beside a backbone."""
    parts = {("module." if n.startswith("head") else "module.backbone.") + n: v for n, v in state.items()}
    save_file(parts, tmp_path / "c.safetensors")
    assert torch.equal(loaded(tmp_path / "c.safetensors")[0], want)


def test_foreign_names(state, tmp_path):
    save_file({f"layer{i}.w": v for i, v in enumerate(state.values())}, tmp_path / "c.safetensors")
    text = refusal(tmp_path / "c.safetensors")
    assert "its names are not those of tiny: found layer0.w, layer1.w, layer10.w, ... (32 tensors)" in text
    assert "expected blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, blocks.0.attn.qkv.bias, ... (32)" in text
    assert "--map F.json renames them" in text


def test_map(state, want, tmp_path):
    other = {"enc." + n.replace("blocks.0.attn.qkv", "first.qkv"): v for n, v in state.items()} | {
        "loss": torch.zeros(1)
    }
    save_file(other, tmp_path / "c.safetensors")
    rules = {"enc.": "", "enc.first.": "blocks.0.attn.", "loss": None}
    (tmp_path / "m.json").write_text(json.dumps(rules))
    names = read_map(tmp_path / "m.json")
    assert torch.equal(loaded(tmp_path / "c.safetensors", names=names)[0], want)
    assert "has no tensor nothing. that --map names; it has enc." in refusal(
        tmp_path / "c.safetensors", names=names | {"nothing.": "x."}
    )
    assert "two tensors become head.weight by --map" in refusal(
        tmp_path / "c.safetensors", names=names | {"loss": "head.weight"}
    )
    for text in ("{", "[]", '{"a": 3}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(ValueError, match="map .*m.json: "):
            read_map(tmp_path / "m.json")


def test_headless(state, tmp_path):
    save_file({n: v for n, v in state.items() if not n.startswith("head")}, tmp_path / "c.safetensors")
    text = refusal(tmp_path / "c.safetensors")
    assert "the classifier head.weight is missing, so the number of classes is unknown; a backbone alone" in text


def hugging_face(state, family="vit") -> dict[str, torch.Tensor]:
    """The names of ``ViTForImageClassification``: query, key and value apart."""
    out = {}
    for name, value in state.items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            kind = rest.rpartition(".")[2]
            layer = f"{family}.encoder.layer.{block}."
            if rest.startswith("attn.qkv."):
                for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    out[f"{layer}attention.attention.{part}.{kind}"] = piece.clone()
                continue
            there = {
                "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
                "norm1": "layernorm_before", "norm2": "layernorm_after",
            }[rest.rpartition(".")[0]]  # fmt: skip
            out[f"{layer}{there}.{kind}"] = value
        elif name.startswith("head"):
            out[name.replace("head", "classifier")] = value
        else:
            there = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}.get(name)
            there = there or name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
            out[f"{family}.{there.replace('norm.', 'layernorm.') if there == name else there}"] = value
    return out


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_hugging_face(state, want, tmp_path, family):
    renamed = hugging_face(state, family)
    assert f"{family}.layernorm.weight" in renamed and f"{family}.encoder.layer.1.layernorm_after.bias" in renamed
    extra = {f"{family}.embeddings.mask_token": torch.zeros(1, 1, 16), f"{family}.pooler.dense.bias": torch.zeros(16)}
    save_file(renamed | extra, tmp_path / "model.safetensors")
    got, notes = loaded(tmp_path / "model.safetensors")
    assert torch.equal(got, want) and notes == ["checkpoint: Hugging Face's names, mapped to timm's"]
    del renamed[f"{family}.encoder.layer.1.attention.attention.key.bias"]
    save_file(renamed, tmp_path / "model.safetensors")
    assert "encoder.layer.1.attention.attention.key.bias is missing" in refusal(tmp_path / "model.safetensors")


def test_hugging_face_image_options_and_labels(state, tmp_path):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    config = {"id2label": {str(i): f"cat {i}" for i in range(5)}, "num_labels": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {
        "image_mean": [0.25], "image_std": [0.5], "resample": 2, "size": {"height": 20, "width": 20},
        "do_center_crop": True, "crop_size": {"height": 16, "width": 16},
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    notes = []
    _, image = load_model(SPEC, tmp_path / "model.safetensors", notes=notes)
    assert (image.mean, image.std, image.interpolation) == ((0.25,), (0.5,), "bilinear")
    assert (image.crop_mode, image.crop_pct) == ("squash", 0.8)
    assert "checkpoint: image options from preprocessor_config.json beside it" in notes
    assert label_names(SPEC, config, 5) == tuple(f"cat {i}" for i in range(5))
    assert label_names(SPEC, {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}, 5) == ()
    assert label_names(SPEC, {"label_names": ["a", "b"]}, 5, notes) == ()
    assert notes[-1] == "labels: 2 label names for 5 classes, so they are not used"


def mit(state) -> dict[str, torch.Tensor]:
    """The names of MIT-Han-Lab's ``EfficientViTCls``."""
    out = {}
    for name, value in state.items():
        name = re.sub(r"^stem\.in_conv\.", "backbone.input_stem.op_list.0.", name)
        name = re.sub(r"^stem\.res(\d+)\.", lambda m: f"backbone.input_stem.op_list.{int(m[1]) + 1}.", name)
        name = re.sub(r"^stages\.(\d+)\.blocks\.(\d+)\.", r"backbone.stages.\1.op_list.\2.", name)
        for ours, theirs in (("in_conv", "0"), ("classifier.0", "2.linear"), ("classifier.1", "2.norm"),
                             ("classifier.4", "3.linear")):  # fmt: skip
            name = name.replace(f"head.{ours}.", f"head.op_list.{theirs}.")
        out[name] = value
    return out


def test_mit_efficientvit(tmp_path):
    state = random_weights(EVIT)
    renamed = mit(state)
    assert not set(renamed) & set(state) and len(renamed) == len(state)
    torch.save({"state_dict": renamed, "ema": {0.9998: renamed}, "epoch": 1}, tmp_path / "b0.pt")
    got, notes = loaded(tmp_path / "b0.pt", EVIT, 64)
    assert torch.equal(got, reference(EVIT, state, 64))
    assert "checkpoint: MIT-Han-Lab's names, mapped to timm's" in notes


@pytest.mark.parametrize("name", ["timm/{}", "hf_hub:timm/{}", "hf-hub:timm/{}", "{}.augreg_in21k_ft_in1k"])
def test_names_of_the_hub(name):
    spec = resolve_model(name.format("vit_tiny_patch16_224"))
    model = build_model(spec, shapes_only=True)
    assert type(model).__name__ == "VisionTransformer" and model.embed_dim == 192
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)


# ---------------------------------------------------------------- timm's own adaptations


def test_counters_are_not_needed(tmp_path):
    state = random_weights(EVIT)
    bare = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert len(bare) < len(state)
    save_file(bare | {"stem.total_ops": torch.zeros(1, dtype=torch.float64)}, tmp_path / "c.safetensors")
    assert torch.equal(loaded(tmp_path / "c.safetensors", EVIT, 64)[0], reference(EVIT, state, 64))


def test_deit3_layer_scale(tmp_path):
    spec = ModelSpec("d3", "deit3_small_patch16_224", ARGS, num_classes=5)
    state = random_weights(spec)
    assert "blocks.0.ls1.gamma" in state and state["pos_embed"].shape[1] == 4
    old = {re.sub(r"ls([12])\.gamma", r"gamma_\1", n): v for n, v in state.items()}  # Meta's own files
    torch.save({"model": old}, tmp_path / "c.pth")
    assert torch.equal(loaded(tmp_path / "c.pth", spec)[0], reference(spec, state))


def test_position_embedding_of_another_image_size(state, tmp_path):
    """A 2 x 2 grid taken at 32 pixels: resampled to 4 x 4, by timm's own function, and said."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("larger", SPEC.architecture, ARGS | {"img_size": 32}, num_classes=5)
    got, notes = loaded(tmp_path / "c.safetensors", spec, 32)
    assert notes == ["checkpoint: pos_embed resampled from 2 x 2 to 4 x 4 patches"]
    resample = import_timm().layers.resample_abs_pos_embed
    moved = state | {"pos_embed": resample(state["pos_embed"], new_size=[4, 4], num_prefix_tokens=1)}
    assert torch.equal(got, reference(spec, moved, 32))


def test_patches_of_another_size_are_refused(state, tmp_path):
    """timm would resample these weights too, and quietly make another model of them."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("coarse", SPEC.architecture, ARGS | {"patch_size": 4}, num_classes=5)
    text = refusal(tmp_path / "c.safetensors", spec)
    assert "patch_embed.proj.weight must have shape (16, 1, 4, 4) for coarse, not (16, 1, 8, 8)" in text


def test_distilled(tmp_path):
    spec = ModelSpec("distilled", "deit_tiny_distilled_patch16_224", ARGS, num_classes=5)
    state = random_weights(spec)
    save_file(state, tmp_path / "c.safetensors")
    assert torch.equal(loaded(tmp_path / "c.safetensors", spec)[0], reference(spec, state))
    assert "is a distilled DeiT (dist_token, head_dist), which MODEL is not; give the distilled one" in refusal(
        tmp_path / "c.safetensors"
    )


def test_number_of_classes(state, want, tmp_path):
    """The checkpoint decides; that the JSON says another number is said."""
    save_file(state, tmp_path / "c.safetensors")
    spec = ModelSpec("ten", SPEC.architecture, ARGS, num_classes=10)
    got, notes = loaded(tmp_path / "c.safetensors", spec)
    assert torch.equal(got, want)
    assert notes == ["classes: the checkpoint has 5, ten says 10: the checkpoint decides"]
    inside = ModelSpec("ten", SPEC.architecture, ARGS | {"num_classes": 10})
    assert torch.equal(loaded(tmp_path / "c.safetensors", inside)[0], want)


# ---------------------------------------------------------------- tensors


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
def test_kinds_of_tensors(state, tmp_path, change, says):
    torch.save(state | {WEIGHT: change(state[WEIGHT])}, tmp_path / "c.pth")
    text = refusal(tmp_path / "c.pth")
    assert f"{WEIGHT} must be a dense float tensor (16 bits or more), {says}" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float_formats(state, tmp_path, dtype):
    cast = {n: v.to(dtype) for n, v in state.items()}
    save_file(cast, tmp_path / "c.safetensors")
    assert torch.equal(loaded(tmp_path / "c.safetensors")[0], reference(SPEC, {n: v.float() for n, v in cast.items()}))


def test_values(tmp_path):
    state, name = random_weights(EVIT), "stem.in_conv.norm.running_var"
    for value, says in [
        (-1e-3, "must be a variance of at least 0, has 1 below it of 8 (least -0.001)"),
        (float("nan"), "must be finite, has 1 NaN or Inf of 8"),
        (float("-inf"), "must be finite, has 1 NaN or Inf of 8"),
        (1e300, "must be finite, has 1 values beyond float32 of 8"),
    ]:
        bad = state[name].double()
        bad[2] = value
        save_file(state | {name: bad}, tmp_path / "c.safetensors")
        assert f"{name} {says}" in refusal(tmp_path / "c.safetensors", EVIT)
