"""Starting up is quick: help, version and errors of the command line import nothing large; check and estimate of a
model build no weights."""

import json
import subprocess
import sys

import pytest

from vitforge import api, commands
from vitforge.estimation import model_shapes
from vitforge_sw.graph.serialize import graph_hash
from vitforge_sw.models.resolve import build_model, resolve_model

LARGE = ("torch", "torchvision", "timm", "numpy", "PIL", "matplotlib", "amaranth", "scipy", "cocotb")

SCRIPT = """
import json, sys
from vitforge.cli import main
try:
    status = main(json.loads(sys.argv[1]))
except SystemExit as stop:
    status = stop.code
print(json.dumps([status, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]))
"""


def started(*argv: str) -> tuple[int, list[str], str]:
    """(exit status, which of LARGE were imported, stderr) of a command line in a process of its own."""
    script = [sys.executable, "-c", SCRIPT, json.dumps(argv), json.dumps(LARGE)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    return *json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    "argv", [("--version",), ("--help",), *((name, "--help") for name in commands.NAMES)], ids=" ".join
)
def test_help_imports_nothing_large(argv):
    assert started(*argv) == (0, [], "")


@pytest.mark.parametrize(
    "argv, says",
    [
        ((), "COMMAND"),
        (("bogus",), "bogus"),
        (("check",), "MODEL"),
        (("simulate", "build/x", "--sim", "modelsim"), "modelsim"),
        (("quantize", "m", "--calib", "c", "-o", "o", "--limit", "0"), "positive"),
        (("compile", "m.safetensors", "--preset", "nope", "-o", "build/x"), "nope"),
        (("compile", "m.safetensors", "--preset", "tiny", "-o", "pyproject.toml/x"), "must be a folder"),
        (("estimate", "deit_tiny_patch16_224", "--preset", "nope"), "nope"),
    ],
)
def test_errors_import_nothing_large(argv, says):
    status, large, err = started(*argv)
    assert (status, large) == (2, []) and says in err and len(err.splitlines()) == 1


def test_the_probe_can_fail():
    script = "import torch\n" + SCRIPT
    done = subprocess.run([sys.executable, "-c", script, '["--version"]', json.dumps(LARGE)], capture_output=True)
    assert "torch" in json.loads(done.stdout.splitlines()[-1])[1]


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit3_small_patch16_224", "efficientvit_b1"])
def test_models_of_shapes_alone(name, monkeypatch):
    """Their graphs are those of models with weights."""
    spec = resolve_model(name)
    assert all(p.is_meta for p in build_model(spec, shapes_only=True).parameters())
    lean = model_shapes(name)
    monkeypatch.setattr("vitforge.estimation.build_model", lambda spec, shapes_only: build_model(spec))
    assert graph_hash(lean) == graph_hash(model_shapes(name))


def test_check_builds_no_weights(monkeypatch):
    built = []
    monkeypatch.setattr("vitforge.api.build_model", lambda *a, **k: built.append(build_model(*a, **k)) or built[-1])
    assert len(api.check("vit_huge_patch14_224")) > 200
    assert built and all(p.is_meta for model in built for p in model.parameters())
