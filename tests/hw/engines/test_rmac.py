"""The R-MAC engine: every tile's sums against arith and plain integers, order, post-processing ops, cycles."""

import dataclasses
import random

import numpy as np
import pytest

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_hw.arch.latency import CYCLES
from vitforge_hw.engines.rmac import RMac
from vitforge_hw.interfaces import DEST_BUFFER, DEST_KSUM, DEST_Z, POST_OP
from vitforge_hw.units.adder_tree import AdderTree
from vitforge_sim.bench.enginebench import EngineBench, factors, packed_op, signed, sums, words
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused

SMALL = dict(
    trio=True, pool_rows=1024, weight_rows=1024, param_rows=1024, ln_param_rows=512, max_channels=128, max_tokens=64,
    program_rows=1024, masters=1, read_fifo_beats=64, job_depth=4, ksum_rows=32, max_k=96,
)  # fmt: skip
#: tiny_hybrid's shape
FOUR = AcceleratorConfig(
    name="four", cores=4, word=8, width=8, post_channels=4, attend_keys=2, code_rows=128, window_rows=64, **SMALL
)
#: trio's shape: an odd number of tokens, half a word a step, no masks
FIVE = AcceleratorConfig(
    name="five", cores=5, word=16, width=8, attention=False, post_channels=16, code_rows=64, window_rows=64, **SMALL
)
#: two words a read, from even rows
PAIRS = dataclasses.replace(FOUR, name="pairs", cores=5, attention=False, pool_words=2)
ROWS = 2048  #: of the test's activation buffer


def cdiv(a, b):
    return -(-a // b)


class RMacBench(EngineBench):
    """EngineBench with the activation buffer, and instructions that are packed as their kind is."""

    def __init__(self, config, instructions, memory, weights, ksum, **options):
        dut = reused(RMac, config)
        super().__init__(dut, instructions, weights, ksum, **options)
        self.read_port(dut.rd, lambda addr: int.from_bytes(memory[addr % len(memory)].tobytes(), "little"))

    async def _ops(self, ctx):
        port = self.dut.ctl.op
        packed = [packed_op(port, isa.Chunk.RMAC, op) for op in self.instructions]
        await self.offer(ctx, port, packed, "op", self.record.ops)


# ---------------------------------------------------------------- instructions


def depthwise(c, width, height, blocks, k, stride=1, pad=0, first=0, rows=None, **fields):
    """A depthwise convolution, its fields worked out; the input map lies at in_addr."""
    groups = cdiv(width, c.cores)
    narrow = blocks == 1 and stride == 1
    size = cdiv(groups, c.width) if narrow else groups * cdiv(blocks, c.width)
    assert size * (k + stride) <= c.window_rows, "the test's map does not fit"
    return dict(
        kind=isa.DEPTHWISE, rows=arith.conv_size(height, stride) - first if rows is None else rows,
        in_addr=16, in_stride=blocks + 1, in_groups=groups, width=width, height=height, blocks=blocks, kernel=k,
        stride=stride - 1, pad=pad, first=first, window_stride=size, weight_addr=7, param_addr=3, out_addr=900,
        out_stride=blocks, out_groups=cdiv(arith.conv_size(width, stride), c.cores),
    ) | fields  # fmt: skip


def key_value(c, heads, width, height, blocks, **fields):
    return dict(
        kind=isa.KEY_VALUE, rows=heads, in_addr=40, v_addr=300, in_stride=heads * blocks + 1,
        in_groups=cdiv(width, c.cores), width=width, height=height, blocks=blocks, weight_addr=100, param_addr=5,
        narrow=1,
    ) | fields  # fmt: skip


def token_sum(c, width, height, blocks, **fields):
    return dict(
        kind=isa.TOKEN_SUM, rows=1, in_addr=80, in_stride=blocks + 2, in_groups=cdiv(width, c.cores), width=width,
        height=height, blocks=blocks, weight_addr=12, param_addr=9, out_addr=800, narrow=1,
    ) | fields  # fmt: skip


def pointwise(**fields):
    base = {f.name: 0 for f in isa.OP_FIELDS[isa.Chunk.RMAC]}
    return base | dict(kind=isa.POINTWISE, rows=2, tiles=3, ksteps=2, in_addr=8, in_stride=4) | fields


# ---------------------------------------------------------------- reference


def pixels(c, memory, op, words, base):
    """int64 (height, width, words * word) of a map, padding left out."""
    g = op["in_groups"]
    out = np.zeros((op["height"], g * c.cores, words * c.word), np.int64)
    for y in range(op["height"]):
        for x in range(g):
            at = base + (y * g + x) * op["in_stride"]
            rows = signed(memory[at : at + words])  # word, core, channel
            out[y, x * c.cores : (x + 1) * c.cores] = rows.transpose(1, 0, 2).reshape(c.cores, -1)
    return out[:, : op["width"]]


def depthwise_tiles(c, op, memory, weights):
    """Tiles of one instruction: (cores, lanes), None where the output map has no pixel."""
    k, blocks, stride = op["kernel"], op["blocks"], op["stride"] + 1
    x = pixels(c, memory, op, blocks, op["in_addr"])
    narrow = blocks == 1 and stride == 1
    out_width, tiles = arith.conv_size(op["width"], stride), []
    for row in range(op["first"], op["first"] + op["rows"]):
        for g in range(op["out_groups"]):
            for b in range(blocks):
                tile = np.full((c.cores, c.lanes), None, object)
                for lane in range(c.lanes):
                    at = op["weight_addr"] + (0 if narrow else b // c.width) * k * k
                    slot = g % c.width if narrow else b % c.width
                    w = weights[at : at + k * k, slot * c.lanes + lane].reshape(k, k).tolist()
                    channel = x[:, :, b * c.word + lane].tolist()
                    for core in range(c.cores):
                        if g * c.cores + core < out_width:
                            tile[core, lane] = arith.depthwise(channel, w, row, g * c.cores + core, stride, op["pad"])
                tiles.append(tile)
    return tiles


def first_token(c, values):
    tile = np.zeros((c.cores, c.lanes), object)
    tile[0] = values
    return tile


def key_value_tiles(c, op, memory):
    tiles, blocks = [], op["blocks"]
    for head in range(op["rows"]):
        k, v = (
            pixels(c, memory, op, blocks, op[name] + head * blocks).reshape(-1, blocks * c.word).T.tolist()
            for name in ("in_addr", "v_addr")
        )
        for vb in range(blocks):
            for i in range(blocks * c.word):
                tiles.append(first_token(c, [arith.key_value(k[i], v[vb * c.word + e]) for e in range(c.lanes)]))
    return tiles


def token_sum_tiles(c, op, memory):
    x = pixels(c, memory, op, op["blocks"], op["in_addr"]).reshape(-1, op["blocks"] * c.word).T.tolist()
    total = arith.key_sum if op.get("relu") else sum
    totals = [total(channel) for channel in x]
    return [first_token(c, totals[b * c.word : (b + 1) * c.word]) for b in range(op["blocks"])]


def pointwise_tiles(c, op, memory, weights, ksum):
    tiles, divided, h = [], [], c.word // c.width
    taken = op["in_words"] or op["ksteps"]
    for r in range(op["rows"]):
        for g in range(op["groups"] + 1):
            at = op["in_addr"] + ((r << op["skip"]) * (op["groups"] + 1) + g) * op["in_stride"]
            x = signed(memory[at : at + taken]).transpose(1, 0, 2).reshape(c.cores, -1)
            if op["in_tokens"]:
                first = (op["in_first"] + (r << op["skip"]) * (op["groups"] + 1) + g) * c.cores
                x[max(op["in_tokens"] - first, 0) :] = 0
            x = np.maximum(x, 0) if op["relu"] else x
            for t in range(op["tiles"]):
                n = t // op["gtiles"] if op["gtiles"] else 0
                part = x[:, n * op["ksteps"] * c.word : (n + 1) * op["ksteps"] * c.word]
                at = op["weight_addr"] + t * op["ksteps"] * h
                w = np.concatenate([weights[a].reshape(c.lanes, c.width) for a in range(at, at + op["ksteps"] * h)], 1)
                tiles.append((part @ w.T).astype(object))
                if op["divide"]:
                    at = (op["act1"] & 0x7FF) + n * op["ksteps"]
                    d = part @ np.concatenate(list(ksum[at : at + op["ksteps"]]))
                    divided.append([arith.divisor_factor(int(i), op["act1"] >> 11, op["act0"]) for i in d])
    return tiles, divided


def expected_post(c, op):
    """POST_OP fields that docs/hybrid.md gives for each kind."""
    if op["kind"] == isa.POINTWISE:
        names = [name for name, _ in POST_OP if name in op]
        return {n: op[n] for n in names} | dict(dest=DEST_BUFFER, one_bank=0, hold=0)
    same = {n: op.get(n, 0) for n in ("param_addr", "out_addr", "out_stride", "narrow", "act", "act0", "act1")}
    same |= dict(skip=0, res_mode=0, divide=0, out_wide=0, weight_addr=op["weight_addr"], rows=op["rows"])
    d = op["blocks"] * c.word
    return same | {
        isa.DEPTHWISE: dict(
            tiles=op["blocks"], groups=op.get("out_groups", 0) - 1, dest=DEST_BUFFER, one_bank=0, hold=0
        ),
        isa.KEY_VALUE: dict(tiles=op["blocks"] * d, groups=0, dest=DEST_Z, hold=d - 1),
        isa.TOKEN_SUM: dict(
            tiles=op["blocks"], groups=0, hold=0, one_bank=1, bank=op.get("bank", 0),
            dest=DEST_KSUM if op.get("dest") else DEST_BUFFER,
        ),
    }[op["kind"]]  # fmt: skip


def check(c, instructions, seed=1, limit=20000, simulators=(), extreme=False, rows=ROWS, ksum_rows=64, **options):
    """Runs the instructions; compares every tile, factor and post-processing op. Returns the record.

    rows, ksum_rows: of the activation buffer and of the Ksum memory."""
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, (rows, c.cores, c.word), dtype=np.uint8)
    weights = rng.integers(-127, 128, (max(512, rows), c.weight_row_bytes)).astype(np.int8)
    if extreme:
        memory = rng.choice(np.array([127, 128], np.uint8), memory.shape)
        weights = rng.choice(np.array([-127, 127], np.int8), weights.shape)
    for op in instructions:
        if op["kind"] == isa.KEY_VALUE:  # v in -127..127
            heads = op["rows"] * op["blocks"]
            for g in range(op["in_groups"] * op["height"]):
                at = op["v_addr"] + g * op["in_stride"]
                memory[at : at + heads][memory[at : at + heads] == 128] = 129
        if op["kind"] == isa.DEPTHWISE and op["blocks"] == 1 and not op["stride"]:  # weights of one block in every slot
            at = op["weight_addr"]
            for row in weights[at : at + op["kernel"] ** 2]:
                row[:] = np.tile(row[: c.lanes], c.width)
    ksum = (rng.integers(0, 128, (ksum_rows, c.word)) >> rng.integers(0, 8, (ksum_rows, 1))).astype(np.int8)
    tiles, divided, per_op = [], [], []
    for op in instructions:
        before = len(tiles)
        if op["kind"] == isa.DEPTHWISE:
            tiles += depthwise_tiles(c, op, memory, weights.astype(np.int64))
        elif op["kind"] == isa.KEY_VALUE:
            tiles += key_value_tiles(c, op, memory)
        elif op["kind"] == isa.TOKEN_SUM:
            tiles += token_sum_tiles(c, op, memory)
        else:
            more = pointwise_tiles(c, op, memory, weights.astype(np.int64), ksum.astype(np.int64))
            tiles, divided = tiles + more[0], divided + more[1]
        per_op.append(len(tiles) - before)
    bench = RMacBench(
        c, instructions, memory, words(weights), words(ksum), seed=seed, simulators=simulators, **options
    )  # fmt: skip
    record = bench.run(limit)
    got = sums(c, record)
    assert len(got) == len(tiles)
    for n, (g, w) in enumerate(zip(got, tiles, strict=True)):
        g = np.array(g, object).reshape(w.shape)
        known = w != None  # noqa: E711
        assert np.array_equal(g[known], w[known]), f"tile {n} of {len(tiles)}, instructions have {per_op}"
    assert len({v for t in got for v in t}) > 50, "results are alive"
    for post, op in zip(bench.posted, instructions, strict=True):
        want = expected_post(c, op)
        assert {name: post[name] for name in want} == want
    assert factors(c, record) == divided
    return record


def row_ends(record, instructions):
    """Cycles of the rows' last steps, per instruction."""
    cycles, out = [cycle for (cycle,) in record.watched["row_end"]], []
    for op in instructions:
        out.append(cycles[: op["rows"]])
        cycles = cycles[op["rows"] :]
    assert not cycles
    return out


def row_budget(c, op):
    """Steps of a row."""
    if op["kind"] == isa.DEPTHWISE:
        k, blocks, narrow = op["kernel"], op["blocks"], op["blocks"] == 1 and not op["stride"]
        steps = cdiv(op["out_groups"], c.width) if narrow else op["out_groups"] * cdiv(blocks, c.width)
        return steps * k * k * (c.tap_cycles if op["stride"] else 1)
    if op["kind"] == isa.KEY_VALUE:
        return op["blocks"] ** 2 * (c.word // c.width) * op["in_groups"] * op["height"]
    return (op["groups"] + 1) * op["tiles"] * op["ksteps"] * (c.word // c.width)


def check_budget(c, instructions, apart=4):
    """No gap between rows; ``apart`` cycles more at most between instructions of a kind, 20 more between kinds."""
    record = check(c, instructions)
    ends = row_ends(record, instructions)
    for n, (op, cycles) in enumerate(zip(instructions, ends, strict=True)):
        assert np.diff(cycles).tolist() == [row_budget(c, op)] * (op["rows"] - 1), f"instruction {n}"
        if n:
            same = op["kind"] == instructions[n - 1]["kind"]
            assert cycles[0] - ends[n - 1][-1] <= row_budget(c, op) + (apart if same else 20), f"instruction {n}"
    return record


def test_depthwise_budget():
    """k * k cycles: kernels, strides, map sizes (below the kernel, not multiples of the cores), sets, first rows."""
    c = FOUR
    record = check_budget(
        c,
        program := [
            depthwise(c, 8, 4, 3, 3, pad=-5),
            depthwise(c, 9, 5, 2, 3, 2, pad=7),
            depthwise(c, 8, 6, 1, 5, 2, pad=7),
            depthwise(c, 7, 7, 9, 3, pad=99, first=2, rows=3),
            depthwise(c, 6, 5, 2, 7, 2, pad=-128),
            depthwise(c, 3, 2, 2, 7, pad=3),
            depthwise(c, 11, 5, 2, 5, first=1, rows=2, weight_addr=100),
            depthwise(c, 5, 7, 10, 5, 2, pad=-1, first=2),
        ],
    )
    assert record.reads[0][0] == record.goes[0] + 3
    assert record.watched["tile"][0][0] == row_ends(record, program)[0][0] - 9 + 14, "the first of the row's two groups"


@pytest.mark.slow
def test_full_slots_budget():
    """A tile of every slot from every step of nine taps, as many reads: still no gap.

    At stride 2 a step's taps need 4 * width words: with kernel 3 the fetch, 64 cycles a row here, is slower.
    """
    c = FOUR
    program = [depthwise(c, 16, 5, 8, 3, pad=1), depthwise(c, 16, 8, 8, 5, 2), depthwise(c, 8, 4, 16, 3)]
    check_budget(c, program, apart=32)  # the first window of the next instruction has to be read
    bound = depthwise(c, 16, 10, 8, 3, 2)
    assert np.diff(row_ends(check(c, [bound]), [bound])[0]).tolist()[1:-1] == [64, 64]


def test_narrow_budget():
    """Groups of a map row in the slots, carries between window rows; first windows have to be read."""
    c = FOUR
    check_budget(
        c,
        [
            depthwise(c, 21, 4, 1, 3, pad=-5),
            depthwise(c, 40, 3, 1, 5, pad=5),
            depthwise(c, 66, 2, 1, 7, pad=-128),
            depthwise(c, 4, 3, 1, 3, pad=127, first=1, rows=1),
        ],
        apart=32,
    )


def test_key_value_budget():
    """Groups cycles a pass; the next head is loaded meanwhile."""
    record = check_budget(FOUR, [key_value(FOUR, 3, 14, 4, 2), key_value(FOUR, 2, 13, 3, 2)])
    reads = [cycle for cycle, _ in record.reads]
    assert reads[-1] - reads[0] < 3 * 64 + 2 * 48, "loading overlaps"


def mixed(c):
    """Every kind, switches between all of them."""
    return [
        depthwise(c, 9, 3, 2, 3, pad=-5),
        pointwise(tiles=4, ksteps=2, groups=1, weight_addr=9),
        pointwise(relu=1, divide=1, act1=5 | 1 << 11, ksteps=1, rows=3, skip=1),
        token_sum(c, 6, 3, 3, relu=1, dest=1),
        key_value(c, 2, 6, 3, 2),
        depthwise(c, 8, 5, 1, 5, 2, pad=9),
        token_sum(c, 4, 1, 2, bank=2),
        pointwise(relu=1, divide=1, act0=6, act1=3, ksteps=2, gtiles=1, in_words=6, in_stride=7),
        key_value(c, 3, 5, 2, 1, in_addr=500, v_addr=700),
        pointwise(tiles=1, ksteps=1, groups=3),
        depthwise(c, 20, 3, 1, 3, pad=-128),
        token_sum(c, 1, 1, 2),
    ]


@pytest.mark.slow  # tests/e2e/test_hybrid.py runs every kind in Verilator on every run
def test_kinds_in_verilog():
    """Every kind after every other, random stalls; repeated on the Verilog."""
    c = get_config("tiny_hybrid")
    check(c, mixed(c), stall=0.3, stalled=("rd", "go", "op", "pop", "post_op"), simulators=USUAL)


def test_odd_number_of_cores():
    """trio's shape, all kinds, slow post-processing."""
    check(FIVE, [depthwise(FIVE, 13, 5, 2, 3, 2, pad=7), *mixed(FIVE)[:5]], pace=3, stall=0.1, stalled=("rd", "pop"))


def test_latencies():
    """The last step of a set, pass or row -> its first, or last, tile."""
    c, cycles = FOUR, CYCLES
    one_set = depthwise(c, 2 * c.cores, 1, 1, 3)
    record = check(c, [one_set, pointwise(rows=1, tiles=6)])
    tiles, ends = ([x[0] for x in record.watched[name]] for name in ("tile", "row_end"))
    assert tiles[0] - ends[0] == cycles.rmac_step_to_result
    assert tiles[-1] - ends[1] == cycles.rmac_pointwise_to_result
    record = check(c, [key_value(c, 1, 8 * c.cores, 2, 1)])
    tree, first = AdderTree.latency(c.cores), record.watched["row_end"][0][0] - 16 * (c.word // c.width - 1)
    assert record.watched["tile"][0][0] - first == cycles.rmac_step_to_result + cycles.rmac_product_levels + tree
    record = check(c, [token_sum(c, 9, 5, 9)])
    last = record.watched["tile"][-1][0] - record.watched["row_end"][0][0]
    assert last == cycles.rmac_sum_to_result


@pytest.mark.parametrize("c", [FOUR, pytest.param(FIVE, marks=pytest.mark.slow)], ids=lambda c: c.name)
def test_extremes(c):
    """Largest products of either sign in both fields."""
    check(
        c,
        [
            depthwise(c, c.cores + 1, 4, 2, 7, pad=-128),
            key_value(c, 1, 2 * c.cores, 4, 1),
            pointwise(tiles=2, ksteps=6, in_stride=6),
            token_sum(c, 9, 9, 1, narrow=0),
        ],
        extreme=True,
    )


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_programs(seed):
    rng, c, program = random.Random(seed), FOUR, []
    while len(program) < 12:
        kind, width, height = rng.randrange(4), rng.randrange(1, 14), rng.randrange(1, 6)
        if kind == isa.POINTWISE:
            program.append(pointwise(rows=rng.randrange(1, 4), tiles=rng.randrange(1, 5), groups=rng.randrange(3)))
        elif kind == isa.KEY_VALUE:
            program.append(key_value(c, rng.randrange(1, 4), width, height, rng.randrange(1, 3)))
        elif kind == isa.TOKEN_SUM:
            program.append(token_sum(c, width, height, rng.randrange(1, 5), relu=rng.randrange(2)))
        else:
            k, stride, blocks = rng.choice([3, 5, 7]), rng.randrange(1, 3), rng.choice([1, 1, 2, 3, 8, 9])
            size = cdiv(width, c.cores) * cdiv(blocks, c.width)
            if size * (k + stride) > c.window_rows:
                continue
            out = arith.conv_size(height, stride)
            first = rng.randrange(out)
            rows = rng.randrange(1, out - first + 1)
            program.append(depthwise(c, width, height, blocks, k, stride, rng.randrange(-128, 128), first, rows))
    check(c, program, seed=seed + 10, stall=0.2 * seed, stalled=("rd", "go", "op", "pop", "post_op"))


def test_pairs_of_words():
    """pool_words 2: two blocks of a pixel a request where the first one's row is even, of map rows at even and odd
    addresses, odd and even numbers of blocks; stride 2 with a tap a cycle (an odd number of cores)."""
    c = PAIRS
    program = [
        depthwise(c, 13, 5, 2, 3, 2, pad=7),
        depthwise(c, 10, 4, 9, 3, pad=-5, in_stride=9),
        depthwise(c, 6, 4, 8, 3, 2, in_addr=33, in_stride=9),
        key_value(c, 2, 7, 3, 2),
        depthwise(c, 40, 3, 1, 5, pad=5),
        token_sum(c, 9, 5, 3),
        pointwise(tiles=2, ksteps=3, in_stride=3),
    ]
    check(c, program, stall=0.2, stalled=("rd", "go", "op", "pop", "post_op"), simulators=USUAL)
    # 2 map rows of 4 groups a row: 4 or, from odd rows of the buffer, 5 requests a group; two sets take 18 cycles
    shape = dict(width=20, height=10, k=3, stride=2)
    bounds = {32: dict(blocks=8), 40: dict(blocks=8, in_addr=17), 18: dict(blocks=4)}
    program = [depthwise(c, **shape | op, in_stride=op["blocks"]) for op in bounds.values()]
    for ends, bound in zip(row_ends(check(c, program), program), bounds, strict=True):
        assert set(np.diff(ends)[1:-1]) == {bound}
