"""The digits network on the whole road by the command line, step by step, and on a second simulator."""

import dataclasses
import json

import pytest
from safetensors.numpy import load_file

from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge.simulation import simulate
from vitforge_hw.arch.config import get_config
from vitforge_sw.compiler import compile_graph
from vitforge_sw.families.vit.random import random_graph, random_images

DIGITS = shipped_model("digits_vit")
IMAGES = 12
SAME = ("tensors", "units", "first_image_cycles", "simulated_cycles", "dram_read_bytes")  #: in both simulators


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """Folder with ``m.safetensors`` and the build directory ``build``."""
    folder = tmp_path_factory.mktemp("road")
    quantized = str(folder / "m.safetensors")
    step("quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "-o", quantized)
    step("compile", quantized, "--preset", "tiny", "-o", folder / "build")
    return folder


def step(*argv) -> None:
    assert main([str(a) for a in argv]) == 0


def simulated(folder) -> dict:
    return json.loads((folder / "build" / "simulate.json").read_text())


def test_quantize_and_evaluate(road):
    arrays = load_file(road / "m.safetensors")
    assert arrays and all(a.dtype.kind in "iu" for a in arrays.values()), "no float in the integer model"
    result = road / "evaluate.json"
    step("evaluate", road / "m.safetensors", "--images", DIGITS.test, "--labels", DIGITS.labels, "--float",
         "--json", result)  # fmt: skip
    data = json.loads(result.read_text())
    assert data["images"] >= 360
    assert data["float"]["top1"] >= 95 and data["top1"] >= data["float"]["top1"] - 1


def test_verilator(road):
    """Images back to back without reset: every tensor, every value inside the units, the logits in memory."""
    step("simulate", road / "build", "--images", DIGITS.test, "--count", IMAGES, "--tensors")
    info = simulated(road)
    assert info["simulator"] == "verilator" and info["images"] == IMAGES == len(info["cycles_per_image"])
    assert info["bit_exact"] and info["first_mismatch"] is None and info["dead"] == []
    assert all(t["mismatches"] == 0 and t["elements"] for t in info["tensors"])
    names = {t["name"] for t in info["tensors"]}
    for part in ("embed", "norm1", "softmax", "attend", "fc1", "fc2", "head", ".codes", ".acc", ".S1", ".S2"):
        assert any(part in name for name in names), f"{part} is not compared"
    assert "logits in memory" in names
    # the pipeline is full: images follow each other faster than one alone takes
    assert info["steady_state_cycles"] < info["first_image_cycles"]


def test_small_network_in_both_simulators(tmp_path):
    """The same cycles and every tensor, also with a multiplier for each product; Icarus tells unknown values apart.

    The latter with memories that give noise where their ports meet: no data of such a read are ever used.
    """
    graph, tiny, found = random_graph(2, dim=8, heads=1, mlp=16), get_config("tiny"), []
    plain = dataclasses.replace(tiny, name="plain", packed=False)
    for simulator, config in (("verilator", tiny), ("icarus", tiny), ("icarus", plain)):
        build = compile_graph(graph, config)
        info = simulate(
            graph, build, random_images(graph, 1), tmp_path, simulator=simulator, tensors=True,
            collisions=config is plain,
        ).info  # fmt: skip
        assert info["bit_exact"] and info["simulator"] == simulator and info["collisions"] == (config is plain)
        found.append({figure: info[figure] for figure in SAME})
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_icarus(road):
    """One image: the same cycles and every tensor, with unknown values told apart."""
    step("simulate", road / "build", "--images", DIGITS.test, "--count", 1, "--tensors")
    verilator = simulated(road)
    step("simulate", road / "build", "--images", DIGITS.test, "--count", 1, "--tensors", "--sim", "icarus")
    icarus = simulated(road)
    assert icarus["simulator"] == "icarus" and icarus["bit_exact"]
    for figure in SAME:
        assert icarus[figure] == verilator[figure], figure
