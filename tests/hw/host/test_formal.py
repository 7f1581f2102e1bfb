"""Properties of the host side, proved by induction or for a number of cycles (docs/formal.md)."""

import pytest
from amaranth import Signal
from amaranth.hdl import Assert, Assume

from vitforge_sim.formal.properties import ALL, Dog, JobCounters, LiteSlave, Reads, TwoEntries, Waits, WriteBursts
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


class NeverFull(TwoEntries):
    """Wrong: the queue of two always takes one more."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(self.dut.w_rdy)
        return m


class NeverBursts(WriteBursts):
    """Wrong: the result DMA offers no burst."""

    depth = 16

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(~self.dut.burst.valid)
        return m


class NeverDelivers(Reads):
    """Wrong: no beat leaves the read master."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += Assert(~self.dut.beat1.valid)
        return m


class Contradicts(Dog):
    """Assumes what cannot be."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += [Assume(self.dut.active), Assume(~self.dut.active)]
        return m


def test_assumptions_that_contradict_each_other_prove_nothing():
    p = Contradicts()
    with pytest.raises(Refuted, match="contradict"):
        prove(p, p.ports, p.depth, p.induction)


WRONG = [NeverAnswers, SpeaksLate, SkipsAJob, NeverStarts, NeverFull, NeverBursts, NeverDelivers]


@pytest.mark.parametrize("kind", WRONG, ids=lambda k: k.__name__)
def test_a_wrong_property_is_refuted(kind):
    p = kind()
    with pytest.raises(Refuted, match="Assert failed in cycle"):
        prove(p, p.ports, p.depth, induction=False)
