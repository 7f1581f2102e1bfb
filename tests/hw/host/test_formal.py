"""Properties of the host side, proved by induction or for a number of cycles (docs/formal.md)."""

import pytest
from amaranth import Signal
from amaranth.hdl import Assert, Assume

from vitforge_sim.formal.properties import ALL, Dog, JobCounters, LiteSlave, Waits
from vitforge_sim.formal.prove import Refuted, prove

#: bounded searches that take longer than some ten seconds
SLOW = {"ReadBursts", "Jobs", "Reads", "Writes", "Waits"}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow) if k.__name__ in SLOW else k for k in ALL],
    ids=lambda k: k.__name__,
)
def test_property(kind):
    p = kind()
    prove(p, p.ports, p.depth, p.induction)


class NeverAnswers(LiteSlave):
    """Wrong: a read is answered."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(~self.dut.bus.rvalid)
        return m


class SpeaksLate(Dog):
    """Wrong: the watchdog waits for its period, not for one cycle more."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(~self.dut.expired | (self.dut.period != 3))
        return m


class SkipsAJob(JobCounters):
    """Wrong: the count of jobs never has bit 1."""

    depth = 4

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(~self.dut.submitted[1])
        return m


class NeverStarts(Waits):
    """Wrong: no row starts that had a wait."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        waited = Signal()
        with m.If(self.dut.ctl.op.valid & self.dut.ctl.op.ready):
            m.d.sync += waited.eq(self._free["fetch_data"][0])
        m.d.comb += [Assume(self._free["fetch_data"][0]), Assert(~self.dut.ctl.go.valid | ~waited)]
        return m


@pytest.mark.parametrize("kind", [NeverAnswers, SpeaksLate, SkipsAJob, NeverStarts], ids=lambda k: k.__name__)
def test_a_wrong_property_is_refuted(kind):
    p = kind()
    with pytest.raises(Refuted, match="Assert failed in cycle"):
        prove(p, p.ports, p.depth, induction=False)
