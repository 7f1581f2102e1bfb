"""The replay proves what the benches rely on: the same Verilog passes, a wrong operator or a wrong record does not."""

import re

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_sim.bench.replay import BOTH, ReplayDiffers, Simulator, _valid_of, emitted, replay


class Sum(wiring.Component):
    """a + b + 3, one cycle later; ``big`` at once when a and b are."""

    a: In(8)
    b: In(8)
    total: Out(9)
    big: Out(1)

    def elaborate(self, platform):
        m = Module()
        three = Signal(4, init=3)  # never written: what reads it must run without an event
        m.d.sync += self.total.eq(self.a + self.b + three)
        with m.If((self.a >= 128) & (self.b >= 128)):
            m.d.comb += self.big.eq(1)
        return m


def record(simulators=()) -> tuple[Simulator, list[int]]:
    dut = Sum()
    sim = Simulator(dut, simulators=BOTH)

    async def bench(ctx):
        for i in range(200):
            ctx.set(dut.a, i * 37)
            ctx.set(dut.b, i * 101)
            await ctx.tick()

    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.simulators = simulators
    sim.run()
    ((_, _, _, log),) = sim._units
    return emitted(dut), log


def test_vectors_hold_every_port():
    unit, log = record(BOTH)
    assert unit.clocked and unit.inputs == (("a", 8), ("b", 8)) and unit.outputs == (("total", 9), ("big", 1))
    totals = [v >> 16 & 511 for v in log]
    assert len(log) == 200 and len(set(totals)) > 100
    for before, total, now in zip(log, totals[1:], log[1:], strict=False):
        assert total == (before & 255) + (before >> 8 & 255) + 3
        assert now >> 25 == (now & 255 >= 128 and now >> 8 & 255 >= 128)


@pytest.mark.parametrize("simulator", BOTH)
def test_wrong_operator(simulator):
    unit, log = record()
    place = rf"dut_sum in {simulator}, cycle (\d+), port total: Amaranth's simulator has (\w+), the Verilog (\w+)"
    with pytest.raises(ReplayDiffers, match=place) as caught:
        replay(unit, log, simulator, edit=lambda text: re.sub(r"(\ba\b.*?) \+ ", r"\1 - ", text, count=1))
    cycle, expected, got = re.search(place, str(caught.value)).groups()
    before = log[int(cycle) - 1]
    assert int(expected, 16) == (before & 255) + (before >> 8 & 255) + 3 != int(got, 16)


@pytest.mark.parametrize("simulator", BOTH)
def test_wrong_record(simulator):
    unit, log = record()
    log[150] ^= 1 << 25
    with pytest.raises(ReplayDiffers, match=rf"{simulator}, cycle 150, port big: Amaranth's simulator has"):
        replay(unit, log, simulator)
    log[150] ^= 1 << 25 | 1  # another input than was recorded
    with pytest.raises(ReplayDiffers, match=rf"{simulator}, cycle 15[01], port (total|big)"):
        replay(unit, log, simulator)


def test_unknown_values_are_differences():
    unit, log = record()
    with pytest.raises(
        ReplayDiffers, match=r"icarus, cycle 0, port total: Amaranth's simulator has 000, the Verilog xxx"
    ):
        replay(unit, log, "icarus", edit=lambda text: re.sub(r"(reg \[8:0\] total) = 9'h000", r"\1", text))


def test_payload_may_be_unknown_only_while_it_is_not_valid():
    outputs = dict.fromkeys(["o__valid", "o__payload", "axi__wvalid", "axi__wdata", "axi__awvalid", "axi__awlen"], 1)
    guards = {name: _valid_of(name, outputs) for name in [*outputs, "axi__bready", "total"]}
    assert {n: g for n, g in guards.items() if g} == {
        "o__payload": "o__valid",
        "axi__wdata": "axi__wvalid",
        "axi__awlen": "axi__awvalid",
    }


def test_unfinished_simulations_do_not_pass():
    unit, log = record()
    with pytest.raises(ReplayDiffers, match=r"dut_sum in icarus did not play 200 cycles"):
        replay(unit, log, "icarus", edit=lambda text: text.replace("endmodule", "initial $finish;\nendmodule"))


def test_nothing_recorded():
    sim = Simulator(Sum())
    with pytest.raises(AssertionError, match="Sum: nothing was recorded"):
        sim.run()
