"""A component that starts once: its second run is as the first, and nothing of the first takes part in it."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_sim.bench import reuse
from vitforge_sim.bench.replay import Simulator


class Sum(wiring.Component):
    """Adds up ``step``."""

    def __init__(self, first: int):
        self._first = first
        super().__init__({"step": In(8), "total": Out(8, init=first)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.total.eq(self.total + self.step)
        return m


def run(dut, steps) -> list[int]:
    simulator, seen = Simulator(dut, simulators=()), []
    simulator.add_clock(1e-6)

    async def process(ctx):
        for step in steps:
            ctx.set(dut.step, step)
            await ctx.tick()

    async def bench(ctx):
        for _ in range(6):
            _, _, total = await ctx.tick().sample(dut.total)
            seen.append(total)

    simulator.add_process(process)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def test_runs_are_as_of_a_new_one():
    for steps in ([1, 2, 3, 4, 5, 6, 7, 8], [3], [1, 2, 3, 4, 5, 6, 7, 8]):
        assert run(reuse.reused(Sum, 5), steps) == run(Sum(5), steps)


def test_the_last_few_are_kept():
    first = reuse.reused(Sum, 0)
    run(first, [1])
    assert reuse.reused(Sum, 0) is first and reuse.started(first)
    for n in range(1, reuse.KEPT + 1):
        reuse.reused(Sum, n)
    assert reuse.started(first) is None and reuse.reused(Sum, 0) is not first
