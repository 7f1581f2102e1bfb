"""R-MAC's multiplier cell and adder tree: both accumulations, shadow copy, extremes, gaps."""

import itertools
import random

import pytest

from vitforge_hw.units.adder_tree import AdderTree
from vitforge_hw.units.rmac_cell import LATENCY, OWN_LATENCY, RMacCell, own_widths
from vitforge_sim.bench.replay import Simulator

BYTES = (-128, -127, -1, 0, 1, 127)
WEIGHTS = (-127, -1, 0, 1, 127)
FORWARD, DEPTHWISE, OUTER = range(3)


def packed(values):
    return sum((v & 255) << 8 * i for i, v in enumerate(values))


def drive(width, steps, runs, seed):
    """Runs of steps (kind, [operands]); the sums of each run, own ones from the shadow copy while the next run goes on.

    Down-forward steps and those of self-accumulation lie LATENCY cycles apart, as the cell asks for.
    """
    rng = random.Random(seed)
    dut = RMacCell(width, steps)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    got, load_at, forward_at = {}, {}, {}

    async def bench(ctx):
        queue = [
            (n, kind, s, i == 0, i == len(steps) - 1)
            for n, (kind, steps) in enumerate(runs)
            for i, s in enumerate(steps)
        ]
        shifting, run, cycle, leaving, busy, fed = 0, None, 0, [None, None], (0, None), []
        behind = {}  # a step's operands come a cycle after its multiplexers' settings
        quiet = 0
        while queue or quiet < 60:
            quiet = 0 if queue else quiet + 1
            if cycle in forward_at:
                got[forward_at.pop(cycle)] = [ctx.get(dut.acc0), ctx.get(dut.acc1)]
            if leaving[1] is not None:  # the shadow copy's element 0 of the cycle before
                got.setdefault(leaving[1], [[], []])
                got[leaving[1]][0].append(ctx.get(dut.shadow0))
                got[leaving[1]][1].append(ctx.get(dut.shadow1))
            leaving = [run if shifting else None, leaving[0]]
            ctx.set(dut.shift, int(shifting > 0))
            shifting = max(shifting - 1, 0)
            ctx.set(dut.load, int(cycle in load_at))
            if cycle in load_at:
                run, shifting = load_at.pop(cycle), width
            for name, value in ({"valid": 0, "own": 0} | behind).items():
                ctx.set(getattr(dut, name), value)
            behind = {}
            other = queue and busy[1] is not None and (queue[0][1] == FORWARD) != (busy[1] == FORWARD)
            if queue and rng.random() < 0.8 and not (other and cycle < busy[0] + LATENCY):
                n, kind, step, first, last = queue.pop(0)
                busy = cycle, kind
                behind = {"valid": int(kind == FORWARD), "own": int(kind != FORWARD), "first": int(first)}
                if last and kind == FORWARD:
                    forward_at[cycle + 1 + LATENCY] = n
                elif last:
                    load_at[cycle + OWN_LATENCY] = n
            else:
                # wild operands; what is on its way keeps its kind's multiplexers
                kind, step = busy[1] if busy[1] is not None else rng.randrange(3), rng.choice(runs)[1][0]
            fed = [step, *fed][:8]
            ctx.set(dut.depthwise, int(kind == DEPTHWISE))
            ctx.set(dut.outer, int(kind == OUTER))
            for name, value in step.items():
                if name in ("x0", "x1", "wx"):  # byte i comes i % 8 cycles late
                    value = [fed[min(i % 8, len(fed) - 1)][name][i] for i in range(width)]
                behind[name] = packed(value)
            await ctx.tick()
            cycle += 1

    sim.add_testbench(bench)
    sim.run()
    return [got[n] for n in range(len(runs))]


def wanted(width, kind, steps):
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


def operands(rng, width, values, weights):
    pick = lambda source, n=width: rng.choices(source, k=n)  # noqa: E731
    return dict(x0=pick(values), x1=pick(values), slots0=pick(values), slots1=pick(values), wx=pick(weights),
                ws=pick(weights), k=pick(values), v0=pick(weights, 1), v1=pick(weights, 1))  # fmt: skip


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums(width, extreme):
    """Runs of steps of one kind; every run's sums, the own ones from the shadow copy while the next run goes on."""
    rng = random.Random(width)
    values = list(BYTES) if extreme else list(range(-128, 128))
    weights = list(WEIGHTS) if extreme else list(range(-127, 128))
    runs = [
        (n % 3, [operands(rng, width, values, weights) for _ in range(width + rng.randrange(20))]) for n in range(24)
    ]
    assert drive(width, 49, runs, width) == [wanted(width, *run) for run in runs]


def test_shadow_copy_waits():
    """Own sums stay in the shadow copy, whenever they are taken out one by one."""
    width, rng = 8, random.Random(3)
    dut = RMacCell(width, 64)
    runs = [[operands(rng, width, BYTES, WEIGHTS) for _ in range(9)] for _ in range(12)]
    sim, got = Simulator(dut), []

    async def bench(ctx):
        ctx.set(dut.depthwise, 1)
        await ctx.tick()
        for steps in runs:
            for n, step in enumerate(steps):
                for name in ("slots0", "slots1", "ws"):
                    ctx.set(getattr(dut, name), packed(step[name]))
                ctx.set(dut.own, 1)
                ctx.set(dut.first, n == 0)
                await ctx.tick()
            ctx.set(dut.own, 0)
            await ctx.tick().repeat(OWN_LATENCY - 2)
            ctx.set(dut.load, 1)
            await ctx.tick()
            ctx.set(dut.load, 0)
            fields = [], []
            for _ in range(width):
                await ctx.tick().repeat(2 + rng.randrange(4))
                for field, shadow in zip(fields, (dut.shadow0, dut.shadow1), strict=True):
                    field.append(ctx.get(shadow))
                ctx.set(dut.shift, 1)
                await ctx.tick()
                ctx.set(dut.shift, 0)
            got.append([*fields])

    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert got == [wanted(width, DEPTHWISE, steps) for steps in runs]


@pytest.mark.parametrize("kind", [DEPTHWISE, OUTER])
@pytest.mark.parametrize("steps", [9, 25, 49, 64, 128, 256])
def test_longest_own_sums(steps, kind):
    """Sums of 3 x 3, 5 x 5 and 7 x 7 taps and of the longest K^T V maps, all steps at an extreme, one way in both
    fields and against each other, and mixed runs of the extremes: every wrap of the lower field is counted."""
    rng = random.Random(steps)
    runs = []
    for low, high, w in itertools.product((-128, 127), (-128, 127), (-127, 127)):
        step = dict(x0=[0] * 8, x1=[0] * 8, slots0=[low] * 8, slots1=[high] * 8, wx=[0] * 8, ws=[w] * 8,
                    k=[abs(w)] * 8, v0=[max(low, -127)], v1=[max(high, -127)])  # fmt: skip
        runs.append((kind, [step] * steps))
    for _ in range(4):  # long stretches of one extreme after the other
        runs.append((kind, [s for _ in range(4) for s in [operands(rng, 8, BYTES, WEIGHTS)] * (steps // 4)]))
    assert drive(8, max(steps, 49), runs, 1) == [wanted(8, *run) for run in runs]


def test_counters_are_as_wide_as_needed():
    """The bound is reached: one bit less would not hold the wraps of the longest sum."""
    assert [own_widths(steps) for steps in (49, 64, 128, 256)] == [(3, 21), (4, 21), (5, 22), (6, 23)]


@pytest.mark.parametrize("inputs", [4, 8])
def test_adder_tree(inputs):
    rng, bits = random.Random(inputs), 27
    values = [*range(-(1 << 20), 1 << 20, 99), *[(1 << 20) - 1] * 9999, *[-1 << 20] * 9999]
    steps = [
        (rng.choices(values, k=inputs), rng.random() < 0.7, n == 0 or rng.random() < 0.3)
        for n in range(200)
    ]
    dut = AdderTree(inputs, 21, bits)
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
    (lambda: RMacCell(12, 49), "R-MAC cell: width must be a multiple of 8, not 12"),
    (lambda: AdderTree(6, 27), "adder tree: inputs must be a power of two, not 6"),
])  # fmt: skip
def test_sizes_are_checked(make, text):
    with pytest.raises(ValueError, match=text):
        make()
