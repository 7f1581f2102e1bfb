"""The road without a checkpoint for EfficientViT-B0 to B3 at 224: quantize, compile, estimate, both schemes.

Freshly initialised networks have branches that hardly carry signal; their fields must lie in the hardware's ranges all
the same. What trio cannot hold gets the memories that `check` names.
"""

import json

import numpy as np
import pytest
from PIL import Image

from vitforge.cli import main
from vitforge_sw.graph.serialize import load_graph

QUICK = ["--set", "weight_rounding=nearest"]  # the slow choice, which changes weights and no scale
CASES = [
    ("efficientvit_b0", "vitforge", QUICK),
    ("efficientvit_b0", "trio", []),
    *(pytest.param(f"efficientvit_b{n}", s, [], marks=pytest.mark.slow) for n in "0123" for s in ("vitforge", "trio")),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four pictures with large and small structure."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(5)
    for i in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8)).resize((240, 240), Image.Resampling.BICUBIC)
        noise = rng.integers(-20, 20, (240, 240, 3))
        Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("model, scheme, options", CASES)
def test_without_a_checkpoint(tmp_path, capsys, images, model, scheme, options):
    saved, build, larger = tmp_path / "m.safetensors", tmp_path / "b", tmp_path / "larger.json"
    quantize = ["quantize", model, "--calib", str(images), "--scheme", scheme, *options, "-o", str(saved)]
    assert main(quantize) == 0
    assert f"{model}: no --checkpoint, so the model is untrained" in capsys.readouterr().out
    graph = load_graph(saved)
    assert graph.meta["scheme"]["name"] == scheme and graph.tensors[graph.input].height == 112
    fits = main(["check", model, "--preset", "trio", "-o", str(larger)]) == 0
    where = ["--preset", "trio"] if fits else ["--config", str(larger)]
    assert main(["compile", str(saved), *where, "-o", str(build)]) == 0
    assert main(["estimate", str(build)]) == 0
    info = json.loads((build / "estimate.json").read_text())
    print(model, scheme, where, info["cycles"], round(info["utilization"], 4), flush=True)
    assert 0.5 < info["utilization"] < 1
    macs = sum(n.macs(graph) for n in graph.nodes)
    assert info["utilization"] == pytest.approx(macs / (info["multipliers"] * info["cycles"]), rel=0.01)
