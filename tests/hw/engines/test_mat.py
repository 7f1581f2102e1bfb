"""The MAT engine: every tile's sums against plain integers, every factor against arith, exact cycles."""

import dataclasses
import random

import numpy as np
import pytest

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_hw.emit import convert, emitting
from vitforge_hw.engines import mat
from vitforge_hw.engines.mat import Mat
from vitforge_hw.engines.step_issue import ArrayState
from vitforge_hw.interfaces import POST_OP
from vitforge_sim.bench.enginebench import EngineBench, factors, signed, sums, words
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused
from vitforge_sim.run.lint import lint

TINY = get_config("tiny")
#: one word of p2vit's shape on half its cores, short memories
MID = AcceleratorConfig(name="mid", cores=4, masters=4, pool_rows=1024, max_k=128)
SMALL = dict(
    trio=True, pool_rows=1024, weight_rows=1024, param_rows=1024, ln_param_rows=512, max_channels=128, max_tokens=64,
    program_rows=1024, masters=1, read_fifo_beats=64, job_depth=4, ksum_rows=32, window_rows=32,
)  # fmt: skip
#: trio's shape: an odd number of tokens, half a word a step, no masks
FIVE = AcceleratorConfig(
    name="five", cores=5, word=16, width=8, attention=False, post_channels=4, max_k=96, code_rows=64, **SMALL
)
#: tiny_hybrid's shape with a short group register, and itself
FOUR = AcceleratorConfig(
    name="four", cores=4, word=8, width=8, post_channels=2, attend_keys=2, max_k=96, code_rows=128, **SMALL
)
HYBRID = get_config("tiny_hybrid")
#: tiny with cells for weights of 4 bits
NIBBLES = get_config("tiny_w4")
#: tiny with a multiplier for each product
PLAIN = dataclasses.replace(TINY, name="plain", packed=False)


def campaign(when: bool):
    """The same on another shape or seed, where the first cases leave little to find: in the campaign."""
    return pytest.mark.slow if when else ()


BASE = {f.name: 0 for f in isa.OP_FIELDS[isa.Chunk.MAT] if f is not isa.W4_FIELD}


class MatBench(EngineBench):
    """EngineBench with the rotator."""

    def __init__(self, config, instructions, memory, weights, ksum, **options):
        dut = reused(Mat, config)
        super().__init__(dut, instructions, weights, ksum, **options)
        self.rotated_port(dut.rd, memory)
        self.watch("input", dut.rd.valid & dut.rd.ready)
        self.watch("busy", 1, dut.busy)


def inputs(c, memory, op, row, group):
    """int64 (cores, words * word): what the multipliers see of a token group."""
    words = op["in_words"] or op["ksteps"]
    index = (row << op["skip"]) * (op["groups"] + 1) + group
    x = np.zeros((c.cores, words * c.word), np.int64)
    for lane in range(c.cores):
        token = (op["in_first"] + index) * c.cores + lane + op["in_offset"]
        if not op["in_tokens"] or 0 <= token < op["in_tokens"]:
            moved, bank = divmod(lane + op["in_offset"], c.cores)
            start = op["in_addr"] + (index + moved) * op["in_stride"]
            x[lane] = signed(memory[start : start + words, bank]).reshape(-1)
    return np.maximum(x, 0) if op["relu"] else x


def reference(c, instructions, memory, weights, ksum):
    """Sums (lists, token-major) and number of steps of the tiles, factors: in program order."""
    tiles, divided = [], []
    h = c.word // c.width
    rows = [np.frombuffer(w.to_bytes(c.weight_row_bytes, "little"), np.int8).astype(np.int64) for w in weights]
    ksums = [np.frombuffer(w.to_bytes(c.word, "little"), np.int8).astype(np.int64) for w in ksum]
    for op in instructions:
        n_words, rule = op["ksteps"], op["act1"] >> 11
        for r in range(op["rows"]):
            for g in range(op["groups"] + 1):
                x = inputs(c, memory, op, r, g)
                for t in range(op["tiles"]):
                    n = t // op["gtiles"] if op["gtiles"] else 0
                    part = x[:, n * n_words * c.word : (n + 1) * n_words * c.word]
                    at = op["weight_addr"] + (t // 2 if op.get("w4") else t) * n_words * h
                    w = np.concatenate([rows[a].reshape(c.lanes, c.width) for a in range(at, at + n_words * h)], 1)
                    if op.get("w4"):
                        w = ((w >> 4 * (t % 2) & 15) ^ 8) - 8
                    tiles.append((part @ w.T).reshape(-1).tolist())
                    if op["divide"]:
                        at = (op["act1"] & 0x7FF) + n * n_words
                        d = part @ np.concatenate(ksums[at : at + n_words])
                        divided.append([arith.divisor_factor(int(i), rule, op["act0"]) for i in d])
    return tiles, divided


def surroundings(c, seed, rows=512, weight_rows=256, ksum_rows=64):
    """Random activation buffer with empty rows and tokens, weight rows, Ksum words (not negative)."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, (rows, c.cores, c.word), dtype=np.uint8)
    memory[rng.random((rows, c.cores)) < 0.2] = 0x80  # tokens without a positive channel: divisor 0
    w = rng.integers(-127, 128, (weight_rows, c.weight_row_bytes)).astype(np.int8)
    if c.w4:  # as nibbles too never -8
        w[w & 15 == 8] += 1
        w[w >> 4 == -8] += 16
    ksum = rng.integers(0, 128, (ksum_rows, c.word)) >> rng.integers(0, 8, (ksum_rows, 1))
    return memory, words(w), words(ksum.astype(np.int8))


def check(c, instructions, seed=1, limit=20000, around=None, **options):
    """Runs the instructions, compares tiles, factors, what post-processing was told; returns the record."""
    memory, weights, ksum = around or surroundings(c, seed)
    instructions = [{**BASE, **i} for i in instructions]
    tiles, divided = reference(c, instructions, memory, weights, ksum)
    options = dict(seed=seed, simulators=USUAL, stalled=("rd", "go", "op", "post_op", "pop")) | options
    bench = MatBench(c, instructions, memory, weights, ksum, **options)
    record = bench.run(limit)
    got = sums(c, record)
    for n, (g, t) in enumerate(zip(got, tiles, strict=True)):
        assert g == t, f"tile {n}"
    got = factors(c, record)
    for n, (g, f) in enumerate(zip(got, divided, strict=True)):
        assert g == f, f"factors of tile {n} that is divided"
    assert bench.posted == [{name: i.get(name, 0) for name, _ in POST_OP} for i in instructions]
    fetched = sum(i["rows"] * (i["groups"] + 1) * (i["in_words"] or i["ksteps"]) for i in instructions)
    assert len(record.watched["input"]) == fetched, "each word is read once a token group"
    assert len(record.watched["row_end"]) == len(record.done)
    busy = [cycle for cycle, on in record.watched["busy"] if on]
    assert (busy[0], busy[-1]) == (record.goes[0] + 1, record.done[-1])
    steps = sum(i["rows"] * row_steps(c, i) for i in instructions)
    assert sum(state == ArrayState.STEP for _, state in record.watched["state"]) == steps
    return record


def row_steps(c, op):
    tiles = -(-op["tiles"] // 2) if op.get("w4") else op["tiles"]
    return mat.row_steps(c, tiles, op["ksteps"], op.get("groups", 0) + 1)


def op(**fields):
    return dict(rows=2, tiles=3, ksteps=2, in_addr=8, in_stride=4, param_addr=17, out_addr=256, out_stride=8) | fields


#: rotation and masks, which the first family uses
ROTATED = [
    op(in_offset=-1, in_tokens=9, rows=3, res_mode=1, res_addr=99, res_stride=5),
    op(in_offset=1, in_tokens=9, rows=3, tiles=1, ksteps=4),
    op(in_offset=-1, in_first=1, in_tokens=11, in_addr=12, out_wide=1),
    op(in_offset=-3, in_tokens=4095, tiles=1, act=1, act0=5),
    op(in_offset=7, in_tokens=20, tiles=2, in_addr=16),
    op(in_offset=-8, in_tokens=20, tiles=2, rows=3, in_addr=16, narrow=1),
    op(in_offset=-1, in_tokens=33, groups=2, rows=3, in_addr=16),
    op(in_offset=2, in_tokens=26, groups=1, rows=2, skip=1, in_addr=16, in_first=1),
]
#: several groups a row, skipped rows, grouped layers
GROUPS = [
    op(rows=3, tiles=2, ksteps=5, in_stride=5, weight_addr=3, param_addr=8),
    op(groups=2, weight_addr=20, ksteps=1),
    op(groups=1, rows=3, skip=1, ksteps=3, in_addr=100, in_stride=7),
    op(groups=4, rows=2, tiles=4, gtiles=2, ksteps=2, in_words=4, in_stride=6, weight_addr=31),
    op(tiles=6, gtiles=1, ksteps=1, in_words=6, in_stride=6, weight_addr=9),
    op(groups=3, rows=1, tiles=1, ksteps=1, in_stride=1),
    op(groups=0, rows=2, skip=1, tiles=6, gtiles=3, ksteps=1, in_words=2, in_stride=2),
    op(rows=1, tiles=1, ksteps=1),
]
#: Q Z with division by both rules
LOG2, RECIPROCAL = (rule << 11 for rule in (arith.DIV_LOG2, arith.DIV_RECIPROCAL))
DIVIDED = [
    op(relu=1, divide=1, groups=2, tiles=3, gtiles=1, ksteps=1, in_words=3, act1=RECIPROCAL + 5),
    op(relu=1, divide=1, groups=1, rows=3, skip=1, tiles=4, gtiles=2, ksteps=2, in_words=4, act0=6, act1=LOG2 + 17),
    op(ksteps=3, tiles=2),
    op(relu=1, divide=1, tiles=1, ksteps=1, act1=LOG2 + 30, act0=16),
    op(relu=1, divide=1, tiles=1, ksteps=1, act1=RECIPROCAL + 31),
    op(relu=1, tiles=2, ksteps=2, act1=RECIPROCAL + 31),
    op(relu=1, divide=1, tiles=2, ksteps=4, act1=LOG2 + 3, act0=9),
]


@pytest.mark.parametrize(
    "config, stall, seed",
    [
        pytest.param(c, stall, seed, id=f"{c.name}-{stall}", marks=campaign(c is FOUR))
        for c in (TINY, FOUR) for stall, seed in ((0.0, 1), (0.3, 1), (0.7, 2))
    ],
)  # fmt: skip
def test_rotated_and_masked(config, stall, seed):
    check(config, ROTATED, seed=seed, stall=stall)


@pytest.mark.parametrize(
    "config, stall, seed",
    [
        pytest.param(c, stall, seed, id=f"{c.name}-{stall}", marks=campaign(c is not TINY))
        for c in (TINY, FOUR, FIVE) for stall, seed in ((0.0, 1), (0.4, 2))
    ],
)  # fmt: skip
def test_groups(config, stall, seed):
    """Nothing is masked: in_tokens = 0."""
    check(config, GROUPS, seed=seed, stall=stall)


@pytest.mark.parametrize(
    "config, stall, seed",
    [
        pytest.param(c, stall, seed, id=f"{c.name}-{stall}", marks=campaign(not stall or c is not FOUR))
        for c in (FOUR, FIVE, HYBRID) for stall, seed in ((0.0, 1), (0.4, 2))
    ],
)  # fmt: skip
def test_divided(config, stall, seed):
    record = check(config, DIVIDED, seed=seed, stall=stall)
    seen = [f for tile in factors(config, record) for f in tile]
    assert (0, 0) in seen and len(set(seen)) > 20, "zero divisors, and factors are alive"
    divided = [i for i in DIVIDED for _ in range(i["rows"] * (i.get("groups", 0) + 1) * i["tiles"])]
    tiles = [cycle for (cycle, _), i in zip(record.watched["tile"], divided, strict=True) if i.get("divide")]
    assert [cycle for cycle, _ in record.watched["factor"]] == [t + mat.RESULT_TO_FACTOR for t in tiles]


@pytest.mark.slow
def test_every_offset():
    """Whatever in_offset can say, with an even distance between groups."""
    program = [op(tiles=1, in_offset=n, in_first=3, in_tokens=40, in_addr=100, in_stride=6) for n in range(-8, 8)]
    check(TINY, program)


#: weights of 4 bits: odd and even numbers of tiles, single steps, 8-bit instructions of one step right behind
PAIRED = [
    op(w4=1, tiles=4, ksteps=3, rows=3, weight_addr=7),
    op(tiles=3, ksteps=1),
    op(w4=1, tiles=3, ksteps=2, groups=1, weight_addr=40),
    op(w4=1, tiles=1, ksteps=4, rows=1),
    op(w4=1, tiles=2, ksteps=1, rows=4, in_stride=1),
    op(tiles=2, ksteps=1, rows=3),
    op(w4=1, tiles=7, ksteps=1, rows=2, groups=2, in_stride=2),
    op(tiles=1, ksteps=4, in_offset=-1, in_tokens=9),
    op(w4=1, tiles=5, ksteps=2, in_offset=-1, in_tokens=17, groups=2, rows=1, in_addr=16),
    op(w4=1, tiles=8, ksteps=8, rows=2, in_stride=8, weight_addr=100),
]


@pytest.mark.parametrize("stall, seed", [(0.0, 1), pytest.param(0.3, 2, marks=campaign(True)), (0.7, 3)])
def test_weights_of_four_bits(stall, seed):
    """Two tiles a pass, in the order of post-processing, between instructions of 8 bits."""
    check(NIBBLES, PAIRED, seed=seed, stall=stall)


def test_weights_of_four_bits_without_gaps():
    """A pass takes the cycles of one tile, its second sums come a cycle behind the first ones."""
    record = check(NIBBLES, [op(w4=1, tiles=6, ksteps=4, rows=6, in_stride=4)], stall=0.0)
    steps = [cycle for cycle, state in record.watched["state"] if state == ArrayState.STEP]
    assert steps == list(range(steps[0], steps[0] + 6 * 3 * 4)), "a step every cycle"
    tiles = [cycle for cycle, _ in record.watched["tile"]]
    ends = steps[3::4]
    latency = mat.step_to_result(NIBBLES)
    assert tiles == [t for end in ends for t in (end + latency, end + latency + 1)]


@pytest.mark.parametrize(
    "stalled, state",
    [
        ("rd", ArrayState.NO_DATA),
        ("go", ArrayState.NO_DATA),
        ("op", ArrayState.NO_OP),
        ("post_op", ArrayState.NO_OP),
        ("pop", ArrayState.NO_ROOM),
    ],
)
def test_one_port_stalls(stalled, state):
    """... and the monitor's state says why."""
    record = check(FOUR, GROUPS[:2] + DIVIDED[:1], stall=0.9, stalled=(stalled,))
    first = steps_of(record)[0]
    states = [s for cycle, s in record.watched["state"] if first < cycle < record.done[-1]]
    assert states.count(state) > 10, states


def random_program(c, rng, count):
    program = []
    for _ in range(count):
        ksteps, inputs_ = rng.randrange(1, 4), rng.choice([1, 1, 2, 3])
        gtiles = rng.randrange(1, 4) if inputs_ > 1 else rng.choice([0, 0, 3])
        tiles = gtiles * inputs_ or rng.randrange(1, 5)
        fields = dict(
            rows=rng.randrange(1, 4), groups=rng.randrange(3), skip=rng.randrange(2), tiles=tiles, ksteps=ksteps,
            gtiles=gtiles, in_words=ksteps * inputs_ if gtiles else rng.choice([0, ksteps]),
            in_addr=rng.randrange(40, 80), in_stride=rng.randrange(ksteps * inputs_, 14),
            weight_addr=rng.randrange(60), param_addr=rng.randrange(100), out_addr=rng.randrange(1 << 16),
        )  # fmt: skip
        if c.attention and rng.random() < 0.7:
            fields |= dict(
                in_offset=rng.randrange(-4, 5), in_first=rng.randrange(3), in_tokens=rng.randrange(8, 60),
            )  # fmt: skip
        if c.trio and rng.random() < 0.5:
            rule = rng.choice([LOG2, RECIPROCAL])
            fields |= dict(relu=1, divide=1, act0=rng.randrange(17), act1=rule + rng.randrange(40))
        program.append(fields)
    return program


@pytest.mark.parametrize(
    "config, seed",
    [
        pytest.param(c, seed, id=f"{c.name}-{seed}", marks=campaign(c in (FOUR, FIVE)))
        for c, seeds in ((TINY, (11, 12)), (PLAIN, (12,)), (FOUR, (11, 12)), (FIVE, (11, 12))) for seed in seeds
    ],
)  # fmt: skip
def test_random_programs(config, seed):
    check(config, random_program(config, random.Random(seed), 14), seed=seed, stall=0.2)


def steps_of(record):
    return [cycle for cycle, state in record.watched["state"] if state == ArrayState.STEP]


SHAPES = {
    "odd": dict(ksteps=2, tiles=3),
    "long": dict(ksteps=4, tiles=2),
    "grouped": dict(ksteps=3, tiles=3, gtiles=1, in_words=9),
    "one": dict(ksteps=1, tiles=1),
    "short": dict(ksteps=1, tiles=4),
}


@pytest.mark.parametrize(
    "config, shape",
    [
        pytest.param(c, shape, id=f"{c.name}-{name}", marks=campaign(
            name in ("odd", "long") and c is not TINY or name in ("one", "short") and c in (PLAIN, FIVE)
        ))
        for c in (TINY, PLAIN, FOUR, FIVE) for name, shape in SHAPES.items()
    ],
)  # fmt: skip
def test_no_gaps(config, shape):
    """One step a cycle across tiles, groups, rows and instructions; exact latencies."""
    one = op(rows=3, groups=2, in_stride=9) | shape
    record = check(config, [one, one | dict(skip=1, weight_addr=50), op() | shape])
    steps = steps_of(record)
    assert steps == list(range(steps[0], steps[0] + len(steps))), "no gap"
    reads = [cycle for (cycle,) in record.watched["input"]]
    assert reads[0] == record.goes[0] + mat.GO_TO_READ
    assert steps[0] == reads[0] + mat.READ_TO_STEP
    ended = steps[row_steps(config, one | dict(tiles=1, groups=0)) - 1]
    assert record.watched["tile"][0][0] == ended + mat.STEP_TO_RESULT
    ends = [cycle for (cycle,) in record.watched["row_end"]]
    assert ends[0] - steps[0] + 1 == row_steps(config, one)


def test_reads_run_ahead():
    """The fetch fills the ring without waiting for the steps, and never more than that."""
    one = op(rows=12, groups=1, ksteps=5, tiles=1, in_stride=5)
    record = check(FOUR, [one], stall=0.95, stalled=("pop",), limit=20000)
    reads = [cycle for (cycle,) in record.watched["input"]]
    assert reads[:31] == list(range(reads[0], reads[0] + 31))


def test_wide_words():
    """p2vit's word, lanes and width."""
    record = check(MID, [op(in_offset=-1, in_tokens=10, ksteps=4, tiles=5, rows=3), op(ksteps=6)], simulators=())
    steps = steps_of(record)
    assert steps == list(range(steps[0], steps[0] + len(steps)))


@pytest.mark.parametrize("preset", ["p2vit", *(pytest.param(p, marks=campaign(True)) for p in ("trio", "hybrid"))])
def test_verilog(tmp_path, preset):
    """Every block is emitted once, all names are readable, and Verilator's lint has nothing to say."""
    with emitting() as modules:
        text = convert(Mat(get_config(preset)), "vf_mat")
    modules = {**modules, "vf_mat": text}
    assert sum(m.startswith("vf_pe_cell") for m in modules) == 1
    for name, body in modules.items():
        assert body.count("\nmodule ") <= 4 and "$signal" not in body, name
    assert lint(modules, "vf_mat", tmp_path) == ""
