"""Both families on one emitted `tiny_hybrid` RTL: schemes, programs in turn, resets; wrong weights and operators."""

import copy
import dataclasses
import re

import numpy as np
import pytest

from vitforge import api
from vitforge.rtl import ensure_rtl
from vitforge.shipped import shipped_model
from vitforge.simulation import prepare
from vitforge_hw.arch.config import get_config
from vitforge_hw.verilog import emit
from vitforge_sim.compare.verify import verify
from vitforge_sim.run.accelerator import build_accelerator, run_accelerator
from vitforge_sim.run.build import BENCH
from vitforge_sim.run.machine import Machine, Script
from vitforge_sim.run.mutants import Mutant, Mutated, mutate
from vitforge_sim.run.topbench import BenchProgram, MemorySettings
from vitforge_sw.compiler import Build, CompileOptions, compile_graph
from vitforge_sw.compiler.program.image import seal
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import Graph
from vitforge_sw.ops import Depthwise

CONFIG = get_config("tiny_hybrid")
IMAGES, SLOTS = 2, 12

MUTANTS = (
    Mutant("a multiplier subtracts", "vf_dsp_",
           r"\{ product\[47\], product \} (\+) .*", "-", r"(stem.in_conv) \1\.acc"),
    Mutant("R-MAC's upper field keeps what was lent", "vf_rmac_cell_",
           r"\{ copy_out\[\d+\], copy_out\[\d+:18\] \} (-) .*", "+", r"(.*depth_conv) \1\.acc"),
    Mutant("R-MAC's sum subtracts", "vf_rmac_cell_",
           r"\{ sum0\[26\], sum0, 1'h0 \} (-) .*", "+", r"(stem.in_conv) \1\.acc"),
    Mutant("map row of a tap", "vf_tap_issue_", r"\{ top.* (\+) \{ 9'h000, dy \}", "-", r"(.*depth_conv) \1\.acc"),
    Mutant("sum over the cores", "vf_adder_tree_", r"\{ x__\d.* (\+) .*", "-", r"(.*(ksum|kv)\d) \1\.acc"),
    Mutant("divisor's exponent", "vf_divisor_factor_", r"(6'h19) - .*", "6'h18", r"(.*attend) \1"),
    Mutant("Hardswish adds", "vf_post_lane_trio\\w*_hardswish",
           r"\{ p\[11\], p\[11\], p \} (\+) .*q3 \}", "-", r"(stem.in_conv) \1"),
    Mutant("dyadic factor is added", "vf_post_lane_trio\\w*_requantize",
           r"\$signed\(total\) (\*) .*", "+", r"(stem.in_conv) \1"),
)  # fmt: skip


@dataclasses.dataclass
class Model:
    """A shipped model compiled for `tiny_hybrid`, with input bytes of some held-out images and golden's logits."""

    graph: Graph
    build: Build
    patches: np.ndarray
    logits: np.ndarray

    @classmethod
    def make(cls, name: str, scheme: str, folder) -> "Model":
        paths = shipped_model(name)
        source = api.load_float(str(paths.model), paths.checkpoint)
        graph = api.quantize(source, paths.calib, scheme, limit=32, progress=False)
        patches = api.load_inputs(graph, api.image_files(None, paths.test, 4))
        logits = np.stack([Golden(graph).run(p[None])[graph.output].numpy()[0, 0] for p in patches])
        return cls(graph, api.compile_model(graph, CONFIG, folder), patches, logits)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Model]:
    chosen = ("digits_efficientvit", "vitforge"), ("digits_efficientvit", "trio"), ("digits_vit", "vitforge")
    return {f"{m} {s}": Model.make(m, s, tmp_path_factory.mktemp(f"{m}_{s}")) for m, s in chosen}


@pytest.fixture(scope="module")
def bench(models, tmp_path_factory) -> BenchProgram:
    return prepare(models["digits_vit vitforge"].build, tmp_path_factory.mktemp("rtl"), "verilator", SLOTS)


@pytest.fixture(scope="module")
def evit(models) -> Model:
    return models["digits_efficientvit vitforge"]


def simulate(model: Model, bench: BenchProgram, images=IMAGES, memory_image=None, settings=None):
    b = model.build
    return run_accelerator(
        bench, CONFIG, memory_image or b.memory_image, b.program_beats,
        [b.pack_image(p) for p in model.patches[:images]], b.result_bytes,
        settings=settings or MemorySettings(bandwidth=CONFIG.beat_bytes), watchdog=300_000,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["digits_efficientvit trio", "digits_vit vitforge"])
def test_every_tensor(models, bench, name):
    """Scheme trio, whose divisors are codes, and the other family; test_road_trio.py has scheme vitforge."""
    model = models[name]
    run = simulate(model, bench)
    verdict = verify(model.graph, model.build, model.patches[:IMAGES], run)
    assert verdict.bit_exact, verdict.first
    found = {t.name: t for t in verdict.tensors}
    for tensor, info in model.graph.tensors.items():
        if info.fmt != "code4":  # the codes' ring: a tap, not a port
            assert found[tensor].elements == IMAGES * info.tokens * info.channels, tensor
    for unit, vit in (("shifter", True), ("softmax", True), ("loader", True)):
        assert (run.units[unit]["busy"] > 0) == (vit == name.startswith("digits_vit")), unit
    for engine in ("mat", "rmac"):  # matmuls of either family go to both
        assert run.units[engine]["busy"] > 0, engine
    assert np.array_equal(verdict.rtl_logits, model.logits[:IMAGES])


@pytest.mark.parametrize("what", ["R-MAC alone", "log2 codes, 8-bit residual"])
def test_instructions_that_the_models_do_not_need(evit, bench, what):
    """Grouped layers and the division on R-MAC; the other rule of softmax and shifter array, LayerNorm of 8 bits."""
    if what == "R-MAC alone":
        graph, patches = evit.graph, evit.patches[:IMAGES]
        build = compile_graph(graph, CONFIG, CompileOptions(engines="rmac"))
    else:
        graph = random_graph(3, rule="log2", residual="int8", depth=2, dim=16, heads=2, mlp=16, tokens=6, classes=3)
        t = graph.tensors[graph.input]
        patches = np.random.default_rng(3).integers(-128, 128, (IMAGES, t.tokens, t.channels)).astype(np.int8)
        build = compile_graph(graph, CONFIG)
    run = simulate(Model(graph, build, patches, np.empty(0)), bench)
    verdict = verify(graph, build, patches, run)
    assert verdict.bit_exact, verdict.first
    assert (run.units["mat"]["busy"] > 0) == (what != "R-MAC alone")


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["digits_efficientvit vitforge", "digits_vit vitforge"])
def test_every_tensor_with_explicit_multipliers(models, name):
    """The Verilog that is synthesised for Xilinx: multipliers as DSP48E2, run on the primitive's model."""
    sources = emit(CONFIG, "dsp48e2")
    assert sum("DSP48E2 #" in text for text in sources.values()) == 1
    model = models[name]
    sources["dsp48e2.v"] = (BENCH / "dsp48e2.v").read_text()  # of the simulation, as the vendor's would be
    run = simulate(model, build_accelerator(CONFIG, sources, "verilator", 1 << 24))
    verdict = verify(model.graph, model.build, model.patches[:IMAGES], run)
    assert verdict.bit_exact, verdict.first
    assert np.array_equal(verdict.rtl_logits, model.logits[:IMAGES])


# ---------------------------------------------------------------- a machine that is driven register by register


class Both:
    """One machine with the programs of both families in its DRAM; images 0..3 are one's, 4..7 the other's."""

    def __init__(self, bench: BenchProgram, models: list[Model]):
        self.models = models
        packed = [m.build.pack_image(p) for m in models for p in m.patches]
        size = max(map(len, packed))
        self.machine = Machine(
            bench, [m.build.memory_image for m in models], models[0].build.program_beats,
            [p.ljust(size, b"\0") for p in packed], max(m.build.result_bytes for m in models), SLOTS,
        )  # fmt: skip

    def enable(self, s: Script, number: int) -> Script:
        return self.machine.enable(s, number, self.models[number].build.program_beats)

    def image(self, number: int, image: int) -> int:
        return number * len(self.models[0].patches) + image

    def check(self, out, slots: dict[int, tuple[int, int]]) -> None:
        """Slot -> (model, image): the results are golden's, no AXI rule is broken."""
        assert out.bench.axi_errors == []
        for slot, (number, image) in slots.items():
            model = self.models[number]
            got = model.build.logits(out.results[slot].tobytes()[: model.build.result_bytes])
            assert np.array_equal(got, model.logits[image]), (slot, number, image)


@pytest.fixture(scope="module")
def both(models, bench) -> Both:
    return Both(bench, [models["digits_efficientvit vitforge"], models["digits_vit vitforge"]])


def test_programs_in_turn(both):
    """EfficientViT, ViT and EfficientViT again on one machine that is only disabled in between."""
    s, slots = Script(), {}
    for turn, number in enumerate((0, 1, 0)):
        both.enable(s, number)
        for image in (0, 1, 2):
            slots[3 * turn + image] = number, image
            both.machine.submit(s, both.image(number, image), 3 * turn + image)
        s.poll("completed", 3).read("error_code", f"error{turn}")
        s.disable()
    out = both.machine.run(s)
    both.check(out, slots)
    assert [out.values[f"error{turn}"] for turn in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("wait", [300, 4_000, 11_000, 17_000, 21_000])
def test_soft_reset_in_the_middle(both, wait):
    """Two images queued, a soft reset while the engines share a layer; then the other program, then this one again."""
    machine, s = both.machine, both.enable(Script(), 0)
    machine.submit(s, both.image(0, 0), 0)
    machine.submit(s, both.image(0, 1), 1).wait(wait).soft_reset().read("completed", "cut").read("error_code", "clean")
    machine.submit(both.enable(s, 1), both.image(1, 3), 2).poll("completed", 1).soft_reset()
    machine.submit(both.enable(s, 0), both.image(0, 2), 3)
    machine.submit(s, both.image(0, 3), 4).poll("completed", 2).read("error_code")
    out = machine.run(s, jitter=30, stall_r=30)
    both.check(out, {2: (1, 3), 3: (0, 2), 4: (0, 3)})
    assert out.untouched(1) and [out.values[n] for n in ("cut", "clean", "error_code")] == [0, 0, 0]


@pytest.mark.parametrize("settings", [dict(stall_ar=200, stall_r=200), dict(latency=400, jitter=300, stall_w=240)])
def test_slow_memory(both, settings):
    s, machine = both.enable(Script(), 0), both.machine
    for image in range(3):
        machine.submit(s, both.image(0, image), image)
    out = machine.run(s.poll("completed", 3).read("error_code"), seed=7, **settings)
    both.check(out, {image: (0, image) for image in range(3)})
    assert out.values["error_code"] == 0


# ---------------------------------------------------------------- negative controls


def golden_acc(graph: Graph, layer: str, patch: np.ndarray) -> np.ndarray:
    """The layer's accumulators (pixels, channels)."""
    taps: dict = {}
    Golden(graph).run(patch[None], taps)
    return taps[f"{layer}.acc"].numpy()[0]


def weight_place(build: Build, node, channel: int, column: int) -> int:
    """Byte of the memory image with this weight (docs/hybrid.md, Engines), of a layer in one piece."""
    c = build.config
    piece = next(p for p in build.pieces if p.name == f"{node.name}:weights")
    if isinstance(node, Depthwise):  # wide
        row = channel // (c.lanes * c.width) * node.kernel**2 + column
        byte = channel % (c.lanes * c.width)
    else:
        steps = node.weight.shape[1] // c.width
        row, byte = channel // c.lanes * steps + column // c.width, channel % c.lanes * c.width + column % c.width
    return piece.beat * c.beat_bytes + row * c.weight_row_bytes + byte


@pytest.mark.parametrize(
    "layer, channel, column",
    [
        ("stages.1.blocks.0.depth_conv", 13, 4),
        ("stages.2.blocks.0.depth_conv", 70, 8),
        ("stages.3.blocks.0.inverted_conv", 100, 41),
        ("stages.2.blocks.1.context_module.proj", 30, 17),
    ],
)
def test_weight_sign(evit, bench, layer, channel, column):
    """One weight's sign bit in DRAM: the first mismatch has layer, channel, and the values of a pixel that differs."""
    node = next(n for n in evit.graph.nodes if n.name == layer)
    image = bytearray(evit.build.memory_image)
    at = weight_place(evit.build, node, channel, column)
    assert int.from_bytes(image[at : at + 1], "little", signed=True) == node.weight[channel, column]
    image[at] ^= 0x80
    graph = copy.deepcopy(evit.graph)
    next(n for n in graph.nodes if n.name == layer).weight[channel, column] ^= -128
    good, wrong = (golden_acc(g, layer, evit.patches[0]) for g in (evit.graph, graph))
    assert set(np.argwhere(good != wrong)[:, 1]) == {channel}
    found = simulate(evit, bench, memory_image=seal(bytes(image), CONFIG))
    verdict = verify(evit.graph, evit.build, evit.patches[:IMAGES], found)
    first = verdict.first
    assert not verdict.bit_exact
    assert (first.image, first.layer, first.tensor, first.index[2]) == (0, layer, f"{layer}.acc", channel)
    pixel = first.index[0] * evit.graph.tensors[node.out.name].width + first.index[1]
    assert (first.expected, first.got) == (good[pixel, channel], wrong[pixel, channel])


@pytest.fixture(scope="module")
def mutated(tmp_path_factory) -> BenchProgram:
    sources = mutate(ensure_rtl(CONFIG, tmp_path_factory.mktemp("mutants")), MUTANTS)
    return build_accelerator(CONFIG, sources, "verilator", 1 << 24, cflags="-O0")


@pytest.mark.slow  # `make mutation` tries every operator of this preset
def test_mutants_are_off(evit, mutated):
    run = simulate(evit, mutated, settings=Mutated(bandwidth=CONFIG.beat_bytes))
    assert verify(evit.graph, evit.build, evit.patches[:IMAGES], run).first is None


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1), ids=[m.name for m in MUTANTS])
def test_wrong_operator(evit, mutated, number):
    mutant = MUTANTS[number - 1]
    run = simulate(evit, mutated, 1, settings=Mutated(bandwidth=CONFIG.beat_bytes, mutant=number))
    first = verify(evit.graph, evit.build, evit.patches[:1], run).first
    assert first is not None, f"nobody noticed: {mutant.name}"
    assert re.fullmatch(mutant.place, f"{first.layer} {first.tensor}"), first
    assert first.expected != first.got and run.start_cycle < first.cycle <= run.bench.cycles
