"""Properties of the host side, proved by induction or for a number of cycles (docs/formal.md)."""

import pytest
from amaranth.hdl import Assert

from vitforge_sim.formal.properties import ALL, Dog, JobCounters, LiteSlave
from vitforge_sim.formal.prove import Refuted, prove

#: bounded searches that take longer than some ten seconds
SLOW = {"ReadBursts", "Jobs", "Reads", "Writes"}


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


@pytest.mark.parametrize("kind", [NeverAnswers, SpeaksLate, SkipsAJob], ids=lambda k: k.__name__)
def test_a_wrong_property_is_refuted(kind):
    p = kind()
    with pytest.raises(Refuted, match="Assert failed"):
        prove(p, p.ports, p.depth, induction=False)
