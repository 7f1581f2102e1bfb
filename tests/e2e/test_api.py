"""`import vitforge`: functions with the values of the command line; modules, arrays and data loaders beside folders."""

import contextlib
import inspect
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vitforge
from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge_sw.graph.serialize import graph_hash
from vitforge_sw.models.files import list_images, some_images
from vitforge_sw.models.images import ImageConfig, load_patches, patches_to_float
from vitforge_sw.models.inputs import as_patches
from vitforge_sw.models.labels import labelled_images

DIGITS = shipped_model("digits_vit")
COUNT = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, what quantize said, graph, quality): the same model from the command line and from Python."""
    folder = tmp_path_factory.mktemp("api")
    out = io.StringIO()
    argv = ["quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "--limit", COUNT]
    with contextlib.redirect_stdout(out):
        assert main([str(a) for a in [*argv, "-o", folder / "m.safetensors", "--json", folder / "q.json"]]) == 0
    quality = {}
    graph = vitforge.quantize(DIGITS.model, DIGITS.calib, checkpoint=DIGITS.checkpoint, limit=COUNT, quality=quality)
    return folder, out.getvalue(), graph, quality


def same(graph, other) -> bool:
    """Equal but for the commands that made them and where the checkpoint lay."""
    for g in (graph, other):
        g.meta |= {"command": "", "checkpoint": ""}
    return graph_hash(graph) == graph_hash(other)


def test_import_costs_nothing():
    code = "import vitforge, sys, json; print(json.dumps(sorted({'torch', 'numpy', 'timm'} & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert set(vitforge.__all__) <= set(dir(vitforge))
    with pytest.raises(AttributeError, match="no attribute 'brew'"):
        vitforge.brew  # noqa: B018


@pytest.mark.parametrize("name", vitforge.__all__)
def test_documented(name):
    text = inspect.getdoc(getattr(vitforge, name))
    assert text and len(text.splitlines()[0]) > 20
    assert name in ("save", "load_model", "logits", "verilog") or "ValueError" in text, "errors are said"


def test_quantize_is_the_command(made):
    folder, said, graph, quality = made
    stored = json.loads((folder / "q.json").read_text())
    assert same(vitforge.load(folder / "m.safetensors"), graph)
    assert {k: stored[k] for k in quality} == quality
    assert f"logits: SQNR {quality['logit_sqnr_db']:.2f} dB" in said and "16 images left out of calibration" in said
    worst = quality["worst"]
    assert len(worst) == 5 and worst == sorted(worst, key=lambda w: w[1])
    assert f"{worst[0][0]} {worst[0][1]:.1f} dB" in said
    assert quality["worst"][0][1] == min(quality["layers"].values())


def test_quality_is_measured(made):
    """The logits' figure is that of evaluate on the same images; a layer's follows from its weights' width."""
    _, _, graph, quality = made
    assert quality["held_back"] and quality["images"] == 16 and 25 < quality["logit_sqnr_db"] < 45
    linear = {re.sub(r"\.h\d+$", "", n.name) for n in graph.nodes if type(n).__name__ == "Matmul"}
    assert set(quality["layers"]) == linear, "every layer with weights"
    taken = some_images(DIGITS.calib, COUNT)
    rest = [f for f in list_images(DIGITS.calib) if f not in taken]
    chosen = [rest[i * len(rest) // 16] for i in range(16)]
    found = vitforge.evaluate(graph, chosen, [0] * 16, float_model=True, checkpoint=DIGITS.checkpoint)
    assert found["logit_sqnr_db"] == pytest.approx(quality["logit_sqnr_db"], abs=1e-6)
    coarse = {}
    vitforge.quantize(DIGITS.model, DIGITS.calib, checkpoint=DIGITS.checkpoint, limit=COUNT, quality=coarse, wbits=4)
    lost = {name: db - coarse["layers"][name] for name, db in quality["layers"].items()}
    assert lost["embed"] == 0, "stays at 8 bits"
    assert all(lost[f"blocks.0.attn.{part}"] > 8 for part in "qkv"), "same inputs, weights of 4 bits"
    assert 2 < quality["logit_sqnr_db"] - coarse["logit_sqnr_db"] < 6, "GPTQ and descent make up for a part"
    plain = {}
    vitforge.quantize(
        DIGITS.model, DIGITS.calib, checkpoint=DIGITS.checkpoint, limit=COUNT, quality=plain, wbits=4,
        weight_rounding="nearest",
    )  # fmt: skip
    assert plain["logit_sqnr_db"] < quality["logit_sqnr_db"] - 3


def test_calibration_in_other_forms(made):
    """Files, pixels, PIL images, normalised tensors and a data loader of the same images give the same model."""
    graph = made[2]
    source = vitforge.load_model(DIGITS.model, DIGITS.checkpoint)
    files = some_images(DIGITS.calib, COUNT)
    pictures = [Image.open(f) for f in files]
    floats = torch.from_numpy(patches_to_float(load_patches(files, source.image), source.image))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(floats, torch.zeros(COUNT)), batch_size=5)
    pixels = np.stack([np.asarray(p) for p in pictures])
    for calib in (files, pictures, pixels, pixels[..., None], floats, floats.numpy(), loader):
        patches, _ = as_patches(calib, source.image)
        assert np.array_equal(patches, load_patches(files, source.image)), type(calib)
    assert same(vitforge.quantize(source, loader), graph)
    assert same(vitforge.quantize(DIGITS.model, DIGITS.calib, checkpoint=DIGITS.checkpoint, limit=COUNT), graph)


def test_module_as_model(made):
    """A timm module with its weights gives the integer model that its checkpoint gives."""
    graph, source = made[2], vitforge.load_model(DIGITS.model, DIGITS.checkpoint)
    options = {k: v for k, v in source.image.to_dict().items() if k in ("image_size", "crop_pct", "interpolation")}
    image = options | {"mean": source.image.mean, "std": source.image.std}
    mine = vitforge.quantize(source.model, some_images(DIGITS.calib, COUNT), image=image)
    assert np.array_equal(vitforge.logits(mine, DIGITS.test), vitforge.logits(graph, DIGITS.test))
    assert [r.supported for r in vitforge.check(source.model)] == [r.supported for r in vitforge.check(DIGITS.model)]
    with pytest.raises(ValueError, match="must be one of timm's VisionTransformer, .*, not Linear"):
        vitforge.quantize(torch.nn.Linear(2, 2), DIGITS.calib)
    with pytest.raises(ValueError, match="a module brings its weights"):
        vitforge.load_model(source.model, DIGITS.checkpoint)


def test_evaluate_is_the_command(made):
    folder, _, graph, _ = made
    argv = ["evaluate", folder / "m.safetensors", "--images", DIGITS.test, "--labels", DIGITS.labels, "--limit", 60]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([str(a) for a in [*argv, "--float", "--json", folder / "e.json"]]) == 0
    want = json.loads((folder / "e.json").read_text())
    got = vitforge.evaluate(folder / "m.safetensors", DIGITS.test, DIGITS.labels, float_model=True, limit=60)
    for key in ("images", "top1", "top5", "agreement", "logit_sqnr_db"):
        assert got[key] == want[key]
    assert got["top1"] >= 58
    pairs = labelled_images(DIGITS.test, DIGITS.labels)[:60]
    image = ImageConfig.from_dict(graph.meta["image"])
    floats = torch.from_numpy(patches_to_float(load_patches([f for f, _ in pairs], image), image))
    labels = torch.tensor([c for _, c in pairs])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(floats, labels), batch_size=16)
    by_loader = vitforge.evaluate(graph, loader)
    by_files = vitforge.evaluate(graph, [f for f, _ in pairs], labels)
    right = vitforge.logits(graph, floats).argmax(1) == labels.numpy()
    assert by_loader["top1"] == by_files["top1"] == int(right.sum())
    with pytest.raises(ValueError, match="need labels"):
        vitforge.evaluate(graph, floats)


def test_compile_and_simulate(made):
    """The build directory is the command's; the RTL run on arrays is the one on files, bit-exact."""
    folder, _, graph, _ = made
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["compile", str(folder / "m.safetensors"), "--preset", "tiny", "-o", str(folder / "c")]) == 0
    build = vitforge.compile(folder / "m.safetensors", folder / "b", preset="tiny")
    mine, command = ((folder / name / "memory.bin").read_bytes() for name in "bc")
    assert mine == command == build.memory_image
    files = some_images(DIGITS.test, 3)
    info = vitforge.simulate(folder / "b", DIGITS.test, count=3, tensors=True)
    pixels = np.stack([np.asarray(Image.open(f)) for f in files])
    again = vitforge.simulate(folder / "b", pixels, tensors=True)
    assert info["bit_exact"] and info["images"] == 3 and info["dead"] == []
    for key in ("cycles_per_image", "tensors", "units"):
        assert again[key] == info[key]
    guess = vitforge.estimate(folder / "b")
    assert guess["cycles"] == pytest.approx(info["steady_state_cycles"], rel=0.02)
    assert vitforge.estimate(DIGITS.model, preset="tiny")["cycles"] == pytest.approx(guess["cycles"], rel=0.01)


@pytest.mark.parametrize(
    "images, says",
    [
        (np.zeros((2, 8, 8, 2), np.uint8), "C 1, 3 or 4"),
        (np.zeros((2, 1, 9, 9), np.float32), "not float32 (2, 1, 9, 9)"),
        (np.zeros((0, 8, 8), np.uint8), "holds no image"),
        (np.full((2, 1, 8, 8), 50.0, np.float32), "not 0 to 255"),
        (np.full((2, 1, 8, 8), np.nan, np.float32), "not 0 to 255"),
        (np.random.default_rng(0).random((2, 1, 8, 8), np.float32) * 0.1, "miss whole bytes"),
        ([], "yields nothing"),
        ([["a"]], "must yield arrays or tensors, not str"),
        (7, "not int"),
        (np.zeros((2, 3), np.int64), "not int64 (2, 3)"),
    ],
)
def test_arrays_that_are_no_images(images, says):
    config = vitforge.load_model(DIGITS.model, DIGITS.checkpoint).image
    with pytest.raises(ValueError) as refusal:
        as_patches(images, config)
    text = str(refusal.value)
    assert says in text and text.isprintable() and text.startswith("images:"), text
