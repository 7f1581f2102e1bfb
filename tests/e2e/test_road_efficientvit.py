"""The shipped EfficientViT on the emitted `tiny_hybrid` RTL: every tensor, every tile of both engines, faults found."""

import dataclasses
import json

import numpy as np
import pytest

from vitforge import api
from vitforge.shipped import shipped_model
from vitforge.simulation import prepare, simulate
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import Chunk
from vitforge_sim.compare import verify as verify_module
from vitforge_sim.compare.verify import verify
from vitforge_sim.measure.calibrate import compare, layer_losses, layer_table, lines
from vitforge_sim.measure.timeline import attribute
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.topbench import MemorySettings
from vitforge_sw.cycles.estimate import estimate

CONFIG = get_config("tiny_hybrid")
IMAGES = 4  #: three intervals of the steady state


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """(graph, build, patches, run with every monitor, folder)."""
    folder = tmp_path_factory.mktemp("trio")
    paths = shipped_model("digits_efficientvit")
    model = api.load_float(str(paths.model), paths.checkpoint)
    graph = api.quantize(model, paths.calib, "vitforge", limit=32, progress=False)
    build = api.compile_model(graph, CONFIG, folder)
    patches = api.load_inputs(graph, api.image_files(None, paths.test, IMAGES))
    run = run_accelerator(
        prepare(build, folder, "verilator", IMAGES), CONFIG, build.memory_image, build.program_beats,
        [build.pack_image(p) for p in patches], build.result_bytes, settings=MemorySettings(bandwidth=16),
        watchdog=300_000,
    )  # fmt: skip
    return graph, build, patches, run, folder


def test_every_tensor(trio):
    graph, build, patches, run, _ = trio
    verdict = verify(graph, build, patches, run)
    assert verdict.bit_exact, verdict.first
    reports = {t.name: t for t in verdict.tensors}
    assert set(graph.tensors) <= set(reports)
    for name, info in graph.tensors.items():  # shared tensors are complete, padding pixels are left out
        assert reports[name].elements == IMAGES * info.tokens * info.channels
    for node in graph.nodes:
        taps = [name for name in reports if name == f"{node.name}.acc"]
        assert taps or node.name == "head.classifier.1", f"{node.name}: no tile was compared"
    shared = [
        name for name in build.macs if all(any(x.layer == name for x in build.labels[c]) for c in
                                           (Chunk.MAT, Chunk.RMAC))
    ]  # fmt: skip
    assert shared, "no layer is split between the engines"


def changed(monkeypatch, name, index):
    whole = verify_module.golden_tensors

    def other(graph, patches, taps=None):
        tensors = whole(graph, patches, taps)
        (tensors if name in tensors else taps)[name][index] += 1
        return tensors

    monkeypatch.setattr(verify_module, "golden_tensors", other)


A = "stages.2.blocks.1.context_module"


@pytest.mark.parametrize(
    "name, index, shown",
    [
        ("stem.in_conv", (1, 5 * 32 + 9, 3), (5, 9, 3)),  # odd and even rows: both engines
        ("stem.in_conv", (1, 6 * 32 + 31, 7), (6, 31, 7)),
        ("stages.3.blocks.0.depth_conv", (1, 3, 100), (1, 1, 100)),  # a map row of 2 pixels in a group of 4
        (f"{A}.kv0", (1, 5, 21), (5, 21)),
        (f"{A}.ksum1", (1, 0, 40), (0, 40)),
        (f"{A}.attend", (1, 6, 70), (1, 2, 70)),
        ("head.pool", (1, 0, 77), (0, 77)),
        ("head.classifier.0", (1, 0, 150), (0, 150)),  # two byte planes
    ],
)
def test_flipped_value(trio, monkeypatch, name, index, shown):
    graph, build, patches, run, _ = trio
    changed(monkeypatch, name, index)
    verdict = verify(graph, build, patches, run)
    first = verdict.first
    assert (first.image, first.tensor, first.index) == (1, name, shown)
    assert abs(first.expected - first.got) in (1, 255) and verdict.mismatches == 1


@pytest.mark.parametrize(
    "name, index, shown",
    [
        ("stem.res0.depth_conv.acc", (1, 3 * 32 + 17, 2), (3, 17, 2)),
        (f"{A}.kv1.acc", (1, 7, 30), (7, 30)),
        (f"{A}.ksum0.acc", (1, 0, 33), (0, 33)),
        (f"{A}.attend1.acc", (1, 9, 12), (2, 1, 12)),
        ("head.pool.acc", (1, 0, 127), (0, 127)),
    ],
)
def test_flipped_tile(trio, monkeypatch, name, index, shown):
    graph, build, patches, run, _ = trio
    changed(monkeypatch, name, index)
    first = verify(graph, build, patches, run).first
    assert (first.image, first.tensor, first.index) == (1, name, shown)
    assert first.expected - first.got == 1


@pytest.mark.parametrize("monitor", ["rmac", "z", "ksum", "rmac_tile"])
def test_missing_record(trio, monitor):
    graph, build, patches, run, _ = trio
    monitors = {**run.bench.monitors, monitor: np.delete(run.bench.monitors[monitor], -1)}
    less = dataclasses.replace(run, bench=dataclasses.replace(run.bench, monitors=monitors))
    first = verify(graph, build, patches, less).first
    assert ("number of records" if monitor == "rmac_tile" else f"number of writes of port {monitor}") in first.tensor
    assert first.expected - first.got == 1


def test_cycle_model(trio):
    """Within 1 % in the steady state; the first image's load meets the weights' in the memory."""
    _, build, _, run, _ = trio
    info = compare(build, run, 16, 100)
    (model, rtl), (first_model, first_rtl) = info["steady"], info["first_image"]
    assert model == pytest.approx(rtl, rel=0.01), "\n".join(lines(info))
    assert first_model == pytest.approx(first_rtl, rel=0.04), "\n".join(lines(info))


def test_layers_and_their_losses_add_up(trio):
    """What a layer's engines did and what they lost are its cycles, and all layers together the engines' time."""
    graph, build, _, run, _ = trio
    info, lost = compare(build, run, 16, 100), layer_losses(build, attribute(build, run))
    cycles = dict.fromkeys(lost, 0.0)
    for _, layer, _, rtl, *_ in info["layers"]:
        cycles[layer] = cycles.get(layer, 0) + rtl
    per_engine, images = CONFIG.multipliers // 2, len(run.image_end)
    for layer, rtl in cycles.items():
        assert sum(lost[layer].values()) / images + build.macs.get(layer, 0) / per_engine == pytest.approx(rtl, abs=1)
    table = layer_table(graph, build, run, info)
    assert [row.split(" | ")[0][2:] for row in table[2:-1]] == [n.name for n in graph.nodes if n.name in cycles]
    assert any("additions" in row for row in table) and f"{sum(cycles.values()):,.0f}" in table[-1]


def test_timeline(trio):
    graph, build, patches, _, folder = trio
    traced = simulate(graph, build, patches, folder, trace=True)
    assert traced.info["bit_exact"]
    info = json.loads((folder / "trace" / "timeline.json").read_text())
    assert sum(info["losses"].values()) == pytest.approx(info["cycles_per_image"])
    assert info["losses"]["ideal"] == pytest.approx(sum(build.macs.values()) / CONFIG.multipliers)
    assert {"mat", "rmac"} == {w["engine"] for w in info["array_waits"]}
    predicted = estimate(build, images=IMAGES)["backbone"]
    measured = traced.info["backbone"]["cycles"]
    assert len(measured) == IMAGES and measured[0] == pytest.approx(predicted["first_image_cycles"], rel=0.05)
    assert measured[-1] < traced.info["steady_state_cycles"]
    macs = sum(n for name, n in build.macs.items() if not name.startswith("head."))
    last = [macs / (CONFIG.multipliers * n) for n in measured[-3:]]
    assert traced.info["backbone_utilization"] == pytest.approx(sum(last) / len(last), rel=1e-12)
    attribution = attribute(build, traced.run)
    for chunk in (Chunk.MAT, Chunk.RMAC):
        assert sum(info["chunks"][chunk.name.lower()].values()) == pytest.approx(info["cycles_per_image"])
        assert len(attribution.arrays[chunk][1]) == IMAGES * attribution.events.totals[chunk]
    for job, n in enumerate(measured):  # from the engines' segments, row by row
        rows = [(s, attribution.timeline.chunks[c].done[s.row]) for c in (Chunk.MAT, Chunk.RMAC)
                for s in attribution.segments[c] if s.kind == "busy" and attribution.image(c, s.row) == job
                and not attribution.layer(c, s.row).startswith("head.")]  # fmt: skip
        assert n == max(done for _, done in rows) - min(s.begin for s, _ in rows)


def test_backbone_of_many_images(trio):
    """The figure is there for any number of images, and that of the steady state."""
    graph, build, patches, _, folder = trio
    many = simulate(graph, build, np.tile(patches, (-(-33 // len(patches)), 1, 1))[:33], folder)
    few = simulate(graph, build, patches, folder)
    assert many.info["bit_exact"] and many.info["images"] == 33
    assert many.info["backbone_utilization"] == pytest.approx(few.info["backbone_utilization"], rel=0.02)
