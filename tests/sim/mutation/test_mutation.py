"""Mutants of one block: Yosys makes as many as asked for, none is on by itself, a replay sees most of them."""

import json
import random
import re
from pathlib import Path

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch.config import get_config
from vitforge_hw.control.reset import ResetCopy
from vitforge_hw.emit import block, convert, emitting
from vitforge_hw.host.jobs import JobQueue
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.mutation import reasons
from vitforge_sim.mutation.equivalent import equivalent
from vitforge_sim.mutation.make import Mutation, mutate_block
from vitforge_sim.mutation.nearest import Nearest, recording

TINY = get_config("tiny")


class Queue(wiring.Component):
    """A job queue as one emitted block."""

    def __init__(self):
        super().__init__(JobQueue(TINY).signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = block(JobQueue(TINY), "vf_job_queue")
        wiring.connect(m, wiring.flipped(self), queue)
        return m


def test_mutants_of_the_job_queue():
    dut, rng, found = Queue(), random.Random(1), {}

    async def test(ctx):
        images = results = 0  # jobs that the image DMA, the result DMA have not finished
        for cycle in range(2000):
            pop_image, pop_result = images > 0 and rng.random() < 0.5, results > images and rng.random() < 0.4
            reset = cycle in (90, 1800)
            ctx.set(dut.push, rng.random() < 0.6)
            ctx.set(dut.image, rng.getrandbits(64))
            ctx.set(dut.result, rng.getrandbits(64))
            ctx.set(dut.pop_image, pop_image)
            ctx.set(dut.pop_result, pop_result)
            ctx.set(dut.reset, reset)
            pushed = ctx.get(dut.push) and not ctx.get(dut.full)
            images, results = images + pushed - pop_image, results + pushed - pop_result
            if reset:
                images = results = 0
            await ctx.tick()

    with recording(found):
        simulator = Simulator(dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(test)
        simulator.run()
    (unit, vectors), *_ = found["dut_queue"]
    assert len(vectors) == 2000
    text, mutations = mutate_block(unit.sources, "vf_job_queue", 40, 1)
    assert [m.number for m in mutations] == list(range(1, 41)) and len({m.command for m in mutations}) == 40
    killed = Nearest("vf_job_queue", unit.sources, found).judge(mutations, text)
    assert 0 not in killed and 20 <= len(killed) < 40, "upper bits of the counters never move here"
    seen = [m for m in mutations if m.number in killed][:2]
    assert not any(equivalent(unit.sources, m) for m in seen), "what a bench tells apart is not equivalent"
    clock = Mutation(0, "vf_job_queue", "-mode inv -module vf_job_queue -cell $procdff$1 -port CLK -portbit 0")
    assert not equivalent(unit.sources, clock), "the proofs have no clock edges"


class Unread(wiring.Component):
    """Two stages of registers; bit 1 of the second goes nowhere."""

    i: In(2)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        first, second = Signal(2, name="first"), Signal(2, name="second")
        m.d.sync += [first.eq(self.i), second.eq(first)]
        m.d.comb += self.o.eq(second[0])
        return m


def test_bits_that_nothing_reads():
    """They may change: in registers too; their neighbours may not."""
    with emitting() as modules:
        modules.add(Unread(), "vf_unread")
    sources = {f"{name}.v": text for name, text in modules.items()}
    _, mutations = mutate_block(sources, "vf_unread", 200, 1)
    registers = [m for m in mutations if "-mode inv" in m.command and "-port Q" in m.command]
    assert {bit for m in registers for bit in (0, 1) if f"-portbit {bit}" in m.command} == {0, 1}
    for mutation in registers:
        assert equivalent(sources, mutation) == ("-portbit 1" in mutation.command), mutation.what


def test_initial_values_stay():
    """Registers that are 1 at first are so with mutants at their outputs."""
    text, mutations = mutate_block({"vf_reset.v": convert(ResetCopy(), "vf_reset")}, "vf_reset", 40, 1)
    assert any(".Q[0]" in m.what for m in mutations)
    register = re.search(r"always @\(posedge \w+\)\s+(\w+) <=", text)[1]
    assert f"reg {register} = 1'h1;" in text


def test_reasons_of_survivors(tmp_path):
    """A survivor is explained by name; one without a reason is listed, a reason that nothing needs is refused."""
    path = tmp_path / "some.toml"
    path.write_text("""[[survivor]]\nblocks = ["vf_a*"]\nwhat = ["inv $x.A[3] (x[3])"]\nwhy = "bit 3 is never set"\n""")
    (reason,) = reasons.load(tmp_path)
    left = [("vf_ab", "inv $x.A[3] (x[3])"), ("vf_b", "inv $x.A[3] (x[3])")]
    assert reasons.explained([reason], left) == ({reason: left[:1]}, left[1:])
    with pytest.raises(ValueError, match="no survivor needs the reason 'bit 3 is never set'"):
        reasons.explained([reason], left[1:])
    path.write_text(path.read_text().replace("bit 3 is never set", " "))
    with pytest.raises(ValueError, match="some.toml: a survivor must have blocks, what and why"):
        reasons.load(tmp_path)
    reasons.load()


def test_every_survivor_of_the_last_run_is_explained():
    found = json.loads((Path(__file__).parents[3] / "docs" / "mutation.json").read_text())
    survivors = [(block, m["what"]) for block, entry in found.items() for m in entry["survivors"]]
    by_reason, without = reasons.explained(reasons.load(), survivors)
    assert not without and sum(map(len, by_reason.values())) == len(survivors)
    for name, entry in found.items():
        assert entry["mutants"] == entry["killed"] + entry["equivalent"] + len(entry["survivors"]), name
