"""Products in LUTs against plain products."""

import itertools
import random

import pytest
from amaranth import Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.units.booth import multiply
from vitforge_sim.bench.replay import Simulator


class Product(wiring.Component):
    """``multiply`` with ports."""

    def __init__(self, a, b, cycles):
        self.cycles, self.shapes = cycles, f"{a} {b}"  # the bench keeps units apart by what they hold
        super().__init__({"a": In(a), "b": In(b), "p": Out(signed(a.width + b.width + 2))})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.p.eq(multiply(m, self.a, self.b, self.cycles, "product"))
        return m


def span(shape):
    return range(-(1 << shape.width - 1), 1 << shape.width - 1) if shape.signed else range(1 << shape.width)


def products(a, b, cycles, pairs):
    """What the unit gives for each pair, ``cycles`` and one more later."""
    dut = Product(a, b, cycles)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    out = []

    async def bench(ctx):
        for x, y in [*pairs, *[(0, 0)] * (cycles + 1)]:
            ctx.set(dut.a, x)
            ctx.set(dut.b, y)
            out.append(ctx.get(dut.p))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return out[cycles + 1 :]


@pytest.mark.parametrize("cycles", [0, 1, 2])
@pytest.mark.parametrize("a, b", list(itertools.product((signed(5), unsigned(5)), (signed(5), unsigned(4)))))
def test_every_product(a, b, cycles):
    pairs = list(itertools.product(span(a), span(b)))
    assert products(a, b, cycles, pairs) == [x * y for x, y in pairs]


@pytest.mark.parametrize("a, b, cycles", [
    (unsigned(12), signed(12), 2),  # Hardswish
    (signed(32), unsigned(8), 2),  # row factor
    (signed(12), unsigned(8), 1), (signed(12), signed(12), 1), (signed(24), signed(24), 2),  # LayerNorm
    (unsigned(34), unsigned(8), 2), (unsigned(24), unsigned(18), 2), (unsigned(18), unsigned(12), 2),
    (unsigned(13), unsigned(3), 0), (unsigned(7), unsigned(7), 1),  # waits, divisors
])  # fmt: skip
def test_extremes(a, b, cycles):
    """All pairs of extremes and of numbers next to powers of two, then random ones."""
    rng = random.Random(1)

    def special(shape):
        near = {s * (1 << n) + d for n in range(shape.width + 1) for d in (-1, 0, 1) for s in (-1, 1)}
        return sorted(v for v in near if v in span(shape))

    pairs = list(itertools.product(special(a), special(b)))
    pairs += [(rng.choice(span(a)), rng.choice(span(b))) for _ in range(500)]
    assert products(a, b, cycles, pairs) == [x * y for x, y in pairs]
