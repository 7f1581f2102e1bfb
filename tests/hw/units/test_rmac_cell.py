"""R-MAC's multiplier cell and adder tree: both accumulations, shadow copy, extremes, gaps."""

import random

import pytest

from vitforge_hw.units.adder_tree import AdderTree
from vitforge_hw.units.rmac_cell import LATENCY, OWN_LATENCY, RMacCell
from vitforge_sim.bench.replay import Simulator

BYTES = (-128, -127, -1, 0, 1, 127)
WEIGHTS = (-127, -1, 0, 1, 127)
FORWARD, DEPTHWISE, OUTER = range(3)


def packed(values):
    return sum((v & 255) << 8 * i for i, v in enumerate(values))


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums(width, extreme):
    """Runs of steps of one kind; every run's sums, the own ones from the shadow copy while the next run goes on."""
    rng = random.Random(width)
    values = list(BYTES) if extreme else list(range(-128, 128))
    weights = list(WEIGHTS) if extreme else list(range(-127, 128))
    pick = lambda source, n=width: rng.choices(source, k=n)  # noqa: E731
    runs = []
    for n in range(24):
        kind = n % 3
        steps = []
        for _ in range(width + rng.randrange(20)):
            steps.append(
                dict(x0=pick(values), x1=pick(values), slots0=pick(values), slots1=pick(values), wx=pick(weights),
                     ws=pick(weights), k=pick(values), v0=pick(weights, 1), v1=pick(weights, 1))
            )  # fmt: skip
        runs.append((kind, steps))
    dut = RMacCell(width)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    got, load_at, forward_at, cycle = {}, {}, {}, 0

    def want(kind, steps):
        a, w = {FORWARD: ("x", "wx"), DEPTHWISE: ("slots", "ws"), OUTER: ("v", "k")}[kind]
        out = []
        for field in "01":
            own = [0] * width
            for s in steps:
                for i in range(width):
                    left = s[a + field][0 if kind == OUTER else i]
                    right = max(s[w][i], 0) if kind == OUTER else s[w][i]
                    own[i] += left * right
            out.append(sum(own) if kind == FORWARD else own)
        return out

    async def bench(ctx):
        nonlocal cycle
        queue = [
            (n, kind, s, i == 0, i == len(steps) - 1)
            for n, (kind, steps) in enumerate(runs)
            for i, s in enumerate(steps)
        ]
        shifting, run = 0, None
        for _ in range(len(queue) * 2 + 60):
            if cycle in forward_at:
                got[forward_at.pop(cycle)] = [ctx.get(dut.acc0), ctx.get(dut.acc1)]
            if shifting:
                got.setdefault(run, [[], []])
                got[run][0].append(ctx.get(dut.shadow0))
                got[run][1].append(ctx.get(dut.shadow1))
            ctx.set(dut.shift, int(shifting > 0))
            shifting = max(shifting - 1, 0)
            ctx.set(dut.load, int(cycle in load_at))
            if cycle in load_at:
                run, shifting = load_at.pop(cycle), width
            ctx.set(dut.valid, 0)
            ctx.set(dut.own, 0)
            if queue and rng.random() < 0.8:
                n, kind, step, first, last = queue.pop(0)
                ctx.set(dut.valid, int(kind == FORWARD))
                ctx.set(dut.own, int(kind != FORWARD))
                ctx.set(dut.first, int(first))
                if last and kind == FORWARD:
                    forward_at[cycle + LATENCY] = n
                elif last:
                    load_at[cycle + OWN_LATENCY] = n
            else:
                kind, step = rng.randrange(3), rng.choice(runs)[1][0]
            ctx.set(dut.depthwise, int(kind == DEPTHWISE))
            ctx.set(dut.outer, int(kind == OUTER))
            for name, value in step.items():
                ctx.set(getattr(dut, name), packed(value))
            await ctx.tick()
            cycle += 1

    sim.add_testbench(bench)
    sim.run()
    assert [got[n] for n in range(len(runs))] == [want(*run) for run in runs]


@pytest.mark.parametrize("inputs", [4, 8])
def test_adder_tree(inputs):
    rng, bits = random.Random(inputs), 27
    steps = [
        (rng.choices(range(-(1 << 20), 1 << 20), k=inputs), rng.random() < 0.7, n == 0 or rng.random() < 0.3)
        for n in range(200)
    ]
    dut = AdderTree(inputs, bits)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    out = []

    async def bench(ctx):
        for x, valid, first in steps + [([0] * inputs, 0, 0)] * AdderTree.latency(inputs):
            out.append(ctx.get(dut.total))
            for n, value in enumerate(x):
                ctx.set(dut.x[n], value)
            ctx.set(dut.valid, int(valid))
            ctx.set(dut.first, int(first))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    total = None
    for n, (x, valid, first) in enumerate(steps):
        if valid:
            total = sum(x) if first else None if total is None else total + sum(x)
        if total is not None:
            assert out[n + AdderTree.latency(inputs)] == total


@pytest.mark.parametrize("make, text", [
    (lambda: RMacCell(12), "R-MAC cell: width must be a multiple of 8, not 12"),
    (lambda: AdderTree(6, 27), "adder tree: inputs must be a power of two, not 6"),
])  # fmt: skip
def test_sizes_are_checked(make, text):
    with pytest.raises(ValueError, match=text):
        make()
