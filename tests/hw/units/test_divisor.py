"""DivisorFactor and DivisorLane against arith: every leading one, rule and offset; exact latencies."""

import itertools
import random

import pytest

from vitforge_hw.arch import arith
from vitforge_hw.interfaces import FACTOR_BITS
from vitforge_hw.units import divisor_lane
from vitforge_hw.units.divisor_factor import DivisorFactor
from vitforge_hw.units.divisor_lane import DIVISOR_BITS, DivisorLane
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.bench.reuse import reused

RULES = (arith.DIV_LOG2, arith.DIV_RECIPROCAL)


def simulate(dut, bench, **options):
    sim = Simulator(dut, **options)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def divisors(bits, rng):
    """0, every leading one with every table entry and the rounding point 1.5, ends of the range, random values."""
    values = {0, 1, 2, 3, (1 << bits) - 1}
    for n in range(bits):
        values |= {1 << n, (2 << n) - 1, 3 << n >> 1, (3 << n >> 1) - 1}
        values |= {((256 + i) << n) >> 8 for i in range(0, 256, 5)}
    values = [*values, *(rng.getrandbits(rng.randrange(1, bits + 1)) for _ in range(500))]
    return [v for v in values if 0 <= v < 1 << bits]


@pytest.mark.parametrize("bits", [DIVISOR_BITS])
def test_divisor_factor(bits):
    """One divisor a cycle; rule and lo follow RULE_AT cycles later."""
    rng, dut, got = random.Random(1), DivisorFactor(bits), []
    assert DivisorFactor.LATENCY == 4 and DivisorFactor.RULE_AT == 3
    steps = [(d, arith.DIV_RECIPROCAL, rng.randrange(17)) for d in divisors(bits, rng)]
    steps += [(d, arith.DIV_LOG2, rng.choice((0, 16, rng.randrange(17)))) for d in divisors(bits, rng)]
    steps += [(1 << n, arith.DIV_LOG2, lo) for n, lo in itertools.product(range(bits), range(17))]
    rng.shuffle(steps)

    async def bench(ctx):
        for i in range(len(steps) + DivisorFactor.LATENCY):
            if i < len(steps):
                ctx.set(dut.d, steps[i][0])
            if 0 <= i - DivisorFactor.RULE_AT < len(steps):
                _, rule, lo = steps[i - DivisorFactor.RULE_AT]
                ctx.set(dut.rule, rule)
                ctx.set(dut.lo, lo)
            if i >= DivisorFactor.LATENCY:
                got.append((ctx.get(dut.mant), ctx.get(dut.p)))
            await ctx.tick()

    simulate(dut, bench)
    for (d, rule, lo), g in zip(steps, got, strict=True):
        assert g == arith.divisor_factor(d, rule, lo), (d, rule, lo)


def test_divisor_factor_known():
    assert arith.divisor_factor(0b0110_0011, arith.DIV_LOG2, 2) == (128, 7)
    assert arith.divisor_factor(96, arith.DIV_RECIPROCAL) == arith.row_factor(96) == (170, 6)


def tiles(cores, word, width, count, rng):
    """Tiles of (x, ksum, half) steps with their rule and lo, and what they give."""
    out = []
    for n in range(count):
        ksteps = rng.randrange(1, 4)
        top = rng.choice((1, 4, 127))
        q = [[rng.choice((0, top, rng.randrange(top + 1))) for _ in range(ksteps * word)] for _ in range(cores)]
        if n % 3 == 0:
            q[rng.randrange(cores)] = [0] * (ksteps * word)
        if n % 5 == 0:
            q = [[127] * (ksteps * word) for _ in range(cores)]
        k = [127 if n % 5 == 0 else rng.randrange(128) for _ in range(ksteps * word)]
        rule, lo = rng.choice(RULES), rng.randrange(17)
        steps = []
        for s, h in itertools.product(range(ksteps), range(word // width)):
            part = slice(s * word, (s + 1) * word)
            x = int.from_bytes(b"".join(bytes(t[part]) for t in q), "little")
            steps.append((x, int.from_bytes(bytes(k[part]), "little"), h))
        expected = [arith.divisor_factor(arith.query_product(t, k), rule, lo) for t in q]
        out.append((steps, rule, lo, expected))
    return out


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("shape", [(7, 16, 8), (4, 8, 8), pytest.param((5, 16, 16), marks=pytest.mark.slow)])
def test_divisor_lane(shape, gaps):
    """Tiles one after the other, also of a single step; between them operands that do not count."""
    cores, word, _ = shape
    rng, dut = random.Random(3), reused(DivisorLane, *shape)
    assert divisor_lane.LATENCY == 17
    todo, want, got = tiles(*shape, 60, rng), {}, {}

    async def bench(ctx):
        queue = [
            (step, i, i == len(steps) - 1, rule, lo, expected)
            for steps, rule, lo, expected in todo
            for i, step in enumerate(steps)
        ]
        idle = 0
        for cycle in itertools.count():
            if ctx.get(dut.factor_valid):
                value = ctx.get(dut.factor)
                raw = [value >> FACTOR_BITS * t & (1 << FACTOR_BITS) - 1 for t in range(cores)]
                got[cycle] = [(f & 255, f >> 8) for f in raw]
            valid = bool(queue) and not (gaps and rng.random() < 0.4)
            if valid:
                (x, ksum, half), i, last, rule, lo, expected = queue.pop(0)
                first = i == 0
                if last:
                    want[cycle + divisor_lane.LATENCY] = expected
            else:
                x, ksum = rng.getrandbits(8 * cores * word), rng.getrandbits(8 * word)
                half, first, last, rule, lo = (rng.randrange(2) for _ in range(5))
                half = half if shape[1] > shape[2] else 0
                idle += not queue
            for name, value in dict(
                x=x, ksum=ksum, half=half, valid=valid, first=first, last=last, rule=rule, lo=lo
            ).items():
                ctx.set(getattr(dut, name), value)
            if idle > divisor_lane.LATENCY + 2:
                return
            await ctx.tick()

    simulate(dut, bench)
    assert got == want
    assert any((0, 0) in factors for factors in want.values())
