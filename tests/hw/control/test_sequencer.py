"""A sequencer with its program memory: waits, order of rows, counters over images."""

import pytest
from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.control.program import ProgramMemory
from vitforge_hw.control.sequencer import Sequencer
from vitforge_hw.interfaces import ChunkControl, WeightWrite
from vitforge_sim.replay import Simulator

CONFIG = get_config("tiny")
CHUNK = isa.Chunk.LOADER


class Bench(wiring.Component):
    def __init__(self):
        super().__init__(
            {
                "write": In(WeightWrite(CONFIG.beat_bytes * 8, 1)),
                "ctl": Out(ChunkControl(CHUNK)),
                "count": In(16),
                "submitted": In(16),
                "run": In(1),
                "others": In(32),
                "counter": Out(32),
                "image_end": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = ProgramMemory(CONFIG)
        m.submodules.dut = dut = Sequencer(CHUNK)
        wiring.connect(m, wiring.flipped(self.write), memory.write)
        wiring.connect(m, dut.fetch, getattr(memory, f"fetch{int(CHUNK)}"))
        wiring.connect(m, dut.ctl, wiring.flipped(self.ctl))
        counters = [self.others if c != CHUNK else dut.counter for c in isa.Chunk]
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


PROGRAM = [
    isa.Instruction(CHUNK, 3, {"in_addr": 7, "weight_addr": 9}, (isa.Wait(isa.Chunk.MAT, 2, 1, 0, 0, 2),)),
    isa.Instruction(CHUNK, 2, {"in_addr": 65535, "blocks": 63}),
    isa.Instruction(
        CHUNK,
        4,
        {"in_stride": 4095},
        (isa.Wait(isa.Chunk.MAT, -65536 + 5), isa.Wait(isa.Chunk.SOFTMAX, 1, 3, -2, 1), isa.Wait(isa.Chunk.MAT, 5)),
    ),
]


@pytest.mark.parametrize("images", [1, 3])
def test_program_runs_image_after_image(images):
    """Every op and row in order; no row starts before its thresholds; the counter jumps at the image's end."""
    dut = Bench()
    log = []

    async def bench(ctx):
        for i, instruction in enumerate(PROGRAM):
            word = instruction.encode()
            for b in range(CONFIG.instruction_beats):
                ctx.set(dut.write.addr, (i + 1) * CONFIG.instruction_beats + b)
                ctx.set(dut.write.data, word >> b * CONFIG.beat_bytes * 8 & (1 << CONFIG.beat_bytes * 8) - 1)
                ctx.set(dut.write.mask, 1)
                ctx.set(dut.write.valid, 1)
                await ctx.tick()
        ctx.set(dut.write.valid, 0)
        ctx.set(dut.count, len(PROGRAM))
        ctx.set(dut.run, 1)
        ctx.set(dut.submitted, images)
        ctx.set(dut.ctl.op.ready, 1)
        ctx.set(dut.ctl.go.ready, 1)
        others, ends, rows = 0, 0, 0
        for cycle in range(4000):
            if cycle % 37 == 36:
                others = others + 1 if others & 0xFFFF < 7 else (others | 0xFFFF) + 1
                ctx.set(dut.others, others)
            if ctx.get(dut.ctl.op.valid):
                op = ctx.get(dut.ctl.op.payload)
                log.append(("op", {f.name: getattr(op, f.name) for f in isa.OP_FIELDS[CHUNK]}, op.rows))
                rows = 0
            if ctx.get(dut.ctl.go.valid):
                image, n = divmod(ends, 1)[0], len([e for e in log if e[0] == "op"]) - 1
                instruction = PROGRAM[n % len(PROGRAM)]
                for w in instruction.waits:
                    assert others >= (image << 16) + w.threshold(rows), (n, rows)
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
    want = [({f.name: i.op.get(f.name, 0) for f in isa.OP_FIELDS[CHUNK]}, i.rows) for i in PROGRAM] * images
    assert [(o[1], o[2]) for o in ops] == want
    assert len([e for e in log if e[0] == "go"]) == images * sum(i.rows for i in PROGRAM)
