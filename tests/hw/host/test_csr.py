"""Registers, job queue, boot and soft reset, through the AXI4-Lite port."""

import dataclasses
import random

import pytest

from vitforge_hw.arch import isa, registers
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.config import get_config
from vitforge_hw.host.jobs import JobQueue
from vitforge_hw.host.register_file import writable_mask
from vitforge_sim.bench.host_bench import DRAM, IMAGE, INSTRUCTIONS, JOB, HostBench
from vitforge_sim.bench.replay import Simulator

TINY = get_config("tiny")


def run(test, config=TINY, **settings):
    bench = HostBench(config, **settings)
    bench.run(test)
    return bench


@pytest.mark.parametrize("preset", ["tiny", pytest.param("p2vit", marks=pytest.mark.slow)])
def test_every_declared_register(preset):
    """Read-only registers keep their values, read-write ones their bits, byte strobes count, gaps read 0."""
    config = get_config(preset)

    async def test(bench):
        values = {
            "id": registers.IDENT,
            "version": registers.VERSION,
            "config_hash": config.hash,
            "capabilities": config.cores | config.word << 8 | config.masters << 16 | config.job_depth << 20,
            "job_free": config.job_depth,
            "build_hash": build_hash(config),
        }
        for name, register in registers.REGISTERS.items():
            if name == "control":
                continue
            if register.access == "rw":
                assert await bench.read(name) == registers.reset_value(name, config), name
                value = bench.rng.getrandbits(32)
                await bench.write(name, value)
                assert await bench.read(name) == value & writable_mask(register), name
                for strobe in (1, 2, 4, 8, 10):
                    new = bench.rng.getrandbits(32)
                    await bench.lite.write(register.offset, new, strobe)
                    mask = sum(255 << 8 * i for i in range(4) if strobe >> i & 1)
                    value = (value & ~mask) | (new & mask)
                    assert await bench.read(name) == value & writable_mask(register), name
            elif register.access in ("ro", "w1c"):
                await bench.write(name, 0xFFFFFFFF)
                assert await bench.read(name) == values.get(name, 0), name
        declared = {r.offset for r in registers.REGISTERS.values()}
        for offset in (0x5C, 0x94, 0x100, 0x1FC, 0x2F8, 0x300, 0x604, 0xA00, 0xFFC):
            assert offset not in declared
            await bench.lite.write(offset, 0xFFFFFFFF)
            assert await bench.lite.read(offset) == 0

    run(test, config)


def test_jobs_fill_the_queue_and_complete():
    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup(jobs=TINY.job_depth, enable=False)
        assert await bench.read("job_free") == 0
        assert await bench.read64("job_image") == DRAM + JOB + TINY.job_depth * 0x1000
        assert ctx.get(host.submitted) == TINY.job_depth
        await bench.write("job_submit", 0)  # one too many: an error, and nothing advances
        assert await bench.read("error_code") == registers.Error.QUEUE_FULL
        assert await bench.read64("job_image") == DRAM + JOB + TINY.job_depth * 0x1000
        assert ctx.get(host.submitted) == TINY.job_depth
        await bench.write("control", 1)
        await bench.world.until(lambda: ctx.get(host.run))
        await bench.write("irq_enable", 1)
        assert await bench.read("status") == 0b111
        for i in range(TINY.job_depth):
            await bench.end_image(isa.Chunk.IMAGE_DMA)
            assert await bench.read("job_free") == i  # the result DMA still needs the entry
            await bench.end_image(isa.Chunk.RESULT_DMA)
            assert await bench.read("job_free") == i + 1
            assert await bench.read("completed") == i + 1
            assert ctx.get(host.interrupt) and await bench.read("irq_status") & 1
            await bench.write("irq_status", 1)
            assert not ctx.get(host.interrupt) and not await bench.read("irq_status") & 1
        assert await bench.read("status") == 0b110
        await bench.write("job_submit", 1)  # wraps round
        assert ctx.get(host.submitted) == TINY.job_depth + 1

    run(test)


def test_bases_carry_into_the_upper_half():
    async def test(bench):
        await bench.write64("job_image", 0x1_FFFF_F000)
        await bench.write("job_image_stride", 0x1000)
        await bench.write("job_submit", 1)
        assert await bench.read64("job_image") == 0x2_0000_0000

    run(test)


@pytest.mark.parametrize("cycles", [600, pytest.param(6000, marks=pytest.mark.slow)])
def test_job_queue_against_a_list(cycles):
    """Random pushes and pops of both readers; after 600 cycles nearly one of each in a cycle."""
    queue = JobQueue(TINY)

    async def test(ctx):
        rng = random.Random(3)
        jobs, images, results = [], 0, 0
        for cycle in range(cycles):
            free = TINY.job_depth - len(jobs) + min(images, results)
            full = free == 0
            assert ctx.get(queue.full) == full and ctx.get(queue.free) == free
            chances = (0.5, 0.4, 0.4) if cycle < 600 else (0.95, 0.9, 0.9)
            push, job = rng.random() < chances[0], (rng.getrandbits(64), rng.getrandbits(64))
            pop_image = images < len(jobs) and rng.random() < chances[1]
            pop_result = results < len(jobs) and rng.random() < chances[2]
            if images < len(jobs):
                assert ctx.get(queue.image_base) == jobs[images][0]
            if results < len(jobs):
                assert ctx.get(queue.result_base) == jobs[results][1]
            for port, value in (
                (queue.push, push),
                (queue.image, job[0]),
                (queue.result, job[1]),
                (queue.pop_image, pop_image),
                (queue.pop_result, pop_result),
            ):
                ctx.set(port, value)
            await ctx.tick()
            if push and not full:
                jobs.append(job)
            images, results = images + pop_image, results + pop_result
            assert (ctx.get(queue.submitted), ctx.get(queue.completed)) == (len(jobs), results)
        assert cycles == 600 or results > 1 << 12

    simulator = Simulator(queue)
    simulator.add_clock(1e-8)
    simulator.add_testbench(test)
    simulator.run()


@pytest.mark.parametrize("preset", ["tiny", pytest.param("p2vit", marks=pytest.mark.slow)])
def test_header_reaches_the_sequencers(preset):
    """All bits of it; most of what they can say does not fit the program, which is refused."""

    async def test(bench):
        def got():
            return {name: bench.world.ctx.get(getattr(bench.host, name)) for name in bench.starts}

        await bench.setup()
        assert got() == bench.starts
        for _ in range(2 if preset == "tiny" else 0):
            await bench.soft_reset()
            fields = {name: bench.rng.getrandbits(16) for name in bench.starts}
            bench.seal(**fields)
            bench.store()
            await bench.setup(enable=False)
            await bench.write("control", 1)
            await bench.world.step(300)
            assert await bench.read("error_code") == registers.Error.PROGRAM
            assert got() == fields and not bench.world.ctx.get(bench.host.run)

    run(test, get_config(preset))


def test_bad_programs_are_refused_and_a_good_one_runs_afterwards():
    async def refused(bench, beats, error=registers.Error.PROGRAM):
        bench.store()
        await bench.setup(program_beats=beats, jobs=0, enable=False)
        await bench.write("control", 1)
        await bench.world.step(300)
        assert not bench.world.ctx.get(bench.host.run)
        assert await bench.read("error_code") == error
        assert await bench.read("errors") == 1 << error
        assert await bench.read64("error_addr") == DRAM + IMAGE
        assert await bench.read("status") == 0b100
        await bench.soft_reset()
        assert await bench.read("error_code") == 0

    async def test(bench):
        bench.seal(magic=isa.MAGIC ^ 1)
        await refused(bench, 0)
        for name in ("config_hash", "build_hash"):
            bench.seal(**{name: 77})
            await refused(bench, 0, registers.Error.BUILD)
        for bit in (100, 0x60, INSTRUCTIONS * 64 * 8 - 1):  # checksum, header, the last bit
            bench.seal()
            bench.image[bit // 8] ^= 1 << bit % 8
            await refused(bench, 0, registers.Error.CHECKSUM)
        bench.seal()
        await refused(bench, TINY.program_rows + 1)
        await refused(bench, TINY.instruction_beats - 1)
        await refused(bench, 1 << 25)
        await refused(bench, INSTRUCTIONS * TINY.instruction_beats - 1, registers.Error.CHECKSUM)
        names = [chunk.name.lower() for chunk in TINY.chunks]
        longest = max(bench.starts[f"{name}_start"] + bench.starts[f"{name}_count"] for name in names)
        bench.seal(longest - 1)
        await refused(bench, (longest - 1) * TINY.instruction_beats)  # truncated
        bench.seal(longest)
        bench.store()
        await bench.setup(program_beats=longest * TINY.instruction_beats)
        await bench.soft_reset()
        assert isa.Chunk.RMAC not in TINY.chunks
        bench.seal(rmac_start=1, rmac_count=1)  # for a chunk that is not there
        await refused(bench, 0)
        bench.seal()
        bench.store()
        await bench.setup()
        assert await bench.read("error_code") == 0

    run(test)


def test_a_program_with_a_read_error_does_not_run():
    async def test(bench):
        bench.memory.read_errors[DRAM + IMAGE + 5 * 16] = 3
        await bench.setup(enable=False)
        await bench.write("control", 1)
        await bench.world.step(300)
        assert not bench.world.ctx.get(bench.host.run)
        assert await bench.read("error_code") == registers.Error.READ
        assert await bench.read64("error_addr") == DRAM + IMAGE + 5 * 16
        await bench.write("job_submit", 1)
        for _ in range(TINY.job_depth):
            await bench.write("job_submit", 1)
        assert await bench.read("error_code") == registers.Error.READ, "the first error stays"

    run(test)


@pytest.mark.parametrize("preset", ["tiny", pytest.param("trio", marks=pytest.mark.slow)])
def test_counters(preset):
    """Each chunk's own registers; those of absent chunks read 0."""
    config = get_config(preset)

    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup()
        before = await bench.counter("cycles")
        assert 0 < before < 1000
        for chunk in isa.Chunk:
            ctx.set(host.busy, 1 << chunk)
            await bench.world.step(10 + chunk)
            ctx.set(host.busy, 0)
            ctx.set(host.stall, 1 << chunk)
            await bench.world.step(20 + chunk)
            ctx.set(host.stall, 0)
        assert await bench.read64("busy_mat") == 0, "as the last snapshot took it"
        await bench.write("snapshot", 0)
        for chunk in isa.Chunk:
            there = chunk in config.chunks
            assert await bench.read64(f"busy_{chunk.name.lower()}") == (10 + chunk if there else 0)
            assert await bench.read64(f"stall_{chunk.name.lower()}") == (20 + chunk if there else 0)
        assert await bench.counter("cycles") > before + 200
        await bench.write("control", 0)  # they can be read after disabling, and start again with the next enable
        await bench.world.step(50)
        stopped = await bench.counter("cycles")
        assert await bench.counter("busy_mat") == 10 and stopped == await bench.counter("cycles")
        await bench.setup()
        assert await bench.read64("busy_mat") == await bench.read64("cycles") == 0
        assert await bench.counter("busy_mat") == 0 and await bench.counter("cycles") < stopped

    run(test, config)


def test_watchdog():
    config = dataclasses.replace(TINY, watchdog_bits=7)

    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup(jobs=0)
        await bench.world.step(400)
        assert await bench.read("error_code") == 0, "nothing to do is no error"
        await bench.write("job_submit", 1)
        for _ in range(4):
            await bench.world.step(100)
            ctx.set(host.progress, 1)
            await bench.world.step()
            ctx.set(host.progress, 0)
        assert await bench.read("error_code") == 0
        await bench.world.step(130)
        assert await bench.read("error_code") == registers.Error.WATCHDOG
        await bench.soft_reset()
        assert await bench.read("status") == 0

    run(test, config)


def test_watchdog_sees_a_memory_that_does_not_answer_at_boot():
    config = dataclasses.replace(TINY, watchdog_bits=7)

    async def test(bench):
        bench.memory.frozen = True
        await bench.setup(enable=False, jobs=0)
        await bench.write("control", 1)
        await bench.world.step(150)
        assert await bench.read("error_code") == registers.Error.WATCHDOG
        bench.memory.frozen = False

    run(test, config)


def test_watchdog_tells_a_drain_that_does_not_end_from_a_run():
    """While a soft reset waits for the memory: that error, not the one of a run; afterwards the reset ends."""
    config = dataclasses.replace(TINY, watchdog_bits=7)

    async def test(bench):
        await bench.setup(enable=False)
        await bench.write("control", 1)
        while not bench.memory.outstanding:
            await bench.world.step()
        bench.memory.frozen = True
        await bench.write("control", 3)
        await bench.world.step(300)
        assert await bench.read("error_code") == registers.Error.DRAIN
        assert await bench.read("errors") == 1 << registers.Error.DRAIN
        bench.memory.frozen = False
        while await bench.read("control"):
            pass

    run(test, config, latency=(10, 20))


@pytest.mark.parametrize("cycles", [1, 5, 10, 30])
def test_soft_reset_while_booting_waits_for_memory(cycles):
    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup(enable=False)
        await bench.write("control", 1)
        await bench.world.step(cycles)
        bench.memory.frozen = True
        waiting = bench.memory.outstanding
        await bench.write("control", 3)
        await bench.world.step(60)
        if waiting:
            assert not ctx.get(host.core_reset) and await bench.read("control") & 2
        bench.memory.frozen = False
        while await bench.read("control"):
            pass
        assert bench.memory.outstanding == 0 and not ctx.get(host.run)
        await bench.setup()
        assert await bench.read("error_code") == 0

    run(test, latency=(10, 20))


def test_disable_stops_and_enable_loads_again():
    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup(jobs=2)
        loaded = len(bench.program.log)
        await bench.write("control", 0)
        await bench.world.step(30)
        assert not ctx.get(host.run) and ctx.get(host.submitted) == 0
        await bench.setup(jobs=1)
        assert len(bench.program.log) == 2 * loaded and ctx.get(host.submitted) == 1

    run(test)


def test_doorbells_need_their_lowest_byte():
    async def test(bench):
        await bench.setup(jobs=0, enable=False)
        offset = registers.REGISTERS["job_submit"].offset
        for strobe, jobs in ((0, 0), (0b1110, 0), (0b0001, 1), (0b1111, 2)):
            await bench.lite.write(offset, 1, strobe)
            assert await bench.read("job_number") == jobs
        assert await bench.read("errors") == 0

    run(test)


@pytest.mark.parametrize("value", [0, 1])
def test_soft_reset_cannot_be_taken_back(value):
    """While the memory does not answer: control is written again, soft_reset stays, then all is clear."""

    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup()
        bench.weight.add(rows=1, source=64, beats=97, dest=0, dest_addr=0)
        await bench.world.step(8)
        bench.memory.frozen = True
        await bench.write("job_image_stride", 1)
        await bench.write("job_submit", 1)
        await bench.write("control", 3)
        await bench.write("control", value)
        assert await bench.read("control") == 2 | value and await bench.read("status") & 0b10000
        assert await bench.read("error_code") == registers.Error.ALIGNMENT
        await bench.write("job_submit", 1)
        assert await bench.read("errors") == 1 << registers.Error.ALIGNMENT | 1 << registers.Error.STOPPED
        await bench.world.step(50)
        assert bench.memory.outstanding and not ctx.get(host.core_reset)
        bench.memory.frozen = False
        await bench.world.until(lambda: ctx.get(host.core_reset))
        bench.weight.reset()
        while await bench.read("control"):
            pass
        assert await bench.read("errors") == await bench.read("status") == await bench.read("error_code") == 0
        await bench.setup()

    run(test)


def test_refused_submits_change_nothing():
    async def test(bench):
        await bench.setup(jobs=0, enable=False)
        values = dict(image=DRAM + JOB, result=DRAM + 0x60000)
        for name, number in (("image", 0), ("result", 1)):
            for bit in (0, 4, 11):
                await bench.write64(f"job_{name}", values[name] | 1 << bit)
                await bench.write("job_submit", 1)
                assert await bench.read("error_code") == registers.Error.ALIGNMENT
                assert await bench.read64("error_addr") == values[name] | 1 << bit
                assert await bench.read("error_resp") == number
                assert await bench.read64(f"job_{name}") == values[name] | 1 << bit
                await bench.write("errors", 1 << registers.Error.ALIGNMENT)
                assert await bench.read("error_code") == await bench.read64("error_addr") == 0
            await bench.write64(f"job_{name}", values[name])
        for name, number in (("image", 2), ("result", 3)):
            await bench.write(f"job_{name}_stride", 0x1800)
            await bench.write("job_submit", 1)
            assert await bench.read64("error_addr") == 0x1800 and await bench.read("error_resp") == number
            await bench.write("errors", 0xFFF)
            await bench.write(f"job_{name}_stride", 0)
        assert await bench.read("job_number") == 0
        await bench.write("job_submit", 1)
        assert await bench.read("job_number") == 1 and await bench.read("errors") == 0

    run(test)


def test_attributes_and_program_are_taken_over_when_enabled():
    async def test(bench):
        ctx, port = bench.world.ctx, bench.host.m_axi_gmem0
        names = ("arcache", "arprot", "aruser", "awcache", "awprot", "awuser")
        assert [ctx.get(getattr(port, n)) for n in names] == [3, 0, 0, 3, 0, 0]
        await bench.write("axi_attributes", 0b1_101_1011_0_110_1111)
        await bench.setup()
        got = [0b1111, 0b110, 0, 0b1011, 0b101, 1]
        assert [ctx.get(getattr(port, n)) for n in names] == got
        await bench.write("axi_attributes", 0)
        await bench.write64("program", 0x123000)
        bench.weight.add(rows=1, source=70, beats=5, dest=1, dest_addr=3)
        await bench.finish()
        assert [ctx.get(getattr(port, n)) for n in names] == got and await bench.read("errors") == 0
        await bench.write("control", 0)
        await bench.write64("program", DRAM + IMAGE + 16)
        await bench.write("control", 1)
        await bench.world.step(100)
        assert [ctx.get(getattr(port, n)) for n in names] == [0] * 6
        assert await bench.read("error_code") == registers.Error.ALIGNMENT
        assert await bench.read64("error_addr") == DRAM + IMAGE + 16 and not ctx.get(bench.host.run)

    run(test)


def test_status_of_jobs():
    """Errors at a job's own chunk, results in order, interrupts again for later errors."""

    async def test(bench):
        ctx, host = bench.world.ctx, bench.host
        await bench.setup(jobs=3)
        await bench.write("irq_enable", 2)
        bench.memory.read_errors[DRAM + IMAGE + 70 * 16] = 2
        for i in range(3):
            bench.weight.add(rows=1, source=64 + 10 * (i != 1), beats=8, dest=1, dest_addr=3)
            await bench.finish()
            await bench.world.step(4)
            assert ctx.get(host.interrupt) == (i >= 1)
            await bench.end_image(isa.Chunk.WEIGHT_DMA)
        await bench.write("irq_status", 2)
        await bench.world.step(2)
        assert not ctx.get(host.interrupt) and await bench.read("done_count") == 0
        await bench.write("errors", 0xFFF)
        for _ in range(3):
            await bench.end_image(isa.Chunk.IMAGE_DMA)
            await bench.end_image(isa.Chunk.RESULT_DMA)
        assert await bench.read("done_count") == 3
        for i in range(3):
            assert await bench.read("done_job") == i
            assert await bench.read("done_errors") == (1 << registers.Error.READ if i == 1 else 0)
            assert await bench.read("done_cycles") > 0
            await bench.write("done_pop", 0)
        assert await bench.read("done_count") == await bench.read("done_job") == await bench.read("done_cycles") == 0

    run(test)
