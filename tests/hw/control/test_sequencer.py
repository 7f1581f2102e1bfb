"""A sequencer with its program memory: waits, order of rows, counters over images."""

import pytest
from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.latency import CYCLES
from vitforge_hw.control.program import ProgramMemory
from vitforge_hw.control.sequencer import Sequencer
from vitforge_hw.interfaces import ChunkControl, WeightWrite
from vitforge_sim.bench.replay import Simulator

CASES = {isa.Chunk.LOADER: get_config("tiny"), isa.Chunk.RMAC: get_config("trio")}


class Bench(wiring.Component):
    def __init__(self, chunk: isa.Chunk):
        self._chunk = chunk
        super().__init__(
            {
                "write": In(WeightWrite(CASES[chunk].beat_bytes * 8, 1)),
                "ctl": Out(ChunkControl(chunk)),
                "count": In(16),
                "submitted": In(16),
                "run": In(1),
                "others": In(32),
                "counter": Out(32),
                "image_end": Out(1),
            }
        )

    def elaborate(self, platform):
        m, chunk = Module(), self._chunk
        m.submodules.memory = memory = ProgramMemory(CASES[chunk])
        m.submodules.dut = dut = Sequencer(chunk, fetch_bits=CASES[chunk].beat_bytes * 8)
        wiring.connect(m, wiring.flipped(self.write), memory.write)
        wiring.connect(m, dut.fetch, getattr(memory, f"fetch{int(chunk)}"))
        wiring.connect(m, dut.ctl, wiring.flipped(self.ctl))
        # all different: a wait must look at its own source
        counters = [(self.others + int(c))[:32] if c != chunk else dut.counter for c in isa.Chunk]
        m.d.comb += [
            dut.counters.eq(Cat(*counters)),
            dut.start.eq(1),
            dut.count.eq(self.count),
            dut.run.eq(self.run),
            dut.submitted.eq(self.submitted),
            self.counter.eq(dut.counter),
            self.image_end.eq(dut.image_end),
        ]
        return m


LOADER, RMAC = isa.Chunk.LOADER, isa.Chunk.RMAC
PROGRAMS = {
    LOADER: [
        isa.Instruction(LOADER, 3, {"in_addr": 7, "weight_addr": 9}, (isa.Wait(isa.Chunk.MAT, 2, 1, 0, 0, 2),)),
        isa.Instruction(LOADER, 2, {"in_addr": 65535, "blocks": 63}),
        isa.Instruction(
            LOADER,
            4,
            {"in_stride": 4095},
            (isa.Wait(isa.Chunk.MAT, -65536 + 5), isa.Wait(RMAC, 9, 3, -2, 1), isa.Wait(isa.Chunk.MAT, 5)),
        ),
    ],
    RMAC: [  # both formats
        isa.Instruction(RMAC, 3, {"kind": 1, "pad": -3, "bank": 15}, (isa.Wait(isa.Chunk.RESULT_DMA, 9, 1, 0, 0, 2),)),
        isa.Instruction(RMAC, 2, {"kind": 0, "tiles": 1023, "divide": 1}),
        isa.Instruction(RMAC, 4, {"kind": 3, "dest": 1}, (isa.Wait(LOADER, 6, 3, -2, 1), isa.Wait(isa.Chunk.MAT, 5))),
    ],
}


async def load(ctx, dut, config, program):
    """The program into its memory; the sequencer runs, its chunk takes everything."""
    for i, instruction in enumerate(program):
        word = instruction.encode()
        for b in range(config.instruction_beats):
            ctx.set(dut.write.addr, (i + 1) * config.instruction_beats + b)
            ctx.set(dut.write.data, word >> b * config.beat_bytes * 8 & (1 << config.beat_bytes * 8) - 1)
            ctx.set(dut.write.mask, 1)
            ctx.set(dut.write.valid, 1)
            await ctx.tick()
    ctx.set(dut.write.valid, 0)
    ctx.set(dut.count, len(program))
    ctx.set(dut.run, 1)
    ctx.set(dut.ctl.op.ready, 1)
    ctx.set(dut.ctl.go.ready, 1)


@pytest.mark.parametrize("chunk", CASES, ids=lambda c: c.name.lower())
@pytest.mark.parametrize("images", [1, 3])
def test_program_runs_image_after_image(images, chunk):
    """Every op and row in order; no row starts before its thresholds; the counter jumps at the image's end."""
    config, program = CASES[chunk], PROGRAMS[chunk]
    dut = Bench(chunk)
    log = []

    async def bench(ctx):
        await load(ctx, dut, config, program)
        ctx.set(dut.submitted, images)
        others, ends, rows = 0, 0, 0
        for cycle in range(4000):
            if cycle % 37 == 36:
                others = others + 1 if others & 0xFFFF < 7 else (others | 0xFFFF) + 1
                ctx.set(dut.others, others)
            if ctx.get(dut.ctl.op.valid):
                log.append(("op", ctx.get(dut.ctl.op.payload.as_value())))
                rows = 0
            if ctx.get(dut.ctl.go.valid):
                image, n = divmod(ends, 1)[0], len([e for e in log if e[0] == "op"]) - 1
                instruction = program[n % len(program)]
                for w in instruction.waits:
                    assert others + w.src >= (image << 16) + w.threshold(rows), (n, rows)
                assert ctx.get(dut.ctl.go.payload) == (rows == instruction.rows - 1)
                rows += 1
                log.append(("go",))
                ctx.set(dut.ctl.done, 1)
            else:
                ctx.set(dut.ctl.done, 0)
            if ctx.get(dut.image_end):
                ends += 1
            await ctx.tick()
            assert ctx.get(dut.counter) >> 16 == ends
        assert ends == images

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    ops = [e for e in log if e[0] == "op"]
    want = [i.encode() >> isa.WAITS * isa.WAIT_BITS for i in program] * images  # rows and op, every bit
    assert [o[1] for o in ops] == want
    assert len([e for e in log if e[0] == "go"]) == images * sum(i.rows for i in program)


def test_latencies():
    """With satisfied waits: acceptance of an instruction -> its first row, row after row, the next one's fetch."""
    counts = (0, 1, 3, 6)
    program = [isa.Instruction(LOADER, 4, {"blocks": n}, (isa.Wait(isa.Chunk.MAT, 1),) * n) for n in counts]
    config, dut, ops, goes = CASES[LOADER], Bench(LOADER), [], []

    async def bench(ctx):
        await load(ctx, dut, config, program)
        ctx.set(dut.submitted, 1)
        ctx.set(dut.others, 1 << 20)
        for cycle in range(200):
            ops.extend([cycle] * ctx.get(dut.ctl.op.valid))
            goes.extend([cycle] * (go := ctx.get(dut.ctl.go.valid)))
            await ctx.tick()
            ctx.set(dut.ctl.done, go)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert len(ops) == len(counts) and len(goes) == 4 * len(counts)
    for i, n in enumerate(counts):
        rows = goes[4 * i : 4 * i + 4]
        assert rows[0] - ops[i] == CYCLES.issue_cycles + CYCLES.wait_cycles * n + 1
        assert {b - a for a, b in zip(rows, rows[1:])} == {CYCLES.wait_cycles * n + 2}
    assert ops[1] - ops[0] == CYCLES.issue_cycles + config.instruction_beats + CYCLES.fetch_cycles
