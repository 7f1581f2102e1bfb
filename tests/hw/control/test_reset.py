"""A block's own copy of the reset: high from the start, then the domain's a cycle later."""

import random

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.control.reset import ResetCopy
from vitforge_hw.emit import block
from vitforge_sim.bench.replay import Simulator


class Restarted(wiring.Component):
    """The copy in a domain of the same clock whose reset is a port."""

    def __init__(self):
        super().__init__({"restart": In(1), "reset": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.restarted = domain = ClockDomain(local=True)
        m.submodules.copy = copy = DomainRenamer("restarted")(block(ResetCopy(), "vf_reset"))
        m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(self.restart), self.reset.eq(copy.reset)]
        return m


def test_a_cycle_behind_the_domain():
    dut, rng = Restarted(), random.Random(1)

    async def bench(ctx):
        want = 1
        for _ in range(200):
            restart = rng.random() < 0.3
            ctx.set(dut.restart, restart)
            assert ctx.get(dut.reset) == want
            await ctx.tick()
            want = restart

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
