"""LayerNorm chunk against arch.arith: values, order, latency, throughput, under stalls."""

import dataclasses
import random

import numpy as np
import pytest

from vitforge_hw.arch import arith, isa, memmap
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.latency import CYCLES
from vitforge_hw.layernorm.layernorm import LayerNorm
from vitforge_hw.layernorm.stats import s1_bits, s2_bits, v_bits
from vitforge_sim.bench.chunkbench import ChunkBench, pack_entries
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused

SEED = 4711


def slow(*values):
    """A case that the others leave little to find: in the campaign."""
    return pytest.param(*values, marks=pytest.mark.slow)


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
        case "scaled":
            size = 2 ** rng.uniform(0, 11 if wide else 7)
            return [max(lo, min(hi, round(rng.uniform(-size, size)))) for _ in range(channels)]
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


def random_hardswish(rng, act):
    """Constants of an instruction; without ``act`` they must not matter."""
    if rng.random() < 0.4:
        q3, q6 = rng.choice(((0, 0), (0, 4095), (4095, 4095), (2047, 1), (1, 2)))
        s2 = rng.choice((0, 1, 24, 31))
    else:
        q3 = rng.randint(30, 2000)
        q6, s2 = 2 * q3, rng.randint(8, 15)
    return dict(act=act, q3=q3, q6=q6, s2=s2, offset=rng.choice((-128, 127, 0, rng.randint(-128, 127))))


class Case:
    """Instructions with their tensors; memories, and the writes that must come."""

    def __init__(self, config, shapes, seed, first=(3, 5000, 7), kinds=KINDS):
        """shapes: (rows, blocks, wide) or (rows, blocks, wide, act) per instruction; first: addresses of its input,
        output and parameters; kinds: of rows."""
        rng = random.Random(seed)
        self.memory, self.params, self.instructions = {}, {}, []
        self.expected, self.sums = [], []
        in_addr, out_addr, param_addr = first
        for number, (rows, blocks, wide, *act) in enumerate(shapes):
            channels, tokens = blocks * config.word, rows * config.cores
            entries = random_params(rng, channels, wide)
            for i, beat in enumerate(pack_entries(isa.LN_PARAM_FIELDS, entries, config.beat_bytes)):
                self.params[param_addr + i] = beat
            x = [random_row(rng, kinds[(t + number) % len(kinds)], channels, wide) for t in range(tokens)]
            columns = {k: [e[k] for e in entries] for k in ("a", "gamma", "beta", "shift")}
            constants = random_hardswish(rng, int(any(act))) if config.trio else {}
            if any(act):
                post = {k: v for k, v in constants.items() if k != "act"}
                affine = [columns[k] for k in ("gamma", "beta", "shift")]
                shifted = [[q << a for q, a in zip(row, columns["a"], strict=True)] for row in x]
                y = [arith.layernorm_hardswish(row, *affine, **post) for row in shifted]
            else:
                y = [arith.layernorm(row, *(columns[k] for k in ("a", "gamma", "beta", "shift"))) for row in x]
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
                    rows=rows,
                    in_addr=in_addr,
                    in_stride=in_stride,
                    in_wide=int(wide),
                    blocks=blocks,
                    param_addr=param_addr,
                    out_addr=out_addr,
                    out_stride=out_stride,
                    **constants,
                )
            )
            in_addr += rows * in_stride + 5
            out_addr += rows * out_stride + 5
            param_addr += -(-channels * 8 // config.beat_bytes) + 1


def run(config, shapes, *, stall=0.0, stalled=("rd", "wr", "go", "op"), seed=SEED, **options):
    case = Case(config, shapes, seed, **options)
    dut = reused(LayerNorm, config)
    simulators = USUAL if config.name.startswith("tiny") else ()
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
    b1, b2 = s1_bits(config), s2_bits(config)
    for (_, s1, s2), sums in zip(record.watched["stats"], case.sums, strict=True):
        for t, (want_s1, want_s2) in enumerate(sums):
            assert (s1 >> (b1 * t)) % (1 << b1) == want_s1 % (1 << b1)
            assert (s2 >> (b2 * t)) % (1 << b2) == want_s2
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
    "tiny_hybrid": [
        (2, 6, True, True), (1, 4, False), (2, 1, True, True), (1, 1, True), (2, 16, False, True), (1, 2, True, True),
        (1, 3, True, True),
    ],
    "trio": [(1, 10, True, True), (2, 4, False, True), (1, 3, True)],
    "hybrid": [(1, 10, True, True), (2, 4, True)],
}  # fmt: skip


@pytest.mark.parametrize("preset", SHAPES)
def test_values(preset):
    run(get_config(preset), SHAPES[preset])


@pytest.mark.parametrize(
    "preset, stall, stalled",
    [
        ("tiny", 0.3, ("rd", "wr", "go", "op")),
        ("tiny", 0.98, ("go", "op")),
        ("p2vit", 0.95, ("wr",)),
        ("tiny_hybrid", 0.8, ("rd",)),
        slow("tiny", 0.9, ("wr",)),
        slow("tiny", 0.8, ("rd",)),
        slow("p2vit", 0.5, ("rd", "wr", "go", "op")),
        slow("tiny_hybrid", 0.4, ("rd", "wr", "go", "op")),
        slow("tiny_hybrid", 0.9, ("wr",)),
        slow("trio", 0.6, ("rd", "wr", "go", "op")),
    ],
)
def test_stalls(preset, stall, stalled):
    shapes = SHAPES[preset] if preset != "p2vit" else [(2, 4, True), (2, 3, False)]
    run(get_config(preset), shapes, stall=stall, stalled=stalled, seed=SEED + 1)


@pytest.mark.parametrize(
    "preset, blocks, wide",
    [
        ("tiny", 6, False),
        ("tiny", 16, True),
        ("p2vit", 12, True),
        ("tiny_hybrid", 6, False),
        ("trio", 10, True),
        *(slow("tiny", blocks, wide) for blocks, wide in ((3, False), (3, True), (6, True), (16, False))),
        slow("p2vit", 12, False),
        slow("tiny_hybrid", 6, True),
        slow("trio", 10, False),
    ],
)
def test_cycles(preset, blocks, wide):
    """Latency in an idle machine, and rows of successive instructions every C cycles."""
    config = get_config(preset)
    rows = (3, 2) if preset.startswith("tiny") else (2, 1)
    record = run(config, [(n, blocks, wide, config.trio) for n in rows])
    channels = blocks * config.word
    n = max(2 + wide, 8 * config.word // config.beat_bytes)
    constant = CYCLES.ln_latency + CYCLES.ln_hardswish * config.trio
    latency = record.writes[blocks - 1][0] - record.goes[0]
    assert latency == LayerNorm.latency(config, blocks, wide) == 2 * channels + n + config.cores + constant
    assert set(np.diff(record.done)) == {max(channels, config.cores + CYCLES.ln_between_rows)}


@pytest.mark.parametrize("preset", ["tiny", "p2vit", slow("tiny_hybrid"), slow("trio")])
def test_longest_row(preset):
    """Every width at its bound: sums, V, z."""
    config = get_config(preset)
    rows = 2 if preset.startswith("tiny") else 1
    run(config, [(rows, config.max_channels // config.word, True, config.trio)])


@pytest.mark.slow
def test_b1_classifier():
    """1600 channels of 12 bits, Hardswish: EfficientViT-B1; then the longest row of 8 bits with PTF exponents."""
    config = get_config("trio")
    run(config, [(1, 1600 // config.word, True, True), (1, config.max_channels // config.word, False)], seed=SEED + 2)


@pytest.mark.slow
def test_variances():
    """Short rows of every size between the smallest and the largest."""
    run(get_config("tiny_hybrid"), [(40, 1, True, True), (30, 1, False)], kinds=("scaled",))


@pytest.mark.parametrize(
    "first",
    [
        (0x7FFB, 0x3FF9, 0x1FD),
        *map(slow, ((0x5555, 0xAAA5, 0xF5), (0xBFFE, 0xDFF7, 0xFB))),
    ],
)
def test_far_addresses(first):
    """Rows and parameters on both sides of powers of two, every address bit set and clear."""
    run(get_config("tiny_hybrid"), [(2, 2, True, True), (1, 3, False), (1, 11, False, True)], stall=0.2, first=first)


@pytest.mark.parametrize("cores", [5, slow(13), 16])
def test_cores(cores):
    """Any number of tokens side by side."""
    config = dataclasses.replace(get_config("tiny_hybrid"), name=f"cores{cores}", attention=False, cores=cores)
    run(config, [(2, 3, True, True), (1, 2, False, True), (2, 1, True)])


def test_widths():
    """The bounds are reached or missed by less than a bit, and those of the first family stay."""
    assert [f(get_config("p2vit")) for f in (s1_bits, s2_bits, v_bits)] == [22, 33, 42]
    for preset in ("p2vit", "trio", "hybrid"):
        config = get_config(preset)
        n = config.max_channels
        alternating = [-2048, 2047] * (n // 2)
        for x in ([-2048] * n, [2047] * n, alternating):
            s1, s2, v = arith.layernorm_stats(x)
            assert -(1 << s1_bits(config) - 1) <= s1 < 1 << s1_bits(config) - 1
            assert s2 < 1 << s2_bits(config) and v < 1 << v_bits(config)
            assert max(n * s2, s1 * s1) < 1 << v_bits(config) + 1
        assert arith.layernorm_stats(alternating)[2] >= 1 << v_bits(config) - 1
