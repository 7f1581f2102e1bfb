"""The program memory with a fetcher for every chunk: round robin, latency, every bit of every instruction."""

import random

from vitforge_hw.arch.config import get_config
from vitforge_hw.control.program import ProgramMemory
from vitforge_sim.bench.replay import Simulator

CONFIG = get_config("tiny")
BITS = 8 * CONFIG.beat_bytes
BEATS = CONFIG.instruction_beats
INSTRUCTIONS = CONFIG.program_rows // BEATS


def served(fetches: int):
    """The fetch that is done in each cycle, or None, told which are valid: each has a cycle in turn to begin."""
    owner = 0
    while True:
        if (yield None)[owner]:
            for _ in range(BEATS + 2):
                yield None
            yield owner
        owner = (owner + 1) % fetches


def test_fetches_in_turn():
    """Instructions are rewritten while others are fetched; a beat that is not valid or not chosen changes nothing."""
    dut, rng = ProgramMemory(CONFIG), random.Random(1)
    ports = [getattr(dut, f"fetch{int(chunk)}") for chunk in CONFIG.chunks]
    content, known = [0] * CONFIG.program_rows, [0, INSTRUCTIONS - 1]
    wanted: list[int | None] = [None] * len(ports)
    parts: list[list[int]] = [[] for _ in ports]
    done = [0] * len(ports)

    def write(ctx):
        """One beat, of an instruction that nobody fetches; or none."""
        index, beat, value = rng.choice(known), rng.randrange(BEATS), rng.getrandbits(BITS)
        valid, mask = rng.random() < 0.7, rng.random() < 0.7
        if index in wanted:
            valid = valid and not mask
        ctx.set(dut.write.valid, valid)
        ctx.set(dut.write.mask, mask)
        ctx.set(dut.write.addr, index * BEATS + beat)
        ctx.set(dut.write.data, value)
        if valid and mask:
            content[index * BEATS + beat] = value

    async def bench(ctx):
        model = served(len(ports))
        finished = next(model)
        for cycle in range(2000):
            rate = 0.9 if cycle % 700 < 350 else 0.02
            if rng.random() < 0.1:
                known.append(rng.randrange(INSTRUCTIONS))
            for i, port in enumerate(ports):
                if wanted[i] is None and rng.random() < rate:
                    wanted[i] = rng.choice(known)
                    ctx.set(port.index, wanted[i])
                ctx.set(port.valid, wanted[i] is not None)
            write(ctx)
            for port, got in zip(ports, parts, strict=True):
                if ctx.get(port.part):
                    got.append(ctx.get(port.data))
            assert [ctx.get(port.done) for port in ports] == [i == finished for i in range(len(ports))], cycle
            valid = [w is not None for w in wanted]
            if finished is not None:
                assert parts[finished] == content[wanted[finished] * BEATS : (wanted[finished] + 1) * BEATS]
                parts[finished] = []
                done[finished] += 1
                wanted[finished] = None
            await ctx.tick()
            finished = model.send(valid)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(done) > 10
