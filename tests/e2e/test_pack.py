"""pack and unpack: the bytes that the hardware reads and writes, from the code that the simulation uses; and what
simulate.json keeps."""

import json

import numpy as np
import pytest

from vitforge import api
from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge.simulation import simulate, write_run
from vitforge_sw.compiler import save_build
from vitforge_sw.graph.serialize import save_graph

PATHS = shipped_model("digits_vit")


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """A build directory of the shipped network."""
    folder = tmp_path_factory.mktemp("pack") / "build"
    save_build(digits.build, folder, "test")
    save_graph(digits.graph, folder / "model.safetensors")
    return folder


def image(n: int) -> str:
    return str(PATHS.test / f"{n:03d}.png")


def test_pack_is_what_the_simulation_feeds_and_reads(folder, digits, tmp_path):
    """image.bin is the job of the simulation; expected.bin are the very bytes that the RTL writes."""
    argv = ["pack", str(folder), "--image", image(3), "-o", str(tmp_path / "image.bin")]
    assert main(argv) == 0
    assert (tmp_path / "image.bin").read_bytes() == digits.build.pack_image(digits.patches[3])
    run = simulate(digits.graph, digits.build, digits.patches[3:4], folder).run
    size = digits.build.tensors[digits.build.output]["channels"] * digits.build.places[digits.build.output].planes
    assert (tmp_path / "expected.bin").read_bytes()[:size] == run.results[0].tobytes()[:size]
    assert np.array_equal(api.unpack(digits.build, run.results[0].tobytes())[0], digits.want[3])


def test_unpack(folder, digits, tmp_path, capsys):
    result = digits.build.pack_result(digits.want[0][None]) + digits.build.pack_result(digits.want[1][None])
    (tmp_path / "result.bin").write_bytes(result)
    assert main(["unpack", str(folder), str(tmp_path / "result.bin"), "--json", str(tmp_path / "u.json")]) == 0
    logits = json.loads((tmp_path / "u.json").read_text())["logits"]
    assert np.array_equal(logits, digits.want[:2])
    lines = capsys.readouterr().out.splitlines()
    assert [f"image {i}: class {int(digits.want[i].argmax())};" in lines[i] for i in range(2)] == [True, True]


def test_packed_logits_come_back(digits):
    rng = np.random.default_rng(0)
    classes = digits.build.tensors[digits.build.output]["channels"]
    logits = rng.integers(-2048, 2048, (1, classes))
    assert np.array_equal(api.unpack(digits.build, digits.build.pack_result(logits)), logits)


def test_refusals(folder, tmp_path, capsys):
    (tmp_path / "r.bin").write_bytes(b"12345")
    for argv, says in (
        (["unpack", folder, tmp_path / "r.bin"], "must be a positive multiple of"),
        (["unpack", folder, tmp_path / "none.bin"], "no such file"),
        (["pack", folder, "--image", image(0), "--image", image(1), "-o", tmp_path / "i.bin"], "must have 1 images, "),
        (["pack", folder, "--image", tmp_path / "none.png", "-o", tmp_path / "i.bin"], "none.png"),
    ):
        assert main([str(a) for a in argv]) == 2
        err = capsys.readouterr().err
        assert says in err and len(err.splitlines()) == 1
    assert not (tmp_path / "i.bin").exists() and not (tmp_path / "expected.bin").exists()


def test_a_later_run_keeps_the_earlier_proof(folder, digits):
    first = simulate(digits.graph, digits.build, digits.patches[:2], folder, tensors=True, command="a").info
    second = simulate(digits.graph, digits.build, digits.patches[:1], folder, command="b").info
    stored = json.loads((folder / "simulate.json").read_text())
    assert stored["command"] == "b" and stored["images"] == 1 and stored["bit_exact"]
    kept = next(r for r in stored["runs"] if r["command"] == "a")
    assert kept["bit_exact"] and kept["compared"] == "every tensor" and len(kept["tensors"]) == len(first["tensors"])
    again = simulate(digits.graph, digits.build, digits.patches[:1], folder, command="b").info
    commands = [r["command"] for r in json.loads((folder / "simulate.json").read_text())["runs"]]
    assert commands.count("b") == 0 and commands.count("a") == 1, "the same experiment takes its own place"
    assert again["steady_state_cycles"] == second["steady_state_cycles"] and second["backbone_utilization"] is None


def test_unreadable_record_is_replaced(tmp_path):
    run = dict.fromkeys(
        ("command", "simulator", "images", "compared", "memory", "model_hash", "config_hash", "batch", "deferred"), 1
    )
    (tmp_path / "simulate.json").write_text("{")
    write_run(tmp_path / "simulate.json", run)
    write_run(tmp_path / "simulate.json", run | {"images": 2})
    stored = json.loads((tmp_path / "simulate.json").read_text())
    assert stored["images"] == 2 and [r["images"] for r in stored["runs"]] == [1]
