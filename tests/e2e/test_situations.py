"""What a new user runs into beside the first tables of docs/inputs.md: each with its value, not its status alone."""

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import load_file

from vitforge.cli import main
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model
from vitforge_sw.graph.serialize import load_graph, write_atomic
from vitforge_sw.models.files import list_images, some_images
from vitforge_sw.models.images import ImageConfig, input_pixels
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.pixels import load_image
from vitforge_sw.models.resolve import resolve_model

DIGITS = shipped_model("digits_vit")
QUICK = [f"--set={name}" for name in ("rotation=none", "weight_rounding=nearest", "hidden_steps=tensor")]
QUANTIZE = ("quantize", DIGITS.model, "--calib", DIGITS.calib, "--limit", 4, *QUICK)


def run(*argv) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(a) for a in argv])
    return status, out.getvalue(), err.getvalue()


def refused(folder, *argv, says: tuple[str, ...]) -> None:
    """Status 2, one line that holds every text of ``says``; every file below ``folder`` is as it was."""
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    status, _, err = run(*argv)
    assert status == 2 and len(err.splitlines()) == 1, err
    for text in says:
        assert text in err, (text, err)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The digits ViT, quantized."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    status, _, err = run(*QUANTIZE, "--checkpoint", DIGITS.checkpoint, "-o", path)
    assert status == 0, err
    return path


@pytest.fixture
def scans(tmp_path):
    """Two scans, labels 3 and 5 by a CSV of any content."""
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8), 200).save(tmp_path / name)
    return tmp_path


# ---------------------------------------------------------------- outputs


def test_an_input_is_not_overwritten(tmp_path, model, scans):
    """quantize -o its checkpoint, evaluate --json its model, check -o its configuration, through a link too."""
    checkpoint, config, saved = tmp_path / "c.safetensors", tmp_path / "c.json", tmp_path / "m.safetensors"
    shutil.copy(DIGITS.checkpoint, checkpoint)
    shutil.copy(model, saved)
    config.write_text('{"base": "tiny", "pool_rows": 64}')
    (tmp_path / "link").symlink_to(checkpoint)
    quantize = (*QUANTIZE, "--checkpoint", checkpoint)
    refused(tmp_path, *quantize, "-o", checkpoint, says=(f"output {checkpoint}", "read by this command as its checkp"))
    refused(tmp_path, *quantize, "-o", tmp_path / "link", says=("as its checkpoint",))
    argv = ("evaluate", saved, "--images", scans, "--json", saved)
    refused(tmp_path, *argv, says=("as its quantized; name another place",))
    refused(tmp_path, "check", DIGITS.model, "--config", config, "-o", config, says=("as its config",))
    argv = ("analyze", saved, "--images", scans, "-o", scans)
    refused(tmp_path, *argv, says=("as its images",))


def test_a_build_and_an_image_are_not_overwritten(tmp_path, model, scans):
    """pack -o the image, a file of the build, or the name that its expected result has."""
    build, image, memory = tmp_path / "b", scans / "a.png", tmp_path / "b" / "memory.bin"
    assert run("compile", model, "--preset", "tiny", "-o", build)[0] == 0
    pack = ("pack", build, "--image", image)
    for argv in (("-o", image), ("-o", tmp_path / "i.bin", "--expected", image)):
        refused(tmp_path, *pack, *argv, says=("as its image; name another place",))
    refused(tmp_path, *pack, "-o", memory, says=("as its build; name another place",))
    refused(tmp_path, *pack, "-o", tmp_path / "expected.bin", says=("is the file of the expected result too",))
    refused(tmp_path, "unpack", build, memory, "--json", build / "build.json", says=("as its build",))


@pytest.mark.parametrize("text", ["nan", "inf", "much"])
def test_numbers_that_are_none(tmp_path, text, capsys):
    """A budget that is no number was searched for ever."""
    with pytest.raises(SystemExit):
        main(["search", str(DIGITS.model), "--calib", str(tmp_path), "--budget", text, "-o", str(tmp_path / "s.json")])
    assert capsys.readouterr().err.startswith(f"vitforge search: argument --budget: must be a number, not '{text}'")


def test_a_full_disk_leaves_nothing(tmp_path):
    """As the kernel says it: here by a limit on the file's size."""
    code = (
        "import resource, signal; from pathlib import Path; from vitforge_sw.graph.serialize import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_atomic(Path({str(tmp_path / 'm.bin')!r}), bytes(100000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = f"ValueError: output {tmp_path / 'm.bin'}: cannot be written (File too large)"
    assert done.stderr.splitlines()[-1] == said
    assert not list(tmp_path.iterdir()) and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    write_atomic(tmp_path / "m.bin", bytes(100000))
    assert (tmp_path / "m.bin").stat().st_size == 100000


def interruptible() -> None:
    """A shell's background job, and what it starts, ignores Ctrl-C: not what a user at a terminal has."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_in_the_middle(tmp_path):
    """Ctrl-C while it works: one line, status 130, no file, no half file."""
    argv = [str(a) for a in (*QUANTIZE[:-5], "--checkpoint", DIGITS.checkpoint, "-o", tmp_path / "m.safetensors")]
    with subprocess.Popen([sys.executable, "-u", "-m", "vitforge.cli", *argv], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=interruptible) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("image: "):  # the last line before the work
                break
        else:
            raise AssertionError("no line about the images")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.splitlines()[-1] == "vitforge quantize: interrupted", err
    assert "Traceback" not in err and not list(tmp_path.iterdir())


def test_a_terminal_without_the_letters(tmp_path):
    """A model's name on a terminal of ASCII: escaped, and the command goes on."""
    shutil.copy(DIGITS.model, tmp_path / "é.json")
    code = "import sys; from vitforge.cli import main; sys.exit(main(['check', 'é.json', '--preset', 'tiny']))"
    env = dict(os.environ, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, cwd=tmp_path)
    assert done.returncode == 0 and re.search(rb"\n\\xe9\.json: \d+ layers, all supported\n", done.stdout), done
    assert b"fits  activations" in done.stdout


def test_a_cache_folder_that_cannot_be_made(tmp_path, model):
    build = tmp_path / "b"
    assert run("compile", model, "--preset", "tiny", "-o", build)[0] == 0
    (tmp_path / "file").write_text("")
    code = f"from vitforge.cli import main; main(['simulate', {str(build)!r}, '--images', {str(DIGITS.test)!r}])"
    env = dict(os.environ, VITFORGE_CACHE=str(tmp_path / "file" / "cache"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stderr == (
        f"vitforge simulate: cache folder {tmp_path / 'file' / 'cache'}: cannot be made (Not a directory); "
        "set VITFORGE_CACHE\n"
    )


# ---------------------------------------------------------------- names and numbers


def test_names_in_capitals_and_files_in_the_wrong_place(tmp_path):
    refused(tmp_path, "compile", "x", "--preset", "P2ViT", "-o", tmp_path / "b", says=("(did you mean p2vit?)",))
    says = (f"model {DIGITS.checkpoint}: is a file of weights", "--checkpoint")
    refused(tmp_path, "check", DIGITS.checkpoint, says=says)


@pytest.mark.parametrize("options", [("--mean", 123.7, "--std", 0.2), ("--mean", 0.5, "--std", 58)])
def test_mean_and_deviation_of_bytes(tmp_path, options):
    """In 0..255 they would be taken for values of pixels in 0..1: nothing but noise reaches the model."""
    argv = (*QUANTIZE, "--checkpoint", DIGITS.checkpoint, *options, "-o", tmp_path / "m")
    refused(tmp_path, *argv, says=("must be in 0..1, of pixels in 0..1, not",))


def test_weights_of_several_kinds_in_one_file(tmp_path, model):
    """Half precision in one tensor, double in the next: those are float32 before anything is computed."""
    state = {n: v.double() if i % 2 else v for i, (n, v) in enumerate(load_file(DIGITS.checkpoint).items())}
    torch.save(state, tmp_path / "c.pth")
    assert run(*QUANTIZE, "--checkpoint", tmp_path / "c.pth", "-o", tmp_path / "m.safetensors")[0] == 0
    mixed, plain = load_graph(tmp_path / "m.safetensors"), load_graph(model)
    assert mixed.meta["float_hash"] == plain.meta["float_hash"]
    for a, b in zip(mixed.nodes, plain.nodes, strict=True):
        assert np.array_equal(getattr(a, "weight", 0), getattr(b, "weight", 0)), a.name


def test_json_that_says_a_thing_twice(tmp_path):
    """Of two values JSON takes the last and says nothing: whoever edited the first wonders."""
    config, model = tmp_path / "c.json", tmp_path / "m.json"
    config.write_text('{"base": "tiny", "pool_rows": 64, "pool_rows": 1024}')
    says = ("must be JSON ('pool_rows' stands twice in one object)",)
    refused(tmp_path, "verilog", "--config", config, "-o", tmp_path / "b", says=says)
    model.write_text(DIGITS.model.read_text().replace('"depth": 4', '"depth": 4, "depth": 2'))
    refused(tmp_path, "check", model, says=("not readable JSON ('depth' stands twice",))


def test_json_of_another_editor(tmp_path):
    """A byte order mark, 16 bits: the same configuration, the same model. A comment: said where."""
    config, model = tmp_path / "c.json", tmp_path / "m.json"
    for code in ("utf-8-sig", "utf-16"):
        config.write_text('{"base": "tiny", "pool_rows": 512}', encoding=code)
        assert load_config(None, config).pool_rows == 512
        model.write_text(DIGITS.model.read_text(), encoding=code)
        assert resolve_model(str(model)).model_args["depth"] == 4
    config.write_text('{"base": "tiny" // small\n}')
    says = ("must be JSON (Expecting ',' delimiter: line 1 column 17",)
    refused(tmp_path, "verilog", "--config", config, "-o", tmp_path / "b", says=says)


def test_a_slip_in_a_name_of_the_model(tmp_path):
    """model_arg is no key of a model's JSON: without it the network would be timm's own. Other keys are timm's."""
    data = json.loads(DIGITS.model.read_text())
    (tmp_path / "m.json").write_text(json.dumps(data | {"num_features": 48, "global_pool": "token", "license": "mit"}))
    assert resolve_model(str(tmp_path / "m.json")).model_args == data["model_args"]
    data["model_arg"] = data.pop("model_args")
    (tmp_path / "m.json").write_text(json.dumps(data))
    refused(tmp_path, "check", tmp_path / "m.json", says=("unknown model_arg (did you mean model_args?)",))


def test_paths_that_are_no_files(tmp_path, model, scans):
    """A variable of the shell that is not set, a folder, a device: each named as what it is."""
    refused(tmp_path, "compile", model, "--preset", "tiny", "-o", "", says=("output: must not be empty",))
    refused(tmp_path, "evaluate", tmp_path, "--images", scans, says=("it is a folder; of a build name its model",))
    argv = (*QUANTIZE, "--checkpoint", "/dev/zero", "-o", tmp_path / "m")
    refused(tmp_path, *argv, says=("checkpoint /dev/zero: is no ordinary file",))
    argv = ("evaluate", model, "--images", scans, "--labels", "/dev/zero")
    refused(tmp_path, *argv, says=("labels /dev/zero: cannot be read (longer than 256 MiB)",))


def test_part_of_a_name_of_timm(tmp_path):
    refused(tmp_path, "check", "vit_tiny", says=("similar: vit_tiny_patch16_224, vit_tiny_patch16_384,",))
    refused(tmp_path, "check", "diet_tiny_patch16_224", says=("similar: deit_tiny_patch16_224",))


@pytest.mark.parametrize("text", ["nan", "-1", "0", "inf", "soon"])
def test_a_time_limit_that_is_none(tmp_path, text, capsys):
    with pytest.raises(SystemExit):
        main(["simulate", str(tmp_path), "--timeout", text])
    assert f"--timeout: must be a positive number of seconds, not '{text}'" in capsys.readouterr().err


# ---------------------------------------------------------------- labels


def test_a_spreadsheet_of_semicolons_or_tabs_or_sixteen_bits(scans):
    want = [(scans / "a.png", 3), (scans / "b.png", 5)]
    for mark, code in ((";", "utf-8"), ("\t", "utf-16"), (",", "utf-8-sig")):
        text = "\r\n".join(mark.join(row) for row in (("file", "label"), ("a.png", "3"), ("b.png", "5")))
        (scans / "l.csv").write_bytes(text.encode(code))
        assert labelled_images(scans, scans / "l.csv") == want
    (scans / "l.csv").write_bytes("file,label\né.png,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="cannot be read .* save it as UTF-8"):
        labelled_images(scans, scans / "l.csv")


def test_labels_by_name_and_twice(scans, model):
    (scans / "l.csv").write_text("file,label\na.png,hot dog\nb.png,Cat\n")
    assert labelled_images(scans, scans / "l.csv", ["cat", "hot_dog"]) == [(scans / "a.png", 1), (scans / "b.png", 0)]
    with pytest.raises(ValueError, match="line 2: label must be a class index, not 'hot dog'"):
        labelled_images(scans, scans / "l.csv")
    (scans / "b").mkdir()
    (scans / "l.csv").write_text("file,label\na.png,3\nb/../a.png,5\n")
    says = ("line 3: b/../a.png stands in line 2 already, with label 3",)
    refused(scans, "evaluate", model, "--images", scans, "--labels", scans / "l.csv", says=says)


def test_labels_beyond_the_model(scans, model):
    (scans / "l.csv").write_text("file,label\na.png,12\n")
    says = ("labels must be in 0..9, not 12",)
    refused(scans, "evaluate", model, "--images", scans, "--labels", scans / "l.csv", says=says)


# ---------------------------------------------------------------- images


def test_pictures_of_kinds_that_are_not_read(scans):
    (scans / "c.heic").write_bytes(b"x")
    Image.new("L", (8, 8)).save(scans / "d.gif")
    notes: list[str] = []
    assert some_images(scans, None, notes) == [scans / "a.png", scans / "b.png"]
    assert notes == ["images: files that are not read are left out: 1 .gif, 1 .heic"]
    for name in ("a.png", "b.png"):
        (scans / name).unlink()
    with pytest.raises(ValueError, match=r"holds no image \(.*\), but 1 \.gif, 1 \.heic"):
        list_images(scans)


def test_one_pixel_and_a_long_strip(tmp_path):
    config = ImageConfig(image_size=224, patch_size=16)
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    assert np.array_equal(np.unique(input_pixels(tmp_path / "a.png", config).reshape(-1, 3), axis=0), [[10, 20, 30]])
    Image.new("L", (1, 6000)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png: 1 x 6000 pixels would become 248 x 1488000; cut it"):
        input_pixels(tmp_path / "b.png", ImageConfig(image_size=224, patch_size=16, crop_pct=0.9))


def test_images_of_one_value_say_no_ranges(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "a.png")
    argv = ("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", tmp_path, "-o", tmp_path / "m")
    refused(tmp_path, *argv, says=("calibration: every pixel of the images is 77: they say no ranges",))


def test_a_printers_jpeg_and_half_a_jpeg(tmp_path):
    """CMYK by its own colours; a file that ends early is no image, however much of it could be shown."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 4), np.uint8), "CMYK").save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
        want = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.jpg")), want)
    blob = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(blob[: len(blob) // 2])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ValueError, match=r"b\.jpg: cannot be read \(.*truncated"):
        load_image(tmp_path / "b.jpg")


def test_links_that_go_in_circles(tmp_path):
    (tmp_path / "x").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "x" / "a.png")
    (tmp_path / "x" / "again").symlink_to(tmp_path)
    assert list_images(tmp_path) == [tmp_path / "x" / "a.png"]
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match=r"loop\.png: is a link to loop\.png, which does not exist"):
        list_images(tmp_path)


def test_an_output_again_takes_the_place_of_the_earlier_one(tmp_path, model):
    """The same command twice: the same bytes; another configuration into the folder: nothing of the first is left."""
    build = tmp_path / "b"
    assert run("compile", model, "--preset", "tiny", "-o", build)[0] == 0
    first = (build / "memory.bin").read_bytes()
    assert run("compile", model, "--preset", "tiny", "-o", build)[0] == 0
    assert (build / "memory.bin").read_bytes() == first
    assert run("compile", model, "--preset", "tiny_hybrid", "-o", build)[0] == 0
    assert json.loads((build / "build.json").read_text())["config"]["name"] == "tiny_hybrid"
    assert (build / "memory.bin").read_bytes() != first
