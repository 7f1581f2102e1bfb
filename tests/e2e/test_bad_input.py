"""Bad input through the command line: a non-zero exit status, one line that names subject, rule and value, no
traceback, nothing written."""

import contextlib
import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge_hw.arch.config import get_config

DIGITS, EVIT = shipped_model("digits_vit"), shipped_model("digits_efficientvit")


def run(*argv) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), err.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(folder: Path, *argv, says: tuple[str, ...], status: int = 2) -> None:
    """The command fails with one line holding every text of ``says`` and leaves ``folder`` as it was."""
    before = tree(folder)
    got, _, err = run(*argv)
    assert got == status, err
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vitforge"), err
    assert "Traceback" not in err
    for text in says:
        assert text in err, (text, err)
    assert tree(folder) == before


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Quantized models ``m``, ``other``, their build directories ``build``, ``other``, and an EfficientViT ``e``."""
    folder = tmp_path_factory.mktemp("made")
    quantize = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "--limit", 8)
    for name, scheme in (("m", "vitforge"), ("other", "p2vit")):
        status, _, err = run(*quantize, "--scheme", scheme, "-o", folder / f"{name}.safetensors")
        assert status == 0 and err == "", err
    quantize = ("quantize", EVIT.model, "--checkpoint", EVIT.checkpoint, "--calib", EVIT.calib, "--limit", 4)
    assert run(*quantize, "-o", folder / "e.safetensors")[0] == 0
    for name in ("m", "other"):
        output = folder / ("build" if name == "m" else "other")
        assert run("compile", folder / f"{name}.safetensors", "--preset", "tiny", "-o", output)[0] == 0
    return folder


# ---------------------------------------------------------------- models and checkpoints


def test_unknown_model(tmp_path):
    refused(tmp_path, "check", "vit_of_nobody", "--json", tmp_path / "t.json", says=("vit_of_nobody", "timm"))


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", ("not readable JSON",)),
        ("[1]", ("must hold a JSON object", "list")),
        ('{"model_args": {}}', ("architecture", "None")),
        ('{"architecture": "vit_of_nobody"}', ("vit_of_nobody",)),
        ('{"architecture": "vit_tiny_patch16_224", "model_args": 5}', ("model_args must be dict", "5")),
        ('{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": "x"}}', ("refuses model_args", "x")),
        ('{"architecture": "vit_tiny_patch16_224", "model_args": {"no_such": 1}}', ("no_such",)),
        ('{"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 5}}', ("num_heads",)),
    ],
)
def test_model_file(tmp_path, content, says):
    path = tmp_path / "model.json"
    path.write_text(content)
    refused(tmp_path, "check", path, says=("model", *says))


def test_missing_model_file(tmp_path):
    refused(tmp_path, "check", tmp_path / "none.json", says=("none.json", "not readable"))


def test_unsupported_model(tmp_path):
    argv = ("quantize", "resnet18", "--calib", DIGITS.calib, "-o", tmp_path / "m.safetensors")
    refused(tmp_path, *argv, says=("ResNet",))


def _state() -> dict[str, torch.Tensor]:
    return load_file(DIGITS.checkpoint)


def _changed(**changes):
    return {name: value for name, value in (_state() | changes).items() if value is not None}


FC1 = "blocks.0.mlp.fc1.weight"


def _faulty(kind: str, path: Path) -> Path:
    """A checkpoint with one fault."""
    whole = DIGITS.checkpoint.read_bytes()
    weight = _state()[FC1]
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "huge header":
        path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    elif kind in ("nan", "inf", "enormous"):
        value = {"nan": float("nan"), "inf": float("inf"), "enormous": 3e38}[kind]
        weight[3, 5] = value
        save_file(_changed(**{FC1: weight}), path)
    elif kind == "shape":
        save_file(_changed(**{FC1: torch.zeros(7, 5)}), path)
    elif kind == "absent":
        save_file(_changed(**{FC1: None}), path)
    elif kind == "extra":
        save_file(_changed(surplus=torch.zeros(1)), path)
    elif kind == "headless":
        save_file(_changed(**{"head.weight": None}), path)
    return path


@pytest.mark.parametrize(
    "kind, says",
    [
        ("missing", ("no such file",)),
        ("folder", ("no such file",)),
        ("empty", ("corrupt or truncated",)),
        ("truncated", ("corrupt or truncated",)),
        ("huge header", ("corrupt or truncated",)),
        ("nan", (FC1, "finite", "1 NaN or Inf")),
        ("inf", (FC1, "finite")),
        ("enormous", ("fc1",)),
        ("shape", (FC1, "(96, 48)", "(7, 5)")),
        ("absent", (FC1, "missing")),
        ("extra", ("surplus",)),
        ("headless", ("head.weight", "missing")),
    ],
)
def test_checkpoint(tmp_path, kind, says):
    path = _faulty(kind, tmp_path / "c.safetensors")
    argv = ("quantize", DIGITS.model, "--checkpoint", path, "--calib", DIGITS.calib, "--limit", 2)
    refused(tmp_path, *argv, "-o", tmp_path / "m.safetensors", says=says)


def test_pickled_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "c.pth"
    path.write_bytes(pickle.dumps(Evil()))
    argv = ("quantize", DIGITS.model, "--checkpoint", path, "--calib", DIGITS.calib, "-o", tmp_path / "m.safetensors")
    refused(tmp_path, *argv, says=("c.pth",))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_corrupt_checkpoint(tmp_path, data):
    whole = bytearray(DIGITS.checkpoint.read_bytes())
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    if data.draw(st.booleans(), label="cut"):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1), label="length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), label="bytes")):
            whole[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path, output = tmp_path / "c.safetensors", tmp_path / "m.safetensors"
    path.write_bytes(bytes(whole))
    output.unlink(missing_ok=True)
    argv = ("quantize", DIGITS.model, "--checkpoint", path, "--calib", DIGITS.calib, "--limit", 2, "-o", output)
    status, _, err = run(*argv)
    if status:  # a changed byte may be harmless (metadata)
        assert status == 2 and len(err.splitlines()) == 1 and not output.exists(), err


# ---------------------------------------------------------------- images and options


def test_images(tmp_path):
    output = tmp_path / "m.safetensors"
    quantize = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "-o", output, "--calib")
    refused(tmp_path, *quantize, tmp_path / "none", says=("none", "no such folder"))
    (tmp_path / "empty").mkdir()
    refused(tmp_path, *quantize, tmp_path / "empty", says=("empty", "holds no image"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    refused(tmp_path, *quantize, tmp_path / "bad", says=("a.png", "cannot be read"))
    whole = (DIGITS.calib / "000.png").read_bytes()
    (tmp_path / "bad" / "a.png").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, *quantize, tmp_path / "bad", says=("a.png", "cannot be read"))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_corrupt_image(made, data):
    from vitforge_sw.models.images import load_image

    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    suffix = data.draw(st.sampled_from(["png", "jpeg", "bmp", "webp", "tiff", "ppm"]))
    Image.fromarray(pixels).save(file, suffix)
    whole = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(0, len(whole)))]
    path = made / f"corrupt.{suffix}"
    path.write_bytes(bytes(whole))
    with contextlib.suppress(ValueError):
        load_image(path)


@pytest.mark.parametrize(
    "options, says",
    [
        (("--scheme", "best"), ("best", "unknown", "vitforge")),
        (("--wbits", 1), ("wbits", "2..8", "1")),
        (("--wbits", "x"), ("--wbits", "x")),
        (("--limit", 0), ("--limit", "positive", "0")),
        (("--image-size", 9), ("image_size", "9")),
        (("--crop-pct", 7), ("crop_pct", "7")),
        (("--mean", "0.1", "0.2"), ("mean", "2")),
        (("--std", "0"), ("std", "positive")),
        (("--no-such-option",), ("--no-such-option",)),
    ],
)
def test_quantize_options(tmp_path, options, says):
    argv = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib)
    refused(tmp_path, *argv, "-o", tmp_path / "m.safetensors", *options, says=says)


def test_outputs(tmp_path, made):
    quantize = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "-o")
    refused(tmp_path, *quantize, tmp_path / "none" / "m.safetensors", says=("none", "must exist"))
    refused(tmp_path, *quantize, tmp_path, says=(str(tmp_path), "is a folder"))
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "build"
    m = made / "m.safetensors"
    refused(tmp_path, "compile", m, "--preset", "tiny", "-o", blocked, says=("must be a folder", "file"))
    refused(tmp_path, "verilog", "--preset", "tiny", "-o", blocked, says=("must be a folder", "file"))
    refused(tmp_path, "demo", "-o", blocked, says=("must be a folder", "file"))
    evaluate = ("evaluate", m, "--images", DIGITS.test, "--labels", DIGITS.labels, "--limit", 2, "--json")
    refused(tmp_path, *evaluate, tmp_path / "none" / "e.json", says=("none", "must exist"))


@pytest.mark.parametrize(
    "text, says",
    [
        ("", ("header file,label",)),
        ("000.png,1\n", ("header file,label",)),
        ("file,label\n", ("at least one row",)),
        ("file,label\n000.png,seven\n", ("line 2", "seven")),
        ("file,label\n000.png\n", ("line 2", "label")),
        ("file,label\n000.png,7\nnone.png,1\n", ("line 3", "none.png")),
        ("file,label\n000.png,10\n", ("0..9", "10")),
        ("file,label\n000.png,\u0663\n", ("line 2", "label")),
        ("file,label\n000.png,\u00b2\n", ("line 2", "label")),
    ],
)
def test_labels(tmp_path, made, text, says):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    refused(tmp_path, "evaluate", made / "m.safetensors", "--images", DIGITS.test, "--labels", labels, says=says)


def test_no_labels(tmp_path, made):
    refused(tmp_path, "evaluate", made / "m.safetensors", "--images", DIGITS.test, says=("subfolder", "000.png"))


# ---------------------------------------------------------------- quantized models, configurations, builds


def test_quantized_model(tmp_path, made):
    whole = (made / "m.safetensors").read_bytes()
    argv = ("compile", tmp_path / "m.safetensors", "--preset", "tiny", "-o", tmp_path / "build")
    refused(tmp_path, *argv, says=("m.safetensors", "no such file"))
    for cut in (0, 4, 1000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m.safetensors").write_bytes(whole[:cut])
        refused(tmp_path, *argv, says=("m.safetensors", "corrupt or truncated"))
    changed = bytearray(whole)
    changed[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(bytes(changed))
    refused(tmp_path, *argv, says=("hash",))
    shutil.copy(DIGITS.checkpoint, tmp_path / "m.safetensors")
    refused(tmp_path, *argv, says=("no quantized model", "vitforge quantize"))
    from vitforge_sw.graph.serialize import load_graph, save_graph

    graph = load_graph(made / "m.safetensors")
    del graph.meta["image"]
    save_graph(graph, tmp_path / "m.safetensors")
    argv = ("evaluate", tmp_path / "m.safetensors", "--images", DIGITS.test, "--labels", DIGITS.labels)
    refused(tmp_path, *argv, says=("image config: the model has none",))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_corrupt_quantized_model(tmp_path, made, data):
    whole = bytearray((made / "m.safetensors").read_bytes())
    kind = data.draw(st.sampled_from(["cut", "header", "anywhere"]))
    if kind == "cut":
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        end = 8 + struct.unpack("<Q", whole[:8])[0] if kind == "header" else len(whole)
        whole[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "m.safetensors").write_bytes(bytes(whole))
    status, _, err = run("compile", tmp_path / "m.safetensors", "--preset", "tiny", "-o", tmp_path / "build")
    if status:  # blanks in the header may differ
        assert status == 2 and len(err.splitlines()) == 1 and not (tmp_path / "build").exists(), err


def test_evaluate_with_other_weights(tmp_path, made):
    other = tmp_path / "c.safetensors"
    save_file({name: value * 1.5 for name, value in _state().items()}, other)
    argv = ("evaluate", made / "m.safetensors", "--images", DIGITS.test, "--labels", DIGITS.labels, "--limit", 2)
    refused(tmp_path, *argv, "--float", "--checkpoint", other, says=("weights' hash",))


TINY, HYBRID = (json.loads(get_config(name).to_json()) for name in ("tiny", "tiny_hybrid"))


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", ("must be JSON",)),
        ("[]", ("must be a JSON object", "list")),
        ('{"coers": 4}', ("unknown parameter", "coers")),
        ('{"cores": "4"}', ("cores", "positive integer", "'4'")),
        ('{"cores": 3}', ("cores", "even", "3")),
        ('{"cores": 18}', ("cores", "to 16", "18")),
        ('{"cores": -4}', ("cores", "-4")),
        ('{"cores": 4.0}', ("cores", "4.0")),
        ('{"pool_rows": 1000}', ("pool_rows", "power of two", "1000")),
        ('{"masters": 3}', ("masters", "3")),
        ('{"name": "../x"}', ("name", "../x")),
        ('{"name": 7}', ("name", "7")),
        ('{"param_rows": 1073741824}', ("param_rows", "1073741824")),
        ('{"watchdog_bits": 4000}', ("watchdog_bits", "4000")),
        (json.dumps(TINY | {"name": "small", "max_tokens": 8}), ("max_tokens", "8", "17")),
        (json.dumps(TINY | {"name": "small", "max_k": 48}), ("max_k", "48", "96")),
        (json.dumps(TINY | {"name": "small", "pool_rows": 64}), ("pool", "64")),
        (json.dumps(TINY | {"name": "small", "program_rows": 64}), ("program", "64")),
    ],
)
def test_config(tmp_path, made, content, says):
    path = tmp_path / "config.json"
    path.write_text(content)
    refused(tmp_path, "compile", made / "m.safetensors", "--config", path, "-o", tmp_path / "build", says=says)


def test_hardware_options(tmp_path, made):
    argv = ("compile", made / "m.safetensors", "-o", tmp_path / "build")
    refused(tmp_path, *argv, "--preset", "huge", says=("preset", "huge", "tiny"))
    refused(tmp_path, *argv, says=("--preset", "required"))
    refused(tmp_path, *argv, "--config", tmp_path / "none.json", says=("none.json", "cannot be read"))
    refused(tmp_path, "estimate", "deit_tiny_patch16_224", says=("--preset",))
    refused(tmp_path, "estimate", "vit_of_nobody", "--preset", "tiny", says=("vit_of_nobody",))


def test_schedule_options(tmp_path, made):
    argv = ("compile", made / "e.safetensors", "--preset", "tiny_hybrid", "-o", tmp_path / "build")
    refused(tmp_path, *argv, "--batch", 0, says=("--batch", "positive", "'0'"))
    refused(tmp_path, *argv, "--batch", 5, says=("batch", "cores = 4", "not 5"))
    refused(tmp_path, *argv, "--defer", "--pipelining", "none", says=("defer", "overlap", "pipelining none"))
    refused(tmp_path, *argv, "--pipelining", "inter", says=("pipelining", "both or none", "'inter'"))
    vit = ("compile", made / "m.safetensors", "--preset", "tiny", "-o", tmp_path / "build")
    refused(tmp_path, *vit, "--defer", says=("defer", "ViT"))
    refused(tmp_path, "estimate", made / "build", "--batch", 2, says=("own schedule", "--batch"))
    refused(tmp_path, "estimate", made / "build", "--defer", says=("own schedule", "--defer"))


def test_model_too_large(tmp_path):
    """DeiT-Tiny's shapes on the preset ``tiny``."""
    refused(tmp_path, "estimate", "deit_tiny_patch16_224", "--preset", "tiny", says=("tiny", "max_"))


def test_families(tmp_path, made):
    """A family's model on a preset without its units, a scheme of the other family."""
    output = ("-o", tmp_path / "build")
    for preset in ("tiny", "p2vit"):
        refused(tmp_path, "compile", made / "e.safetensors", "--preset", preset, *output, says=(preset, "R-MAC"))
        refused(tmp_path, "estimate", EVIT.model, "--preset", preset, says=(preset, "R-MAC"))
    refused(tmp_path, "compile", made / "m.safetensors", "--preset", "trio", *output, says=("trio", "softmax"))
    refused(tmp_path, "estimate", "deit_tiny_patch16_224", "--preset", "trio", says=("trio", "softmax"))
    quantize = ("quantize", EVIT.model, "--checkpoint", EVIT.checkpoint, "--calib", EVIT.calib, "--limit", 2)
    refused(tmp_path, *quantize, "--scheme", "p2vit", *output, says=("p2vit", "EfficientViT", "trio, vitforge"))
    refused(tmp_path, *quantize, "--wbits", 4, *output, says=("wbits",))
    quantize = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "--limit", 2)
    refused(tmp_path, *quantize, "--scheme", "trio", *output, says=("trio", "p2vit, p2vit_literal, vitforge"))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"pool_rows": 256}, ("activation buffer", "stem.in_conv", "1024")),
        ({"weight_rows": 64}, ("stages.2.blocks.0.point_conv", "weight rows")),
        ({"program_rows": 256}, ("program memory", "256", "small")),
        ({"param_rows": 16}, ("parameter memory", "16")),
        ({"max_k": 64}, ("max_k", "64", "96", "small")),
        ({"max_channels": 64}, ("max_channels", "64", "160", "small")),
        ({"window_rows": 16}, ("window_rows", "16", "small")),
    ],
)
def test_efficientvit_too_large(tmp_path, made, change, says):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(HYBRID | {"name": "small"} | change))
    refused(tmp_path, "compile", made / "e.safetensors", "--config", path, "-o", tmp_path / "build", says=says)


def test_build_directory(tmp_path, made):
    build = tmp_path / "build"
    simulate = ("simulate", build, "--images", DIGITS.test, "--count", 1)
    refused(tmp_path, *simulate, says=("build", "vitforge compile"))
    for missing in ("build.json", "memory.bin", "model.safetensors"):
        shutil.copytree(made / "build", build)
        (build / missing).unlink()
        refused(tmp_path, *simulate, says=("build", missing))
        shutil.rmtree(build)
    shutil.copytree(made / "build", build)
    shutil.copy(made / "other.safetensors", build / "model.safetensors")
    refused(tmp_path, *simulate, says=("model hash must be",))
    shutil.copy(made / "m.safetensors", build / "model.safetensors")
    shutil.copy(made / "other" / "memory.bin", build / "memory.bin")
    refused(tmp_path, *simulate, says=("memory.bin hash must be",))
    shutil.copy(made / "build" / "memory.bin", build / "memory.bin")
    data = json.loads((build / "build.json").read_text())
    for change, says in (
        ({"config": data["config"] | {"pool_rows": 2048}}, "configuration hash"),
        ({"schema": "x"}, "schema must be"),
        ({"places": 3}, "malformed"),
        ({"labels": {}}, "malformed"),
    ):
        (build / "build.json").write_text(json.dumps(data | change))
        refused(tmp_path, *simulate, says=(says,))
    (build / "build.json").write_text("{")
    refused(tmp_path, *simulate, says=("not JSON",))


def test_counts(tmp_path, made):
    simulate = ("simulate", made / "build")
    refused(made, *simulate, "--images", DIGITS.test, "--count", 0, says=("count", "1 to 400", "0"))
    refused(made, *simulate, "--images", DIGITS.test, "--count", 401, says=("count", "1 to 400", "401"))
    refused(made, *simulate, says=("--image FILE", "--images DIR"))
    refused(made, *simulate, "--image", tmp_path / "none.png", says=("none.png", "no such file"))
    refused(made, *simulate, "--images", DIGITS.test, "--sim", "modelsim", says=("--sim", "modelsim", "verilator"))
    refused(made, *simulate, "--images", DIGITS.test, "--latency", 0, says=("--latency", "0"))
    refused(tmp_path, "demo", "-o", tmp_path, "--count", 401, says=("count", "1 to 400", "401"))
    refused(tmp_path, "demo", "-o", tmp_path, "--model", "cats", says=("cats", "digits_vit"))


def test_no_command(tmp_path):
    refused(tmp_path, says=("COMMAND",))
    refused(tmp_path, "fly", says=("fly", "quantize"))


def test_process(tmp_path):
    """As a user sees it: warnings of the libraries would be more than one line."""
    path = _faulty("nan", tmp_path / "c.safetensors")
    argv = ["quantize", DIGITS.model, "--checkpoint", path, "--calib", DIGITS.calib, "-o", tmp_path / "m.safetensors"]
    done = subprocess.run([sys.executable, "-m", "vitforge.cli", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and FC1 in done.stderr, done.stderr
    assert not (tmp_path / "m.safetensors").exists()
