"""Reciprocal square root and leading one against their definitions."""

import math
import random

import pytest

from vitforge_hw.arch import arith
from vitforge_hw.units.leading_one import LeadingOne
from vitforge_hw.units.rsqrt import Rsqrt
from vitforge_sim.bench.replay import Simulator

SEED = 20261


def cases():
    rng = random.Random(SEED)
    values = list(range(1 << 10))
    values += [v for k in range(45) for v in ((1 << k) - 1, 1 << k, (1 << k) + 1, 3 << k) if v < 1 << 45]
    values += [(i << 11) << k for i in range(32, 128) for k in (0, 1, 12)]  # every table entry's edge
    values += [((i << 11) - 1) << k for i in range(33, 129) for k in (0, 1, 12)]
    values += [rng.getrandbits(rng.randint(1, 45)) for _ in range(2000)]
    return values + [(1 << 45) - 1]


def test_rsqrt_values_and_latency():
    dut = Rsqrt(45)
    values = cases()
    rng = random.Random(SEED)
    fed, got = {}, []

    async def feed(ctx):
        cycle = 0
        for v in values:
            while rng.random() < 0.05:
                ctx.set(dut.valid, 0)
                ctx.set(dut.v, rng.getrandbits(45))
                await ctx.tick()
                cycle += 1
            ctx.set(dut.valid, 1)
            ctx.set(dut.v, v)
            fed[cycle] = v
            await ctx.tick()
            cycle += 1
        ctx.set(dut.valid, 0)
        for _ in range(Rsqrt.LATENCY + 2):
            await ctx.tick()

    async def collect(ctx):
        cycle = 0
        async for _, reset, valid, mantissa, exponent in ctx.tick().sample(dut.out_valid, dut.m, dut.e):
            assert not reset
            if valid:
                got.append((cycle, (mantissa, exponent)))
            cycle += 1

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_process(collect)
    sim.run()
    assert [c - Rsqrt.LATENCY for c, _ in got] == list(fed)
    for v, (_, result) in zip(fed.values(), got, strict=True):
        assert result == arith.rsqrt(v), v


def test_definition_is_a_reciprocal_square_root():
    """Independent of the RTL: relative error below 2^-13.3."""
    worst = 0.0
    for v in cases():
        if v:
            mantissa, e = arith.rsqrt(v)
            worst = max(worst, abs(mantissa * 2.0**-e * math.sqrt(v) - 1))
    assert worst < 2**-13.3


@pytest.mark.parametrize("width", [2, 3, 9, 21, 27])
def test_leading_one(width):
    dut = LeadingOne(width)
    rng = random.Random(SEED)
    values = range(1 << width) if width < 10 else [rng.getrandbits(rng.randint(0, width)) for _ in range(500)]

    async def bench(ctx):
        for v in values:
            ctx.set(dut.i, v)
            assert ctx.get(dut.some) == (v != 0)
            assert ctx.get(dut.index) == (arith.leading_one(v) if v else 0)
            sim.sample(ctx)

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()


def test_width_is_checked():
    with pytest.raises(ValueError, match="rsqrt: width must be 18 to 64, not 7"):
        Rsqrt(7)
