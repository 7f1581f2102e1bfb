"""Products in LUTs against plain products."""

import itertools
import random

import pytest
from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.units.booth import multiply
from vitforge_sim.bench.replay import Simulator

SMALL = [(a, b, n) for a in (signed(5), unsigned(5)) for b in (signed(5), unsigned(4)) for n in (0, 2)]
USED = [
    (unsigned(12), signed(12), 2),  # Hardswish
    (signed(32), unsigned(8), 2),  # row factor
    (signed(12), unsigned(8), 1), (signed(12), signed(12), 1), (signed(24), signed(24), 2),  # LayerNorm
    (unsigned(34), unsigned(8), 2), (unsigned(24), unsigned(18), 2), (unsigned(18), unsigned(12), 2),
    (unsigned(24), unsigned(18), 3, 2),  # LayerNorm's root
    (unsigned(13), unsigned(3), 0), (unsigned(7), unsigned(7), 1),  # waits, divisors
]  # fmt: skip


class Products(wiring.Component):
    """``multiply`` of each of ``cases`` (shapes of a and b, cycles, adders in the first), with a register behind."""

    def __init__(self, cases):
        self.cases = cases
        ports = {}
        for i, (a, b, *_) in enumerate(cases):
            ports |= {f"a{i}": In(a), f"b{i}": In(b), f"p{i}": Out(signed(a.width + b.width + 2))}
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        for i, (_, _, cycles, *first) in enumerate(self.cases):
            a, b, p = (getattr(self, f"{name}{i}") for name in "abp")
            m.d.sync += p.eq(multiply(m, a, b, cycles, f"product{i}_", *first))
        return m


def span(shape):
    return range(-(1 << shape.width - 1), 1 << shape.width - 1) if shape.signed else range(1 << shape.width)


def check(cases, pairs):
    """Each case's products of its ``pairs``, one a cycle."""
    dut = Products(cases)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    out = [[] for _ in cases]

    async def bench(ctx):
        for cycle in range(max(map(len, pairs)) + 4):
            for i, todo in enumerate(pairs):
                x, y = todo[min(cycle, len(todo) - 1)]
                ctx.set(getattr(dut, f"a{i}"), x)
                ctx.set(getattr(dut, f"b{i}"), y)
                out[i].append(ctx.get(getattr(dut, f"p{i}")))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    for (a, b, cycles, *_), todo, found in zip(cases, pairs, out, strict=True):
        found = found[cycles + 1 :][: len(todo)]
        wrong = [(x, y, p) for (x, y), p in zip(todo, found, strict=True) if p != x * y]
        assert not wrong, f"{a} * {b}, {cycles} cycles: {wrong[:3]}"


def test_every_product():
    check(SMALL, [list(itertools.product(span(a), span(b))) for a, b, _ in SMALL])


def test_extremes():
    """All pairs of extremes, numbers next to powers of two with each other, random ones."""
    rng = random.Random(1)

    def near(shape):
        """Numbers next to powers of two."""
        numbers = {sign * (1 << n) + d for n in range(shape.width + 1) for d in (-1, 0, 1) for sign in (-1, 1)}
        return sorted(v for v in numbers if v in span(shape))

    def pairs(a, b):
        special = near(a), near(b)
        ends = itertools.product((span(a)[0], span(a)[-1], 0, 1), (span(b)[0], span(b)[-1], 0, 1))
        chosen = [tuple(map(rng.choice, special)) for _ in range(60)]
        return [*ends, *chosen, *((rng.choice(span(a)), rng.choice(span(b))) for _ in range(60))]

    check(USED, [pairs(a, b) for a, b, *_ in USED])


def test_too_few_adders_in_the_first_cycle_are_refused():
    with pytest.raises(ValueError, match="p: 1 adders in the first cycle leave too many"):
        multiply(Module(), Signal(signed(8)), Signal(signed(8)), 2, "p", first=1)
