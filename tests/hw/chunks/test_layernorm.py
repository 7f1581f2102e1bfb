"""LayerNorm chunk against arch.arith.layernorm: values, order, latency, throughput, under stalls."""

import random

import numpy as np
import pytest

from vitforge_hw.arch import arith, isa, memmap
from vitforge_hw.arch.config import get_config
from vitforge_hw.chunks.layernorm import LayerNorm
from vitforge_hw.chunks.layernorm_stats import S1_BITS, S2_BITS
from vitforge_sim.chunkbench import ChunkBench, pack_entries
from vitforge_sim.replay import BOTH

SEED = 4711


def random_row(rng, kind, channels, wide):
    lo, hi = (-2048, 2047) if wide else (-128, 127)
    match kind:
        case "constant":
            return [rng.randint(lo, hi)] * channels
        case "extremes":
            return [rng.choice((lo, hi)) for _ in range(channels)]
        case "lowest":
            return [lo] * channels
        case "outlier":
            return [hi] + [lo] * (channels - 1)
        case "small":
            return [rng.randint(-1, 1) for _ in range(channels)]
    return [max(lo, min(hi, round(rng.gauss(0, hi / 4)))) for _ in range(channels)]


KINDS = ("random", "constant", "extremes", "lowest", "outlier", "small")


def random_params(rng, channels, wide):
    entries = []
    for _ in range(channels):
        extreme = rng.random() < 0.1
        shift = rng.choice((0, 1, 33, 34, 47)) if extreme else rng.randint(14, 20)
        entries.append(
            {
                "gamma": rng.choice((-32768, 32767, 0)) if extreme else rng.randint(-9000, 9000),
                "beta": rng.choice((-(1 << 31), (1 << 31) - 1, 0)) if extreme else rng.randint(-(1 << 21), 1 << 21),
                "shift": shift,
                "a": 0 if wide else rng.randint(0, 3),
            }
        )
    return entries


class Case:
    """Instructions with their tensors; memories, and the writes that must come."""

    def __init__(self, config, shapes, seed):
        """shapes: (rows, blocks, wide) per instruction."""
        rng = random.Random(seed)
        self.memory, self.params, self.instructions = {}, {}, []
        self.expected, self.sums = [], []
        in_addr, out_addr, param_addr = 3, 5000, 7
        for number, (rows, blocks, wide) in enumerate(shapes):
            channels, tokens = blocks * config.word, rows * config.cores
            entries = random_params(rng, channels, wide)
            for i, beat in enumerate(pack_entries(isa.LN_PARAM_FIELDS, entries, config.beat_bytes)):
                self.params[param_addr + i] = beat
            x = [random_row(rng, KINDS[(t + number) % len(KINDS)], channels, wide) for t in range(tokens)]
            columns = {k: [e[k] for e in entries] for k in ("a", "gamma", "beta", "shift")}
            y = [arith.layernorm(row, columns["a"], columns["gamma"], columns["beta"], columns["shift"]) for row in x]
            planes = 2 if wide else 1
            in_stride, out_stride = blocks * planes + rng.randint(0, 3), blocks + rng.randint(0, 3)
            packed = memmap.to_rows(np.array(x), config.cores, config.word, wide)
            results = memmap.to_rows(np.array(y), config.cores, config.word)
            for r in range(rows):
                for b in range(blocks * planes):
                    self.memory[in_addr + r * in_stride + b] = int.from_bytes(packed[r, b].tobytes(), "little")
                for b in range(blocks):
                    value = int.from_bytes(results[r, b].tobytes(), "little")
                    self.expected.append((out_addr + r * out_stride + b, value))
                shifted = [
                    [q << a for q, a in zip(x[r * config.cores + t], columns["a"], strict=True)]
                    for t in range(config.cores)
                ]
                self.sums.append([arith.layernorm_stats(row)[:2] for row in shifted])
            self.instructions.append(
                dict(
                    rows=rows, in_addr=in_addr, in_stride=in_stride, in_wide=int(wide), blocks=blocks,
                    param_addr=param_addr, out_addr=out_addr, out_stride=out_stride,
                )
            )
            in_addr += rows * in_stride + 5
            out_addr += rows * out_stride + 5
            param_addr += -(-channels * 8 // config.beat_bytes) + 1


def run(config, shapes, *, stall=0.0, stalled=("rd", "wr", "go", "op"), seed=SEED):
    case = Case(config, shapes, seed)
    dut = LayerNorm(config)
    simulators = BOTH if config.name == "tiny" else ()
    bench = ChunkBench(dut, case.instructions, stall=stall, stalled=stalled, seed=seed, simulators=simulators)
    bench.read_port(dut.rd, case.memory.__getitem__)
    bench.write_port(dut.wr)
    bench.memory_port(dut.params, lambda addr: case.params.get(addr, 0))
    bench.watch("stats", dut.stats_valid, dut.stats_s1, dut.stats_s2)
    bench.watch("busy", dut.busy)
    record = bench.run(limit=10000)

    every = (1 << config.cores) - 1
    for i, ((_, addr, value, mask), (want_addr, want)) in enumerate(zip(record.writes, case.expected, strict=True)):
        assert (addr, mask) == (want_addr, every), f"write {i}, seed {seed}"
        got = value.to_bytes(config.row_bytes, "little")
        for byte, (a, b) in enumerate(zip(got, want.to_bytes(config.row_bytes, "little"), strict=True)):
            where = f"write {i} token {byte // config.word} channel {byte % config.word}, seed {seed}"
            assert a == b, f"{where}: expected {b}, got {a}"
    for (_, s1, s2), sums in zip(record.watched["stats"], case.sums, strict=True):
        for t, (want_s1, want_s2) in enumerate(sums):
            assert (s1 >> (S1_BITS * t)) % (1 << S1_BITS) == want_s1 % (1 << S1_BITS)
            assert (s2 >> (S2_BITS * t)) % (1 << S2_BITS) == want_s2
    # done follows the last write of each row by a cycle
    ends, position = [], 0
    for i in case.instructions:
        for _ in range(i["rows"]):
            position += i["blocks"]
            ends.append(record.writes[position - 1][0])
    assert record.done == [e + 1 for e in ends]
    assert record.watched["busy"][-1][0] == record.done[-1]
    return record


SHAPES = {
    "tiny": [(3, 6, True), (2, 6, False), (1, 1, False), (2, 16, True), (3, 2, True)],
    "p2vit": [(2, 12, True), (1, 12, False)],
}


@pytest.mark.parametrize("preset", SHAPES)
def test_values(preset):
    run(get_config(preset), SHAPES[preset])


@pytest.mark.parametrize(
    "preset, stall, stalled",
    [
        ("tiny", 0.3, ("rd", "wr", "go", "op")),
        ("tiny", 0.9, ("wr",)),
        ("tiny", 0.8, ("rd",)),
        ("tiny", 0.98, ("go", "op")),
        ("p2vit", 0.5, ("rd", "wr", "go", "op")),
        ("p2vit", 0.95, ("wr",)),
    ],
)
def test_stalls(preset, stall, stalled):
    shapes = SHAPES[preset] if preset == "tiny" else [(2, 4, True), (2, 3, False)]
    run(get_config(preset), shapes, stall=stall, stalled=stalled, seed=SEED + 1)


@pytest.mark.parametrize("preset, blocks", [("tiny", 3), ("tiny", 6), ("tiny", 16), ("p2vit", 12)])
@pytest.mark.parametrize("wide", [False, True])
def test_cycles(preset, blocks, wide):
    """Latency in an idle machine, and rows of successive instructions every C cycles."""
    config = get_config(preset)
    rows = (2, 1) if preset == "p2vit" else (3, 2)
    record = run(config, [(n, blocks, wide) for n in rows])
    channels = blocks * config.word
    n = max(1 + wide, 8 * config.word // config.beat_bytes)
    latency = record.writes[blocks - 1][0] - record.goes[0]
    assert latency == LayerNorm.latency(config, blocks, wide) == 2 * channels + n + config.cores + 33
    assert set(np.diff(record.done)) == {max(channels, config.cores + 23)}


@pytest.mark.parametrize("preset", ["tiny", "p2vit"])
def test_longest_row(preset):
    """Every width at its bound: sums, V, z."""
    config = get_config(preset)
    run(config, [(2 if preset == "tiny" else 1, config.max_channels // config.word, True)])
