"""SOFTMAX with the code ring: every ring word, L, factor and cycle against arith."""

import dataclasses
import random

import pytest
from amaranth import Elaboratable, Module
from amaranth.lib.wiring import connect

from vitforge_hw.arch import arith
from vitforge_hw.arch.config import get_config
from vitforge_hw.attention.code_ring import CodeRing
from vitforge_hw.attention.softmax import Softmax
from vitforge_sim.bench.chunkbench import ChunkBench
from vitforge_sim.bench.replay import USUAL
from vitforge_sim.bench.reuse import reused

TINY = get_config("tiny")
WIDE = dataclasses.replace(get_config("p2vit"), name="wide")


class Dut(Elaboratable):
    """Softmax, ring, and the ring's read side open."""

    def __init__(self, config):
        self.softmax, self.ring = Softmax(config), CodeRing(config)
        self.ctl = self.softmax.ctl

    def elaborate(self, platform):
        m = Module()
        m.submodules.softmax, m.submodules.ring = self.softmax, self.ring
        connect(m, self.softmax.codes, self.ring.push)
        return m


def scores(rng, keys, kind):
    """One token's scores."""
    match kind:
        case "random":
            return [rng.randrange(-128, 128) for _ in range(keys)]
        case "ties":
            return [rng.choice((5, 5, 4, -3)) for _ in range(keys)]
        case "equal":
            return [rng.choice((-128, 127, 0))] * keys
        case "extreme":
            return [rng.choice((-128, 127)) for _ in range(keys)]
        case "close":
            high = rng.randrange(-126, 128)
            row = [high - rng.choice((1, 1, 1, 2)) for _ in range(keys)]
            row[rng.randrange(keys)] = high
            return row
        case "peak":
            row = [-128] * keys
            row[rng.randrange(keys)] = 127
            return row


KINDS = ("random", "ties", "equal", "extreme", "peak")


def build(config, rng, ops, base=0, kinds=KINDS):
    """Instructions, buffer rows, expected (scores by row)."""
    memory, instructions, expected = {}, [], []
    addr = base
    for rows, keys, rule, c, sc in ops:
        blocks = -(-keys // config.word)
        stride = blocks + rng.randrange(3)
        instructions.append(dict(rows=rows, in_addr=addr, in_stride=stride, keys=keys, rule=rule, c=c, sc=sc))
        for r in range(rows):
            tokens = [scores(rng, keys, kinds[(r + t) % len(kinds)]) for t in range(config.cores)]
            expected.append((tokens, instructions[-1]))
            for b in range(blocks):
                row = 0
                for t, x in enumerate(tokens):
                    for ch in range(config.word):
                        key = b * config.word + ch
                        byte = x[key] & 255 if key < keys else rng.randrange(256)
                        row |= byte << 8 * (t * config.word + ch)
                memory[addr + r * stride + b] = row
        addr += rows * stride
    return instructions, memory, expected


def ring_words(config, codes):
    """codes [token][key] to ring words."""
    keys, n = len(codes[0]), config.attend_keys
    words = []
    for j in range(0, keys, n):
        word = 0
        for k in range(n):
            for t in range(config.cores):
                q = codes[t][j + k] if j + k < keys else 15
                word |= q << 4 * (k * config.cores + t)
        words.append(word)
    return words


def expect(config, expected):
    """Ring words, log sums, factors of all rows."""
    words, logs, factors = [], [], []
    for tokens, op in expected:
        codes = [arith.softmax_codes(x, op["rule"], op["c"], op["sc"]) for x in tokens]
        words.append(ring_words(config, codes))
        if op["rule"] == arith.RULE_LOG2:
            value = 0
            for t, x in enumerate(tokens):
                u = [arith.softmax_u(i, max(x), op["c"], op["sc"]) for i in x]
                log = arith.softmax_log2_sum(sum(map(arith.softmax_sum_term, u)))
                value |= (log & 4095) << 12 * t
            logs.append(value)
        factor = [arith.row_factor(sum(arith.code_weight(q, op["rule"]) for q in row)) for row in codes]
        factors.append(
            (sum(f[0] << 8 * t for t, f in enumerate(factor)), sum(f[1] << 5 * t for t, f in enumerate(factor)))
        )
    return words, logs, factors


def run(config, seed, ops, stall=0.0, pop_delay=0, **options):
    """Run the instructions; checks all values and read addresses; returns go and done cycles."""
    rng = random.Random(seed)
    instructions, memory, expected = build(config, rng, ops, **options)
    dut = reused(Dut, config)
    bench = ChunkBench(dut, instructions, seed=seed, stall=stall, simulators=USUAL if config is TINY else ())
    bench.read_port(dut.softmax.rd, memory.__getitem__)
    pop, push = dut.ring.pop, dut.ring.push
    words, logs, factors = expect(config, expected)
    bench.watch("codes", dut.softmax.code_valid, dut.softmax.code_word)
    bench.watch("log_sum", dut.softmax.log_sum_valid, dut.softmax.log_sum)
    bench.watch("factors", push.commit, push.mant, push.p)
    popped = []

    async def read(ctx):
        for entry in words:
            while not ctx.get(pop.valid):
                await ctx.tick()
            for _ in range(pop_delay):
                await ctx.tick()
            got = []
            factor = (ctx.get(pop.mant), ctx.get(pop.p))
            for i in range(2 * len(entry) + 2):  # twice
                ctx.set(pop.index, i % len(entry))
                if i >= 2:
                    got.append(ctx.get(pop.word))
                if i == 2 * len(entry) - 1:
                    ctx.set(pop.free, 1)
                await ctx.tick()
                ctx.set(pop.free, 0)
            popped.append((got, factor))

    bench.sim.add_testbench(read)
    record = bench.run(100_000)
    seen = record.watched
    assert [w[1] for w in seen["codes"]] == [w for entry in words for w in entry], f"seed {seed}"
    assert [s[1] for s in seen["log_sum"]] == logs, f"seed {seed}"
    assert [c[1:] for c in seen["factors"]] == factors, f"seed {seed}"
    assert [p[0] for p in popped] == [e * 2 for e in words] and [p[1] for p in popped] == factors, f"seed {seed}"
    assert [a for _, a in record.reads] == [
        op["in_addr"] + r * op["in_stride"] + b
        for op in instructions
        for r in range(op["rows"])
        for b in range(-(-op["keys"] // config.word))
    ]
    return record.goes, record.done


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tiny(seed, stall):
    rng = random.Random(seed)
    ops = [
        (rng.randrange(1, 4), rng.choice((1, 2, 7, 8, 9, 16, 17, 31, 64)), rng.randrange(2), rng.randrange(1024),
         rng.randrange(16))
        for _ in range(12)
    ]  # fmt: skip
    run(TINY, seed, ops, stall)


@pytest.mark.parametrize("rule", [0, 1])
def test_shapes(rule):
    """Every number of keys; constants from no difference to all saturated."""
    ops = [(1, keys, rule, (0, 1, 23, 369, 1023)[keys % 5], (0, 5, 6, 15)[keys % 4]) for keys in range(1, 65)]
    run(TINY, 7, ops)


@pytest.mark.parametrize("rule", [0, 1])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_wide(rule, stall):
    run(WIDE, 11, [(3, 197, rule, 369, 7), (2, 197, 1 - rule, 181, 6)], stall)


def test_close_scores():
    """The largest of a word's scores, and of its words', is found among neighbours."""
    run(TINY, 9, [(40, 8, 0, 1023, 3), (20, 16, 0, 1023, 3)], kinds=("close",))


def test_ring_full():
    """The reader is slow: entries wait for space, nothing is lost."""
    run(TINY, 5, [(6, 64, 0, 200, 6), (70, 3, 0, 200, 6)], 0.0, pop_delay=60)


def test_ring_full_of_single_keys():
    """Rows of one key could start one right after the other: an entry's room is there, or they wait."""
    run(TINY, 6, [(60, 1, 0, 200, 6), (4, 1, 1, 200, 6)], 0.0, pop_delay=25)


@pytest.mark.parametrize("base", [0x7FFA, *(pytest.param(base, marks=pytest.mark.slow) for base in (0x5553, 0xBFFC))])
def test_far_addresses(base):
    """Rows on both sides of powers of two, every address bit set and clear."""
    run(TINY, 8, [(3, 17, 0, 300, 6), (2, 5, 1, 300, 6), (2, 64, 0, 300, 6)], 0.2, base=base)


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
@pytest.mark.parametrize("rule", [0, 1])
@pytest.mark.parametrize("keys", [17, 50, 64])
def test_cycles(config, rule, keys):
    """Latency of one row and the sustained rate, exactly, also across instructions."""
    blocks = -(-keys // config.word)
    per_row = keys if rule == 0 else 2 * keys + Softmax.GAP
    goes, dones = run(config, 3, [(1, keys, rule, 300, 6)])
    assert dones[0] - goes[0] == blocks + per_row + Softmax.LATENCY
    _, dones = run(config, 3, [(3, keys, rule, 300, 6), (2, keys, rule, 200, 5)])
    assert {b - a for a, b in zip(dones, dones[1:])} == {per_row}
    assert (Softmax.GAP, Softmax.LATENCY) == (5, 16)
