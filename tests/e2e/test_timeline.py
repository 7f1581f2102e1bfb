"""`vitforge simulate --trace`: every cycle of every chunk is accounted for, and looking changes nothing."""

import json
from itertools import pairwise

import numpy as np
import pytest

from vitforge import api
from vitforge.estimation import dots
from vitforge.shipped import shipped_model
from vitforge.simulation import simulate
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import Chunk
from vitforge_sim.measure.monitors import decode
from vitforge_sim.measure.timeline import KINDS, attribute, window
from vitforge_sim.measure.view import LAYERS, role
from vitforge_sim.run.topbench import BenchResult
from vitforge_sw.cycles.estimate import estimate

IMAGES = 3


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """(build, run with the timeline, folder, simulate.json of a run without monitors)."""
    folder = tmp_path_factory.mktemp("digits")
    paths = shipped_model("digits_vit")
    model = api.load_float(str(paths.model), paths.checkpoint)
    graph = api.quantize(model, paths.calib, "vitforge", limit=32, progress=False)
    build = api.compile_model(graph, get_config("tiny"), folder)
    patches = api.load_inputs(graph, api.image_files(None, paths.test, IMAGES))
    plain = simulate(graph, build, patches, folder).info
    return build, simulate(graph, build, patches, folder, trace=True).run, folder, plain


def test_looking_changes_nothing(traced):
    _, run, folder, plain = traced
    watched = json.loads((folder / "simulate.json").read_text())
    assert watched["bit_exact"] and plain["bit_exact"]
    for key in ("cycles_per_image", "units", "simulated_cycles"):
        assert watched[key] == plain[key]


def test_every_cycle_has_one_cause(traced):
    """A chunk's segments follow each other without gap or overlap from the start to its last row."""
    build, run, _, _ = traced
    attribution = attribute(build, run)
    for chunk in build.config.chunks:
        segments = attribution.segments[chunk]
        assert segments[0].begin == run.start_cycle
        assert all(a.end == b.begin and a.row <= b.row for a, b in pairwise(segments))
        assert all(s.begin < s.end and s.kind in KINDS for s in segments)
        assert segments[-1].row == IMAGES * attribution.events.totals[chunk] - 1


def test_rows_and_steps_are_those_of_the_program(traced):
    """The array's busy cycles are the program's tiles x ksteps, waits name the layer that the program waits for."""
    build, run, _, _ = traced
    attribution = attribute(build, run)
    steps = sum(i.rows * i.op["tiles"] * i.op["ksteps"] for i in build.programs[Chunk.MAT])
    cycles = attribution.cycles(Chunk.MAT, 0, run.bench.cycles)
    assert sum(kinds["busy"] for kinds in cycles.values()) == IMAGES * steps
    for chunk in build.config.chunks:
        counts = attribution.timeline.chunks[chunk]
        assert len(counts.go) == len(counts.done) == IMAGES * attribution.events.totals[chunk]
    waits = {(s.kind, s.awaited) for s in attribution.segments[Chunk.MAT] if attribution.layer(Chunk.MAT, s.row)
             == "blocks.0.attn.proj" and s.kind == "data"}  # fmt: skip
    assert waits and all(awaited.startswith("blocks.0.attn.attend") for _, awaited in waits)


def test_hardware_counters_agree(traced):
    """The registers' stall counters are the waiting stretches of the timeline."""
    build, run, _, _ = traced
    timeline = decode(run.bench)
    for chunk in build.config.chunks:
        waiting = timeline.chunks[chunk].waiting
        assert int((waiting.end - waiting.begin).sum()) == run.units[chunk.name.lower()]["stalled"]


def test_files(traced):
    build, run, folder, _ = traced
    info = json.loads((folder / "trace" / "timeline.json").read_text())
    begin, end, images = window(run)
    assert info["cycles_per_image"] == (end - begin) / images
    assert sum(info["losses"].values()) == pytest.approx(info["cycles_per_image"])
    assert sum(info["chunks"]["mat"].values()) == pytest.approx(info["cycles_per_image"])
    assert info["losses"]["ideal"] == sum(build.macs.values()) / build.config.multipliers
    assert abs(info["losses"]["elsewhere"]) < 100
    assert {x["layer"] for x in info["layers"] if x["chunk"] == "mat"} >= set(build.macs)
    assert (folder / "trace" / "timeline.png").read_bytes()[:4] == b"\x89PNG"
    events = json.loads((folder / "trace" / "perfetto.json").read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    layers = {e["name"] for e in slices if e["tid"] == Chunk.MAT + 1 and e["cat"] == "layer"}
    assert layers == set(build.macs)
    for tid in {e["tid"] for e in slices}:  # slices of a track are nested or apart
        outer = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if e["tid"] == tid and e["cat"] == "layer")
        assert all(a[1] <= b[0] for a, b in pairwise(outer))


@pytest.mark.parametrize(
    "layer, want",
    [
        ("blocks.3.mlp.fc1", "fc1"), ("blocks.11.mlp.fc2", "fc2"), ("blocks.0.attn.q.h2", "q"), ("embed", "embed"),
        ("head.classifier.1", "classifier"), ("stages.2.blocks.1.context_module.main.kv3", "kv"), ("nothing7", "busy"),
    ],
)  # fmt: skip
def test_colours(layer, want):
    assert role(layer) == want and LAYERS["fc1"] != LAYERS["fc2"]


def test_roofline(traced):
    """A dot for each kind of layer that reads DRAM; above the roof are those that need more than the bandwidth."""
    build, _, folder, _ = traced
    info = json.loads((folder / "simulate.json").read_text())
    guess = estimate(build, info["memory"]["bytes_per_cycle"], info["memory"]["latency"]) | {"multipliers": 256}
    found = dots(guess)
    assert {"embed", "attn.q", "mlp.fc1", "mlp.fc2", "head"} <= set(found)
    weights = sum(x["dram_bytes"] for x in guess["layers"] if x["name"].endswith("mlp.fc1"))
    macs = sum(n for name, n in build.macs.items() if name.endswith("mlp.fc1"))
    assert found["mlp.fc1"][0] == pytest.approx(macs / weights)
    bandwidth = info["memory"]["bytes_per_cycle"]
    assert info["above_roof"] == [k for k, (x, y) in found.items() if y > 1.001 * min(256, bandwidth * x)]
    assert (folder / "trace" / "roofline.png").read_bytes()[:4] == b"\x89PNG"


def test_decode_refuses():
    empty = BenchResult(0, [], np.zeros(0, np.uint8), {}, [], [], [], 0.0, "")
    with pytest.raises(ValueError, match="timeline: the run must record monitor 'timeline'"):
        decode(empty)
