"""Accumulators whose products are in LUTs, against plain sums."""

import itertools
import random

import pytest

from vitforge_hw.units.own_sums import OwnSums
from vitforge_hw.units.rmac_cell import OWN_LATENCY, own_widths
from vitforge_sim.bench.replay import Simulator


@pytest.mark.parametrize("steps", [9, 128])
def test_own_sums(steps):
    """Runs of the longest sums at their extremes and of random steps with gaps; each leaves while the next is made."""
    rng, width = random.Random(steps), 8
    dut = OwnSums(width, steps)
    runs = [[([x] * width, [w] * width)] * steps for x, w in itertools.product((-128, 127), (-127, 127))]
    for _ in range(4):
        length = rng.randrange(width, steps + 1)
        runs.append([tuple(rng.choices(range(-128 + n, 128), k=width) for n in (0, 1)) for _ in range(length)])
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    got, load_at = {}, {}

    async def bench(ctx):
        queue = [
            (n, s, i == 0, i == len(run) - 1)
            for n, run in enumerate(runs) for i, s in enumerate(run)
        ]  # fmt: skip
        left, run, leaving, quiet = 0, None, [None, None], 0
        for cycle in itertools.count():
            if leaving[1] is not None:
                got.setdefault(leaving[1], []).append(ctx.get(dut.shadow))
            leaving = [run if left else None, leaving[0]]
            ctx.set(dut.shift, int(left > 0))
            left = max(left - 1, 0)
            ctx.set(dut.load, int(cycle in load_at))
            if cycle in load_at:
                run, left = load_at.pop(cycle), width
            if queue and rng.random() < 0.8:
                n, (x, w), first, last = queue.pop(0)
                ctx.set(dut.own, 1)
                ctx.set(dut.first, int(first))
                if last:
                    load_at[cycle + OWN_LATENCY - 1] = n
            else:
                x, w = rng.choices(range(-128, 128), k=width), rng.choices(range(-127, 128), k=width)
                ctx.set(dut.own, 0)
                ctx.set(dut.first, rng.randrange(2))
                quiet += not queue
            for port, values in ((dut.slots, x), (dut.ws, w)):
                ctx.set(port, sum((v & 255) << 8 * i for i, v in enumerate(values)))
            if quiet > 3 * width:
                return
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    wanted = [[sum(x[i] * w[i] for x, w in run) for i in range(width)] for run in runs]
    assert [got[n] for n in range(len(runs))] == wanted
    bits = own_widths(steps)[1]
    assert max(max(map(abs, sums)) for sums in wanted) >> bits - 2  # the width is needed
