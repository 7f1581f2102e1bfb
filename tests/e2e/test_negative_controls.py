"""Negative controls: each fault must make the comparison fail and name the place, or the tests prove nothing.

The shipped digits network on the emitted `tiny` RTL in Verilator. A second build holds every wrong operator of MUTANTS;
without one chosen it must be bit-exact, so that a failure comes from the operator alone.
"""

import copy
import dataclasses
import random
import re

import numpy as np
import pytest

from vitforge.rtl import ensure_rtl
from vitforge_hw.arch.config import get_config
from vitforge_sim.compare import verify as verify_module
from vitforge_sim.compare.verify import verify
from vitforge_sim.run.accelerator import build_accelerator, run_accelerator
from vitforge_sim.run.mutants import Mutant, Mutated, mutate
from vitforge_sim.run.topbench import SimulationError
from vitforge_sw.compiler import compile_graph
from vitforge_sw.golden import Golden
from vitforge_sw.ops import Matmul

CONFIG = get_config("tiny")
IMAGES = 2

MUTANTS = (
    Mutant("PE cell subtracts", "vf_pe_cell_", r"\{ sum0\[26\], sum0, 1'h0 \} (-) .*", "+", r"(embed) \1\.acc"),
    Mutant("requantizer rounds down", "vf_post_lane_requantize",
           r"\{ 1'h0, \S+ +\} \+ (\{ 12'h000, half \})", "0", "embed embed"),
    Mutant("residual is subtracted", "vf_post_lane_add",
           r"\{ shifted\[31\], shifted, 1'h0 \} (-) .*", "+", "embed embed"),
    Mutant("GELU adds its table", "vf_post_lane_gelu", r"\{ 1'h0, \\\$\d+  \} (-) .*", "+", r"(.*fc1) \1"),
    Mutant("LayerNorm adds S1 squared", "vf_layernorm_\\w+_stats",
           r".* (-) \{ 1'h0, square\d\[.*", "+", r"(.*norm1) \1"),
    Mutant("LayerNorm adds the mean", "vf_layernorm_lane_", r"\{ cx\d.* (-) \{ s1_row.*", "+", r"(.*norm1) \1"),
    Mutant("softmax adds the maximum", "vf_softmax_lane_",
           r".* (-) \{ score\[7\], score \}", "+", r"(.*softmax.*) \1\.codes"),
    Mutant("softmax code's threshold", "vf_softmax_lane_",
           r"u\[3:0\] <= (4'h3)", "4'h4", r"(.*softmax.*) \1\.codes"),
    Mutant("row weights are subtracted", "vf_softmax_lane_",
           r".* (\+) \{ 9'h000, weight \}", "-", r"(.*attend.*) \1"),
    Mutant("row factor's exponent", "vf_softmax_lane_\\w+_factor", r"(6'h17) - .*", "6'h16", r"(.*attend.*) \1"),
    Mutant("shifter array's three times", "vf_shifter_array_",
           r"\{ \\v\$.* (\+) \{ \\\$.*", "-", r"(.*attend.*) \1\.acc"),
    Mutant("shifter array subtracts a key", "vf_shifter_lane_",
           r"\{ product0_0.* (\+) .*", "-", r"(.*attend.*) \1\.acc"),
)  # fmt: skip


@pytest.fixture(scope="module")
def patches(digits):
    return digits.patches[:IMAGES]


def simulate(digits, bench, patches, memory_image=None, mutant=0):
    build = digits.build
    return run_accelerator(
        bench, CONFIG, memory_image or build.memory_image, build.program_beats, [build.pack_image(p) for p in patches],
        build.result_bytes, settings=Mutated(bandwidth=CONFIG.beat_bytes, mutant=mutant), watchdog=300_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(digits, patches):
    """A good run with every monitor, proved bit-exact."""
    found = simulate(digits, digits.machine.bench, patches)
    assert verify(digits.graph, digits.build, patches, found).first is None
    return found


@pytest.fixture(scope="module")
def mutated(digits, tmp_path_factory):
    sources = mutate(ensure_rtl(CONFIG, tmp_path_factory.mktemp("mutants")), MUTANTS)
    return build_accelerator(CONFIG, sources, "verilator", 1 << 24, cflags="-O0")


def with_monitor(run, name, records):
    """The run with other records of one monitor."""
    bench = dataclasses.replace(run.bench, monitors={**run.bench.monitors, name: records})
    return dataclasses.replace(run, bench=bench)


def change_golden(monkeypatch, name, index, by):
    """Golden's tensor, or value inside a unit, is off in one element of the second image; returns what it becomes."""
    whole, seen = verify_module.golden_tensors, []

    def changed(graph, patches, taps=None):
        tensors = whole(graph, patches, taps)
        values = tensors[name] if name in tensors else taps[name]
        values[1][index] += by
        seen.append(int(values[1][index]))
        return tensors

    monkeypatch.setattr(verify_module, "golden_tensors", changed)
    return seen


@pytest.mark.parametrize(
    "name, index, by",
    [
        ("blocks.0.norm1", (3, 7), 1),
        ("blocks.0.mlp.fc1", (16, 0), -1),
        ("embed", (1, 5), 1),  # low bytes
        ("blocks.1.mlp.fc2", (2, 3), 256),  # high bytes
    ],
)
def test_flipped_byte(digits, patches, run, monkeypatch, name, index, by):
    seen = change_golden(monkeypatch, name, index, by)
    verdict = verify(digits.graph, digits.build, patches, run)
    first = verdict.first
    assert (first.image, first.tensor, first.index) == (1, name, index)
    assert (first.expected, first.got) == (seen[0], seen[0] - by)
    ports = set(verify_module.PORTS) & set(run.bench.monitors)
    assert any(first.cycle in run.bench.monitors[port]["cycle"] for port in ports)
    assert verdict.mismatches == 1 and not verdict.bit_exact


def test_flipped_logit(digits, patches, run, monkeypatch):
    seen = change_golden(monkeypatch, digits.graph.output, (0, 4), 1)
    first = verify(digits.graph, digits.build, patches, run, tensors=False).first
    assert (first.tensor, first.image, first.index) == ("logits in memory", 1, (4,))
    assert (first.expected, first.got, first.cycle) == (seen[0], seen[0] - 1, run.image_end[1])


def test_flipped_code(digits, patches, run, monkeypatch):
    name = next(n for n, t in digits.graph.tensors.items() if t.fmt == "code4")
    golden = verify_module.golden_tensors(digits.graph, patches)[name]
    by = -1 if golden[1][0, 0] == 15 else 1
    seen = change_golden(monkeypatch, name, (0, 0), by)
    first = verify(digits.graph, digits.build, patches, run).first
    assert first.layer == name and first.image == 1 and first.index[:2] == (0, 0)
    assert (first.expected, first.got) == (seen[0], seen[0] - by)


@pytest.mark.parametrize("tap", ["S1", "S2", "acc"])
def test_flipped_value_inside_a_unit(digits, patches, run, monkeypatch, tap):
    taps: dict = {}
    verify_module.golden_tensors(digits.graph, patches, taps)
    name = next(n for n in taps if n.endswith(f".{tap}"))
    index = (2,) + (1,) * (taps[name].ndim - 2)
    seen = change_golden(monkeypatch, name, index, 1)
    first = verify(digits.graph, digits.build, patches, run).first
    assert f"{first.layer}.{tap}" == name and first.image == 1
    assert (first.expected, first.got) == (seen[0], seen[0] - 1)


@pytest.mark.parametrize("port", ["mat", "layernorm", "shifter", "image"])
def test_missing_write(digits, patches, run, port):
    records = np.delete(run.bench.monitors[port], -1)
    first = verify(digits.graph, digits.build, patches, with_monitor(run, port, records)).first
    assert f"number of writes of port {port}" in first.tensor
    assert first.expected - first.got == 1


@pytest.mark.parametrize("tap", ["codes", "tile", "attend", "stats_s1", "stats_s2"])
def test_missing_value_inside_a_unit(digits, patches, run, tap):
    records = np.delete(run.bench.monitors[tap], 0)
    first = verify(digits.graph, digits.build, patches, with_monitor(run, tap, records)).first
    assert "number of records" in first.tensor


@pytest.mark.parametrize("port", ["mat", "layernorm", "shifter", "image"])
def test_swapped_writes(digits, patches, run, port):
    """Two neighbours in the wrong order, each with its own address."""
    records = run.bench.monitors[port].copy()
    records["addr"][[0, 1]], records["data"][[0, 1]] = records["addr"][[1, 0]], records["data"][[1, 0]]
    first = verify(digits.graph, digits.build, patches, with_monitor(run, port, records)).first
    assert f"row address on port {port}" in first.tensor
    assert (first.expected, first.got) == (records["addr"][1], records["addr"][0])


def test_swapped_data(digits, patches, run):
    """Right addresses in the right order, but two rows' bytes exchanged."""
    records = run.bench.monitors["layernorm"].copy()
    assert (records["data"][0] != records["data"][1]).any()
    records["data"][[0, 1]] = records["data"][[1, 0]]
    first = verify(digits.graph, digits.build, patches, with_monitor(run, "layernorm", records)).first
    assert first.layer.endswith("norm1") and first.cycle == records["cycle"][0]


@pytest.mark.parametrize("layer", ["embed", "blocks.0.attn.q", "blocks.1.mlp.fc2", "head"])
def test_weight_sign(digits, patches, layer):
    """One weight's sign bit in the memory image, golden unchanged: the first mismatch is in that layer."""
    node = next(n for n in digits.graph.nodes if isinstance(n, Matmul) and n.name.startswith(layer))
    x = Golden(digits.graph).run(patches[:1])[node.x.name].numpy()[0, :, node.x.start :]
    column = int(np.abs(x[: 1 if layer == "head" else None, : node.weight.shape[1]]).sum(axis=0).argmax())
    channel = int(np.flatnonzero(node.weight[:, column] > 0)[0])
    graph = copy.deepcopy(digits.graph)
    weight = next(n for n in graph.nodes if n.name == node.name).weight
    weight[channel, column] ^= -128
    image = np.frombuffer(compile_graph(graph, CONFIG).memory_image, np.uint8)
    good = np.frombuffer(digits.build.memory_image, np.uint8)
    program = digits.build.program_beats * CONFIG.beat_bytes  # where the checksums differ too
    differs = np.flatnonzero(image[program:] != good[program:]) + program
    assert len(differs) == 1 and image[differs[0]] ^ good[differs[0]] == 0x80, "one bit of the memory image"
    found = simulate(digits, digits.machine.bench, patches, image.tobytes())
    first = verify(digits.graph, digits.build, patches, found).first
    assert first.image == 0 and first.layer == node.name and first.tensor.endswith(".acc"), first


@pytest.mark.parametrize("seed", range(6))
def test_damaged_data_are_reported(digits, patches, seed):
    """A random bit of weights, parameters or constants in DRAM: the checksum notices, whatever the result is."""
    build, rng = digits.build, random.Random(seed)
    piece = rng.choice(build.pieces)
    image = bytearray(build.memory_image)
    image[piece.beat * CONFIG.beat_bytes + rng.randrange(piece.beats * CONFIG.beat_bytes)] ^= 1 << rng.randrange(8)
    with pytest.raises(SimulationError, match="latched error checksum"):
        simulate(digits, digits.machine.bench, patches[:1], bytes(image))


@pytest.mark.parametrize(
    "byte, says",
    [(0, "program: no program"), (4, "build: the program was compiled for another"), (12, "checksum: loaded data")],
)
def test_refused_program_is_said_at_once(digits, patches, byte, says):
    """A bit of the header: the machine never gets ready, and nobody waits for the limit of a hang."""
    image = bytearray(digits.build.memory_image)
    image[byte] ^= 1
    with pytest.raises(SimulationError, match=f"latched error {says}") as caught:
        simulate(digits, digits.machine.bench, patches, bytes(image))
    assert caught.value.result.cycles < 10_000  # of the 300,000 of a hang; nearly all of them load the program


def test_mutants_are_off(digits, patches, mutated):
    found = simulate(digits, mutated, patches)
    assert verify(digits.graph, digits.build, patches, found).first is None


@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1), ids=[m.name for m in MUTANTS])
def test_wrong_operator(digits, patches, mutated, number):
    mutant = MUTANTS[number - 1]
    found = simulate(digits, mutated, patches, mutant=number)
    first = verify(digits.graph, digits.build, patches, found).first
    assert first is not None, f"nobody noticed: {mutant.name}"
    assert re.fullmatch(mutant.place, f"{first.layer} {first.tensor}"), first
    assert first.expected != first.got and found.start_cycle < first.cycle <= found.bench.cycles
