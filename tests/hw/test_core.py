"""The core alone: programs of the DMA chunks wait for each other's rows and images, other chunks for theirs; rows of
the activation buffer written and read from outside."""

import random

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import Chunk, Instruction, Wait
from vitforge_hw.core import HOST_CHUNKS, Core
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.bench.reuse import reused

CONFIG = get_config("tiny_hybrid")
WEIGHT, IMAGE, RESULT = Chunk.WEIGHT_DMA, Chunk.IMAGE_DMA, Chunk.RESULT_DMA
#: whose rows of the same image a chunk waits for, and those of the image before
SAME = {IMAGE: (), WEIGHT: (IMAGE,), RESULT: (IMAGE, WEIGHT)}
BEFORE = {IMAGE: (WEIGHT, RESULT), WEIGHT: (RESULT,), RESULT: ()}
EMPTY = Chunk.RMAC  #: has no program: ends its images at once
WAITING = (Chunk.MAT, Chunk.SHIFTER, Chunk.LAYERNORM, Chunk.SOFTMAX, Chunk.LOADER)
ROWS = (2, 3, 1, 2)  #: of the instructions of each DMA chunk


def wait(rng, source: Chunk, rows: int, threshold: int) -> Wait:
    """A wait with random fields whose threshold before the last of so many rows is that one."""
    shape = dict(a=rng.randrange(8), b=rng.randrange(-128, 128), s=rng.choice((0, 0, 1, 3)))
    sloped = Wait(source, 0, **shape).threshold(rows - 1)
    cap = rng.choice((max(0, sloped - rng.randrange(1, 9)), rng.randrange(4096)))
    return Wait(source, threshold - Wait(source, 0, cap=cap, **shape).threshold(rows - 1), cap=cap, **shape)


def programs(rng) -> dict[Chunk, list[Instruction]]:
    total = sum(ROWS)

    def of_dma(chunk, rows):
        waits = [wait(rng, s, rows, rng.randint(1, total)) for s in SAME[chunk]]
        waits += [wait(rng, s, rows, rng.randint(1, total) - (1 << isa.IMAGE_SHIFT)) for s in BEFORE[chunk]]
        waits += [wait(rng, EMPTY, rows, (1 << isa.IMAGE_SHIFT) - rng.randrange(4))]
        rng.shuffle(waits)
        fields = {f.name: rng.randint(*f.range) for f in isa.OP_FIELDS[chunk]}
        return Instruction(chunk, rows, fields, tuple(waits))

    def of_other(chunk):
        """Waits that are met one after the other; then for itself, but for the shifter array, which waits for codes."""
        steps = sorted(rng.sample([(i << isa.IMAGE_SHIFT) + n for i in range(2) for n in range(1, total + 1)], 6))
        waits = [wait(rng, rng.choice((IMAGE, WEIGHT, RESULT)), 1, step) for step in steps]
        if chunk != Chunk.SHIFTER:
            waits[-1] = Wait(chunk, 1)
        return Instruction(chunk, 2, {}, tuple(waits))

    return {c: [of_dma(c, rows) for rows in ROWS] for c in SAME} | {c: [of_other(c)] for c in WAITING}


class Dma:
    """The other side of a DMA chunk: takes instructions and rows when it likes, checks what it is given."""

    def __init__(self, chunk: Chunk, port, program: list[Instruction], rng):
        self.chunk, self.port, self.program, self.rng = chunk, port, program, rng
        self.issued = self.rows = self.image = self.done = self.work = 0

    @property
    def counter(self) -> int:
        return (self.image << isa.IMAGE_SHIFT) + self.done

    def cycle(self, ctx, counters: dict[Chunk, int]):
        """Before the clock edge."""
        port, rng = self.port, self.rng
        ready, go = rng.random() < 0.7, rng.random() < 0.7
        ctx.set(port.op.ready, ready)
        ctx.set(port.go.ready, go)
        finish = self.work > 0 and rng.random() < 0.3
        ctx.set(port.done, finish)
        if ctx.get(port.go.valid) and go:
            instruction = self.program[(self.issued - 1) % len(self.program)]
            for w in instruction.waits:
                if w.src in counters:
                    assert counters[w.src] >= (self.image << isa.IMAGE_SHIFT) + w.threshold(self.rows), self.chunk
            self.rows += 1
            assert ctx.get(port.go.payload) == (self.rows == instruction.rows)
            self.work += 1
        if ctx.get(port.op.valid) and ready:
            op = self.program[self.issued % len(self.program)].encode() >> isa.WAITS * isa.WAIT_BITS
            assert ctx.get(port.op.payload.as_value()) == op
            self.issued, self.rows = self.issued + 1, 0
        self.work, self.done = self.work - finish, self.done + finish
        return finish


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_programs_wait_for_each_other(seed):
    rng, c = random.Random(seed), CONFIG
    dut, program = reused(Core, c), programs(random.Random(seed))
    dmas = {k: Dma(k, getattr(dut, HOST_CHUNKS[k]), program[k], rng) for k in SAME}
    content: dict[int, int] = {}

    async def load(ctx):
        at = 1
        for chunk in c.chunks:
            ctx.set(getattr(dut, f"{chunk.name.lower()}_start"), at)
            ctx.set(getattr(dut, f"{chunk.name.lower()}_count"), len(program.get(chunk, ())))
            for instruction in program.get(chunk, ()):
                for beat in range(c.instruction_beats):
                    ctx.set(dut.program.addr, at * c.instruction_beats + beat)
                    data = instruction.encode() >> 8 * c.beat_bytes * beat & (1 << 8 * c.beat_bytes) - 1
                    ctx.set(dut.program.data, data)
                    ctx.set(dut.program.mask, 1)
                    ctx.set(dut.program.valid, 1)
                    await ctx.tick()
                at += 1
        ctx.set(dut.program.valid, 0)

    async def chunks(ctx):
        await load(ctx)
        ctx.set(dut.run, 1)
        ctx.set(dut.submitted, 20)
        moved, cycle = False, 0
        while min(dma.image for dma in dmas.values()) < 3:
            cycle += 1
            assert cycle < 3000, "nobody waits for ever"
            counters = {k: dma.counter for k, dma in dmas.items()}
            busy, ends = ctx.get(dut.busy), ctx.get(dut.image_end)
            for k, dma in dmas.items():
                assert busy >> k & 1 == (dma.work > 0)
            assert ctx.get(dut.progress) or not moved
            finished = [dma.cycle(ctx, counters) for dma in dmas.values()]
            moved = any(finished)
            for k, dma in dmas.items():
                if ends >> k & 1:
                    dma.image, dma.done, moved = dma.image + 1, 0, True
            await ctx.tick()
        stall, idle = ctx.get(dut.stall), [ctx.get(dut.image_end) >> k & 1 for k in WAITING]
        assert all(stall >> k & 1 for k in WAITING if k != Chunk.SHIFTER) and not any(idle) and ctx.get(dut.active)
        assert ctx.get(dut.busy) >> Chunk.SHIFTER & 1, "all six waits of its first row are met"

    async def rows(ctx):
        """Random rows into the activation buffer, and back."""
        write, read = dut.image_wr, dut.result_rd
        ctx.set(write.mask, (1 << c.cores) - 1)
        for _ in range(60):
            addr, data = rng.randrange(c.act_rows), rng.getrandbits(8 * c.row_bytes)
            ctx.set(write.addr, addr)
            ctx.set(write.data, data)
            ctx.set(write.valid, 1)
            await ctx.tick().until(write.ready)
            ctx.set(write.valid, 0)
            content[addr] = data
            await ctx.tick().repeat(3)
            addr = rng.choice(list(content))
            ctx.set(read.addr, addr)
            ctx.set(read.valid, 1)
            await ctx.tick().until(read.ready)
            ctx.set(read.valid, 0)
            (got,) = await ctx.tick().sample(read.data).until(read.data_valid)
            assert got == content[addr]

    async def parameters(ctx):
        for _ in range(300):
            for port in (dut.weights, dut.params, dut.ln_params):
                ctx.set(port.addr, rng.getrandbits(9))
                ctx.set(port.data, rng.getrandbits(len(port.data)))
                ctx.set(port.mask, rng.getrandbits(len(port.mask)))
                ctx.set(port.valid, rng.random() < 0.5)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for process in (chunks, rows, parameters):
        simulator.add_testbench(process)
    simulator.run()
