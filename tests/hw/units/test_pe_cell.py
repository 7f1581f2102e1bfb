"""The multiplier cells, packed and not, against plain products."""

import itertools
import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.units import plain_cell
from vitforge_hw.units.packed import PACKED_BITS, TREE, pack
from vitforge_hw.units.pe_cell import LATENCY, PECell
from vitforge_hw.units.plain_cell import PlainCell
from vitforge_sim.bench.replay import Simulator

A = (-128, -127, -1, 0, 1, 127)
W = (-127, -126, -1, 0, 1, 127)


def packed(a0, a1):
    return (a1 << 18) + a0


def run(width, steps, gaps=False, cell=PECell):
    """Feeds (a0, a1, w, first) a cycle; returns (acc0, acc1) LATENCY cycles after each step, and checks it is held."""
    dut = cell(width)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    rng = random.Random(1)
    out = {}

    async def bench(ctx):
        due, cycle, todo, fed = {}, 0, list(enumerate(steps)), []
        while todo or due:
            if cycle in due:
                out[due.pop(cycle)] = (ctx.get(dut.acc0), ctx.get(dut.acc1))
            if todo and not (gaps and rng.random() < 0.4):
                number, (a0, a1, w, first) = todo.pop(0)
                due[cycle + LATENCY] = number
                ctx.set(dut.valid, 1)
            else:
                a0, a1, w, first = (rng.choices(A, k=width), rng.choices(A, k=width), rng.choices(W, k=width), 1)
                ctx.set(dut.valid, 0)
            fed = [(a0, a1, w), *fed][:TREE]
            late = [fed[min(i % TREE, len(fed) - 1)] for i in range(width)]  # input i comes i % 8 cycles late
            for i in range(width):
                a0, a1 = late[i][0][i], late[i][1][i]
                if cell is PECell:
                    ctx.set(dut.a[i], packed(a0, a1))
                else:
                    ctx.set(dut.a[i], a0)
                    ctx.set(dut.a[width + i], a1)
            ctx.set(dut.w, sum((late[i][2][i] & 255) << (8 * i) for i in range(width)))
            ctx.set(dut.first, first)
            await ctx.tick()
            cycle += 1

    sim.add_testbench(bench)
    sim.run()
    return [out[i] for i in range(len(steps))]


def expected(steps):
    acc, out = [0, 0], []
    for a0, a1, w, first in steps:
        for n, a in enumerate((a0, a1)):
            acc[n] = (0 if first else acc[n]) + sum(x * y for x, y in zip(a, w, strict=True))
        out.append(tuple(acc))
    return out


CELLS = pytest.mark.parametrize("cell", [PECell, PlainCell], ids=["packed", "plain"])


@CELLS
@pytest.mark.parametrize("width", [8, 16])
def test_extremes(width, cell):
    """Every combination of extreme operands on all inputs, and each alone among extreme neighbours."""
    steps = [([a0] * width, [a1] * width, [w] * width, 1) for a0, a1, w in itertools.product(A, A, W)]
    for i, (b0, b1) in itertools.product(range(width), itertools.product((-128, 127), repeat=2)):
        a0, a1, w = [-128] * width, [127] * width, [127] * width
        a0[i], a1[i], w[i] = b0, b1, -127
        steps.append((a0, a1, w, 1))
    assert run(width, steps, cell=cell) == expected(steps)


@CELLS
@pytest.mark.parametrize("gaps", [False, True])
def test_sums(gaps, cell):
    """Accumulation over several steps, random values; idle cycles with wild operands change nothing."""
    rng = random.Random(2)
    steps = [
        (*(rng.choices(range(lo, 128), k=16) for lo in (-128, -128, -127)), i == 0 or rng.random() < 0.2)
        for i in range(400)
    ]
    assert run(16, steps, gaps, cell) == expected(steps)


@CELLS
def test_longest_reduction(cell):
    """4128 products of the largest magnitude, the bound of AcceleratorConfig.max_k, fit the accumulators."""
    steps = [([-128] * 16, [127] * 16, [-127] * 16, i == 0) for i in range(258)]
    out = run(16, steps, cell=cell)
    assert out[-1] == (4128 * 128 * 127, -4128 * 127 * 127) == expected(steps)[-1]


class Pack(wiring.Component):
    """``pack`` with ports."""

    a0: In(8)
    a1: In(8)
    p: Out(PACKED_BITS)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.p.eq(pack(self.a0.as_signed(), self.a1.as_signed()))
        return m


def test_pack_exhaustive():
    dut = Pack()

    async def bench(ctx):
        for x, y in itertools.product(range(-128, 128), repeat=2):
            ctx.set(dut.a0, x & 255)
            ctx.set(dut.a1, y & 255)
            assert ctx.get(dut.p) == packed(x, y) % (1 << PACKED_BITS), (x, y)
            sim.sample(ctx)

    sim = Simulator(dut)
    sim.add_testbench(bench)
    sim.run()


def test_width_is_checked():
    with pytest.raises(ValueError, match="PE cell: width must be a multiple of 8, not 12"):
        PECell(12)
    with pytest.raises(ValueError, match="plain cell: width must be a multiple of 8, not 12"):
        PlainCell(12)
    assert plain_cell.LATENCY == LATENCY
