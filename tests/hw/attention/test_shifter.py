"""SHIFTER behind the code ring, alone and coupled with SOFTMAX: accumulators, rows and cycles against arith."""

import dataclasses
import random

import pytest
from amaranth import Elaboratable, Module
from amaranth.lib.wiring import connect

from vitforge_hw.arch import arith
from vitforge_hw.arch.config import get_config
from vitforge_hw.attention.code_ring import CodeRing
from vitforge_hw.attention.shifter import ShifterArray
from vitforge_hw.attention.softmax import Softmax
from vitforge_sim.bench.chunkbench import ChunkBench
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused

TINY = get_config("tiny")
WIDE = dataclasses.replace(get_config("p2vit"), name="wide")


class Dut(Elaboratable):
    """Shifter array and ring; softmax in front of the ring, or the ring's write side open."""

    def __init__(self, config, coupled=False):
        self.shifter, self.ring = ShifterArray(config), CodeRing(config)
        self.softmax = Softmax(config) if coupled else None
        self.ctl = self.shifter.ctl

    def elaborate(self, platform):
        m = Module()
        m.submodules.shifter, m.submodules.ring = self.shifter, self.ring
        connect(m, self.ring.pop, self.shifter.codes)
        if self.softmax:
            m.submodules.softmax = self.softmax
            connect(m, self.softmax.codes, self.ring.push)
        return m


class LateBench(ChunkBench):
    """The first ``go`` comes ``early`` cycles late."""

    early = 0

    async def _goes(self, ctx):
        for _ in range(self.early):
            await ctx.tick()
        await super()._goes(ctx)
        self.record.goes[:] = [g + self.early for g in self.record.goes]


def random_codes(rng, keys, kind):
    if kind == "light":  # small weights
        return [rng.randrange(11, 15) for _ in range(keys)]
    return [{"random": rng.randrange(16), "few": rng.choice((0, 15)), "zero": 15, "one": 0}[kind] for _ in range(keys)]


def random_values(rng, keys, channels, kind):
    pick = {"random": lambda: rng.randrange(-128, 128), "low": lambda: -128, "high": lambda: 127,
            "small": lambda: rng.randrange(-4, 5)}[kind]  # fmt: skip
    return [[pick() for _ in range(channels)] for _ in range(keys)]


def value_rows(config, rng, op, values, memory):
    """Values [key][channel] to buffer rows; keys beyond the tensor are random."""
    for g in range(-(-op["keys"] // config.cores)):
        for b in range(op["blocks"]):
            row = 0
            for i in range(config.cores):
                for ch in range(config.word):
                    key = g * config.cores + i
                    v = values[key][b * config.word + ch] if key < op["keys"] else rng.randrange(256)
                    row |= (v & 255) << 8 * (i * config.word + ch)
            address = op["v_addr"] + g * op["v_stride"] + b
            assert address not in memory
            memory[address] = row


def expect_row(config, op, r, codes, values):
    """Accumulators and (address, data) of one row of codes [token][key]."""
    accs, writes = [], []
    for b in range(op["blocks"]):
        acc = data = 0
        for t, q in enumerate(codes):
            for ch in range(config.word):
                v = [values[k][b * config.word + ch] for k in range(op["keys"])]
                total = sum(arith.code_weight(i, op["rule"]) * j for i, j in zip(q, v, strict=True))
                y = arith.attend(q, v, op["rule"], op["shift"], bool(op["factor"]))
                at = t * config.word + ch
                acc |= (total & 0xFFFFFFFF) << 32 * at
                data |= (y & 255) << 8 * at
        accs.append(acc)
        writes.append((op["out_addr"] + r * op["out_stride"] + b, data, (1 << config.cores) - 1))
    return accs, writes


def layout(config, rng, op, base):
    """Addresses of an instruction's values and results; returns the next free row."""
    groups = -(-op["keys"] // config.cores)
    op["v_stride"] = op["blocks"] + rng.randrange(3)
    op["v_addr"] = base
    op["out_stride"] = op["blocks"] + rng.randrange(3)
    op["out_addr"] = base + groups * op["v_stride"]
    return op["out_addr"] + op["rows"] * op["out_stride"]


def check(config, record, instructions, accs, writes, seed):
    assert [a[1] for a in record.watched["acc"]] == accs, f"seed {seed}"
    assert [w[1:] for w in record.writes] == writes, f"seed {seed}"
    assert [a for _, a in record.reads] == [
        op["v_addr"] + g * op["v_stride"] + b
        for op in instructions
        for r in range(op["rows"])
        for b in range(op["blocks"])
        for g in range(-(-op["keys"] // config.cores))
    ]


def run(config, seed, ops, stall=0.0, stalled=("rd", "wr", "go", "op"), early=0, base=0):
    """Rows of random codes; the first ``go`` is offered ``early`` cycles after reset; base: first row of the buffer."""
    rng = random.Random(seed)
    memory, instructions, entries, accs, writes = {}, [], [], [], []
    n = config.attend_keys
    for i, (rows, keys, blocks, rule, factor, shift, code_kind, value_kind) in enumerate(ops):
        op = dict(rows=rows, keys=keys, blocks=blocks, rule=rule, factor=factor, shift=shift)
        base = layout(config, rng, op, base)
        values = random_values(rng, keys, blocks * config.word, value_kind)
        value_rows(config, rng, op, values, memory)
        instructions.append(op)
        for r in range(rows):
            codes = [random_codes(rng, keys, code_kind) for _ in range(config.cores)]
            words = []
            for j in range(0, keys, n):
                q = [codes[t][j + k] if j + k < keys else 15 for k in range(n) for t in range(config.cores)]
                words.append(sum(v << 4 * i for i, v in enumerate(q)))
            pairs = [arith.row_factor(sum(arith.code_weight(i, rule) for i in q)) for q in codes]
            mant, p = (sum(f[k] << bits * t for t, f in enumerate(pairs)) for k, bits in ((0, 8), (1, 5)))
            entries.append((words, mant, p))
            a, w = expect_row(config, op, r, codes, values)
            accs += a
            writes += w
    dut = reused(Dut, config)
    simulators = USUAL if config is TINY else ()
    bench = LateBench(dut, instructions, seed=seed, stall=stall, stalled=stalled, simulators=simulators)
    bench.early = early
    bench.read_port(dut.shifter.rd, memory.__getitem__)
    bench.write_port(dut.shifter.wr)
    bench.watch("acc", dut.shifter.acc_valid, dut.shifter.acc)
    push = dut.ring.push

    async def feed(ctx):
        for words, mant, p in entries:
            ctx.set(push.need, len(words))
            while not ctx.get(push.room) or rng.random() < stall:
                await ctx.tick()
            ctx.set(push.start, 1)
            await ctx.tick()
            ctx.set(push.start, 0)
            for i, word in enumerate(words):
                ctx.set(push.word, word)
                ctx.set(push.valid, 1)
                if i == len(words) - 1:
                    await ctx.tick()
                    ctx.set(push.valid, 0)
                    for port, value in ((push.words, len(words)), (push.mant, mant), (push.p, p), (push.commit, 1)):
                        ctx.set(port, value)
                await ctx.tick()
            ctx.set(push.commit, 0)

    bench.sim.add_testbench(feed)
    record = bench.run(6_000)
    check(config, record, instructions, accs, writes, seed)
    return record


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tiny(seed, stall):
    rng = random.Random(seed)
    ops = [
        (rng.randrange(1, 4), rng.choice((1, 2, 3, 4, 5, 15, 17, 31, 64)), rng.randrange(1, 4), rng.randrange(2),
         rng.randrange(2), rng.choice((0, 3, 8, 20, 31)), rng.choice(("random", "random", "few", "zero", "one")),
         rng.choice(("random", "random", "low", "high")))
        for _ in range(10)
    ]  # fmt: skip
    run(TINY, seed, ops, stall)


@pytest.mark.parametrize("port", ["rd", "wr", "go"])
def test_one_port_stalls(port):
    run(TINY, 4, [(4, 17, 2, 0, 1, 6, "random", "random"), (4, 9, 3, 1, 0, 8, "random", "random")], 0.8, (port,))


@pytest.mark.parametrize("shift", (0, 1, 4, 9, 16, 23, 31))
def test_shifts(shift):
    """All shifts, the row factor of tiny and large sums."""
    kinds = ("random", "few", "one", "zero")
    run(TINY, shift, [(1, 1 + 9 * i, 1, shift & 1, i != 2, shift, k, "random") for i, k in enumerate(kinds)])


def test_small_sums():
    """Products that fit the result with hardly a shift: their lowest bits count."""
    ops = [(2, keys, 2, rule, 1, shift, "light", "small") for shift in range(6) for rule in (0, 1) for keys in (1, 3)]
    run(TINY, 9, ops)


@pytest.mark.parametrize(
    "base, blocks", [(0xBFFA, 5), *(pytest.param(*v, marks=pytest.mark.slow) for v in ((0x7FF0, 63), (0x5FFD, 36)))]
)
def test_far_addresses(base, blocks):
    """As many blocks as an instruction has; rows on both sides of powers of two."""
    ops = [(2, 3, 2, 0, 1, 8, "random", "random"), (1, 2, blocks, 1, 1, 8, "random", "random"),
           (2, 1, 3, 0, 0, 8, "random", "high")]  # fmt: skip
    run(TINY, 7, ops, 0.2, base=base)


def test_wide():
    run(WIDE, 5, [(1, 197, 4, 0, 1, 8, "random", "random"), (1, 197, 4, 1, 0, 4, "random", "random")])


def test_extremes_wide():
    """Largest sums: 197 keys of -128 and of 127 with weight 2^15."""
    run(WIDE, 6, [(1, 197, 1, 1, 1, 0, "one", v) for v in ("low", "high")])


@pytest.mark.parametrize("keys,blocks", [(17, 2), (40, 1), (64, 2), (5, 3)])
def test_cycles(keys, blocks):
    """Latency of one row and the sustained rate, exactly, also across instructions."""
    config = TINY
    steps = -(-keys // config.attend_keys)
    block = max(steps, config.word)
    shape = (keys, blocks, 0, 1, 6, "random", "random")
    shifter = ShifterArray(config)
    record = run(config, 1, [(1, *shape)], early=100)
    assert record.done[0] - record.goes[0] == shifter.START + (blocks - 1) * block + steps + shifter.LATENCY
    record = run(config, 1, [(2, *shape), (2, *shape)], early=200)
    assert {b - a for a, b in zip(record.done, record.done[1:])} == {blocks * block}
    blocks_end = [a[0] for a in record.watched["acc"]]
    assert {b - a for a, b in zip(blocks_end, blocks_end[1:])} == {block}
    assert (shifter.START, shifter.LATENCY) == (6, 21)


def run_coupled(config, seed, ops, stall):
    """Scores and values to rows through both chunks."""
    rng = random.Random(seed)
    memory, attends, softmaxes, accs, writes = {}, [], [], [], []
    scores, base = {}, 0
    for rows, keys, blocks, rule, factor, shift, c, sc in ops:
        op = dict(rows=rows, keys=keys, blocks=blocks, rule=rule, factor=factor, shift=shift)
        base = layout(config, rng, op, base)
        values = random_values(rng, keys, blocks * config.word, "random")
        value_rows(config, rng, op, values, memory)
        score_blocks = -(-keys // config.word)
        softmaxes.append(dict(rows=rows, keys=keys, rule=rule, c=c, sc=sc, in_addr=len(scores), in_stride=score_blocks))
        attends.append(op)
        for r in range(rows):
            x = [[rng.randrange(-128, 128) for _ in range(keys)] for _ in range(config.cores)]
            for b in range(score_blocks):
                row = [
                    q[b * config.word + ch] if b * config.word + ch < keys else rng.randrange(-128, 128)
                    for q in x
                    for ch in range(config.word)
                ]
                scores[len(scores)] = sum((i & 255) << 8 * at for at, i in enumerate(row))
            codes = [arith.softmax_codes(q, rule, c, sc) for q in x]
            a, w = expect_row(config, op, r, codes, values)
            accs += a
            writes += w
    dut = reused(Dut, config, True)
    bench = ChunkBench(dut, attends, seed=seed, stall=stall, simulators=USUAL if config is TINY else ())
    bench.read_port(dut.shifter.rd, memory.__getitem__)
    bench.write_port(dut.shifter.wr)
    bench.watch("acc", dut.shifter.acc_valid, dut.shifter.acc)
    ctl = dut.softmax.ctl
    last = [int(r == op["rows"] - 1) for op in softmaxes for r in range(op["rows"])]

    bench.add(bench.offer, ctl.op, softmaxes, "op", [])
    bench.add(bench.offer, ctl.go, last, "go", [])
    bench.read_port(dut.softmax.rd, scores.__getitem__, log=[])
    record = bench.run(6_000)
    assert [a[1] for a in record.watched["acc"]] == accs, f"seed {seed}"
    assert [w[1:] for w in record.writes] == writes, f"seed {seed}"
    return record


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_coupled_tiny(stall):
    ops = [(3, 17, 2, 0, 1, 6, 200, 6), (2, 64, 1, 1, 1, 8, 369, 7), (2, 3, 3, 1, 0, 8, 100, 5)] * 2
    run_coupled(TINY, 8, ops, stall)


def test_coupled_wide():
    run_coupled(WIDE, 9, [(1, 197, 4, 0, 1, 7, 369, 7), (1, 197, 1, 1, 0, 7, 369, 7)], 0.0)
