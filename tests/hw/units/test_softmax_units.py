"""Log2 and RowFactor against arith: edges and random operands everywhere, all leading ones, all table entries."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch import arith
from vitforge_hw.units.log2 import Log2
from vitforge_hw.units.row_factor import RowFactor, decode_code
from vitforge_sim.bench.replay import Simulator


def pipeline(dut, operand, outputs, values, latency):
    """Outputs for one value a cycle, exactly ``latency`` cycles later."""
    got = []

    async def bench(ctx):
        for i, value in enumerate([*values, *[0] * latency]):
            ctx.set(operand, value)
            if i >= latency:
                got.append(tuple(ctx.get(o) for o in outputs))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return got


def edges(bits: int, mantissa: int, low: int) -> list[int]:
    """Every leading one with every table entry, at the entry's first and last value; powers of two and neighbours."""
    values = {1 << bits - 1, (1 << bits) - 1}
    for n in range(bits):
        values |= {(1 << n) - 1, 1 << n, (1 << n) + 1}
        for i in range(1 << mantissa):
            first = ((1 << mantissa) + i) << n >> mantissa
            values |= {first, first + (1 << max(n - mantissa, 0)) - 1}
    return sorted(v for v in values if low <= v < 1 << bits)


@pytest.mark.parametrize("latency", [3])
def test_log2(latency):
    dut = Log2(25)
    assert Log2.LATENCY == latency
    rng = random.Random(1)
    values = edges(25, 6, 64) + [rng.randrange(1 << rng.randrange(7, 26)) | 64 for _ in range(2000)]
    got = pipeline(dut, dut.i, [dut.o], values, latency)
    assert got == [(arith.softmax_log2_sum(v),) for v in values]


def test_log2_known():
    dut = Log2(25)
    # log2 of 1, 2, 197 keys
    got = pipeline(dut, dut.i, [dut.o], [1 << 16, 2 << 16, 197 << 16], Log2.LATENCY)
    assert [g[0] for g in got] == [0, 16, 122]


@pytest.mark.parametrize("latency", [3])
def test_row_factor(latency):
    dut = RowFactor(24)
    assert RowFactor.LATENCY == latency
    rng = random.Random(2)
    values = list(range(4096)) + edges(24, 8, 0) + [rng.randrange(1 << rng.randrange(1, 25)) for _ in range(2000)]
    got = pipeline(dut, dut.w, [dut.mant, dut.p], values, latency)
    assert got == [arith.row_factor(v) for v in values]
    assert arith.row_factor(0) == (128, 0) and arith.row_factor(1 << 20) == (255, 20)


class DecodeCode(wiring.Component):
    """``decode_code`` with ports."""

    code: In(4)
    rule: In(1)
    zero: Out(1)
    three: Out(1)
    exponent: Out(4)

    def elaborate(self, platform):
        m = Module()
        zero, three, exponent = decode_code(self.code, self.rule)
        assert len(exponent) <= 4
        m.d.comb += [self.zero.eq(zero), self.three.eq(three), self.exponent.eq(exponent)]
        return m


def test_decode_code_exhaustive():
    dut = DecodeCode()

    async def bench(ctx):
        for r in (0, 1):
            for q in range(16):
                ctx.set(dut.code, q)
                ctx.set(dut.rule, r)
                weight = 0 if ctx.get(dut.zero) else (3 if ctx.get(dut.three) else 1) << ctx.get(dut.exponent)
                assert weight == arith.code_weight(q, r)
                sim.sample(ctx)

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()
