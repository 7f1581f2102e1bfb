"""Registered copies of a control: every bit, a cycle later."""

import random

import pytest

from vitforge_hw.units.copies import Copy
from vitforge_sim.bench.replay import Simulator


@pytest.mark.parametrize("bits", [4, pytest.param(7, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.slow)])
def test_copy(bits):
    """Random words, all zeros and all ones among them."""
    dut, rng = Copy(bits), random.Random(bits)
    words = [rng.choice((0, (1 << bits) - 1, rng.getrandbits(bits), rng.getrandbits(bits))) for _ in range(100)]
    sim = Simulator(dut, simulators=("icarus",))

    async def bench(ctx):
        for n, word in enumerate(words):
            ctx.set(dut.d, word)
            if n:
                assert ctx.get(dut.q) == words[n - 1]
            await ctx.tick()

    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
