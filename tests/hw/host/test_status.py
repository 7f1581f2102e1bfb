"""Counters, watchdog, error log, status of jobs: each against a plain model, cycle by cycle."""

import random
from collections import deque

import pytest

from vitforge_hw.arch.checksum import signature
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import COUNTER_SLOTS, Error
from vitforge_hw.host.counters import Counters
from vitforge_hw.host.error_log import ERRORS, KINDS, ErrorLog
from vitforge_hw.host.job_status import JobStatus
from vitforge_hw.host.signature import Signature
from vitforge_hw.host.watchdog import Watchdog
from vitforge_sim.bench.replay import Simulator

TINY = get_config("tiny")


def simulate(component, test, simulators=("icarus",)):
    simulator = Simulator(component, simulators=simulators)
    simulator.add_clock(1e-8)
    simulator.add_testbench(test)
    simulator.run()


@pytest.mark.parametrize("seed", range(3))
def test_counters(seed):
    """Snapshots at any time, also while the last one is not complete, and restarts; every event counts once."""
    counters = Counters()
    rng = random.Random(seed)

    async def test(ctx):
        counts, kept = [0] * COUNTER_SLOTS, [0] * COUNTER_SLOTS
        since = 0  # the last snapshot or restart
        dense = [rng.random() for _ in range(COUNTER_SLOTS)]
        dense[0], dense[1], dense[COUNTER_SLOTS - 1] = 1, 0, 1
        for _ in range(1500):
            if since > COUNTER_SLOTS:
                assert not ctx.get(counters.busy)
                for slot in range(COUNTER_SLOTS):
                    for upper in (0, 1):
                        ctx.set(counters.select, 2 * slot + upper)
                        assert ctx.get(counters.value) == kept[slot] >> 32 * upper & 0xFFFFFFFF, slot
            elif since:
                assert ctx.get(counters.busy) == (since <= COUNTER_SLOTS)
            events = [rng.random() < p for p in dense]
            snapshot = rng.random() < (0.2 if rng.random() < 0.1 else 0.01)
            restart = rng.random() < 0.003
            for port, value in (("snapshot", snapshot), ("restart", restart)):
                ctx.set(getattr(counters, port), value)
            ctx.set(counters.events, sum(on << i for i, on in enumerate(events)))
            await ctx.tick()
            since += 1
            if snapshot or restart:
                kept, since = [0] * COUNTER_SLOTS if restart else counts.copy(), 1
            counts = [0] * COUNTER_SLOTS if restart else [a + b for a, b in zip(counts, events, strict=True)]

    simulate(counters, test)


def test_counters_carry_into_the_upper_half():
    """A counter whose word in the memory is set to 2^32 - 3."""
    counters = Counters()

    async def test(ctx):
        await ctx.tick().repeat(COUNTER_SLOTS + 1)
        ctx.set(counters.totals.data[5], (1 << 32) - 3)
        ctx.set(counters.events, 1 << 5)
        await ctx.tick().repeat(7)
        ctx.set(counters.snapshot, 1)
        await ctx.tick()
        ctx.set(counters.snapshot, 0)
        await ctx.tick().repeat(COUNTER_SLOTS)
        values = []
        for half in (10, 11):
            ctx.set(counters.select, half)
            values.append(ctx.get(counters.value))
        assert values == [4, 1]

    simulate(counters, test, simulators=())  # the Verilog's memory cannot be set


@pytest.mark.parametrize("seed", range(3))
def test_watchdog(seed):
    """One pulse for each standstill of ``period`` cycles; 0 never; a shortened period counts at once."""
    dog = Watchdog()
    rng = random.Random(seed)

    async def test(ctx):
        still, told, period, pulses = 0, False, 5, 0
        for _ in range(3000):
            if rng.random() < 0.01:
                period = rng.choice([0, 1, 2, 5, 30])
            active = rng.random() < 0.98
            progress = rng.random() < rng.choice([0.02, 0.3])
            ctx.set(dog.period, period)
            ctx.set(dog.active, active)
            ctx.set(dog.progress, progress)
            want = active and not told and period > 0 and still >= period
            assert ctx.get(dog.expired) == want
            pulses += want
            await ctx.tick()
            if not active or progress:
                still, told = 0, False
            elif want:
                told = True
            elif not told:
                still += 1
        assert pulses > 20

    simulate(dog, test)


@pytest.mark.parametrize("seed", range(2))
def test_error_log(seed):
    """Random errors, several in a cycle, and bits cleared by the driver."""
    log = ErrorLog()
    rng = random.Random(seed)

    async def test(ctx):
        pending, first, arrived, where = 0, (0, 0, 0), 0, {}
        for _ in range(1500):
            held = pending >> first[0] & 1
            ctx.set(log.pending, pending)
            chance = rng.choice([0.01, 0.2])
            new, details = 0, {}
            for e in KINDS:
                on = rng.random() < chance
                details[e] = (rng.getrandbits(64), rng.getrandbits(2))
                ctx.set(getattr(log, e.name.lower() + "_error"), on)
                ctx.set(getattr(log, e.name.lower() + "_addr"), details[e][0])
                ctx.set(getattr(log, e.name.lower() + "_resp"), details[e][1])
                new |= on << e
            assert ctx.get(log.set) == arrived and ctx.get(log.happened) == bool(arrived)
            assert (ctx.get(log.code), ctx.get(log.addr), ctx.get(log.resp)) == (first if held else (0, 0, 0))
            await ctx.tick()
            if arrived and not held:
                code = next(e for e in KINDS if arrived >> e & 1)
                first = (int(code), *where[code])
            clear = rng.getrandbits(ERRORS) if rng.random() < 0.2 else 0
            pending, arrived, where = (pending & ~clear) | arrived, new, details

    simulate(log, test)


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("seed", range(2))
def test_job_status(depth, seed):
    """DMAs at different jobs, errors for the job that each is at, a queue that loses its oldest, resets."""
    status = JobStatus(get_config("tiny") if depth == 4 else type(TINY)(**vars(TINY) | {"job_depth": depth}))
    rng = random.Random(seed)

    async def test(ctx):
        submitted, at = 0, dict(weight=0, image=0, result=0)
        errors: dict[int, int] = {}
        queue: deque = deque()
        cycles = 0
        done = overflowed = 0
        for _ in range(3000):
            assert ctx.get(status.count) == len(queue)
            head = ctx.get(status.head)
            assert (head.job, head.errors, head.cycles) == (queue[0] if queue else (0, 0, 0))
            working = submitted != at["result"]
            push = submitted - min(at["weight"], at["image"], at["result"]) < depth and rng.random() < 0.3
            ends, found = {}, {}
            for name in at:
                behind = name == "result" and at["result"] >= min(at["weight"], at["image"])
                ends[name] = at[name] < submitted and not behind and rng.random() < 0.2
                found[name] = rng.getrandbits(ERRORS) & ~1 if at[name] < submitted and rng.random() < 0.1 else 0
            pop, reset, clear = rng.random() < 0.05, rng.random() < 0.003, rng.random() < 0.003
            for name in at:
                ctx.set(getattr(status, f"{name}_end"), ends[name])
                ctx.set(getattr(status, f"{name}_errors"), found[name])
            for name, value in dict(push=push, submitted=submitted, working=working, pop=pop, reset=reset,
                                    clear=clear).items():  # fmt: skip
                ctx.set(getattr(status, name), value)
            await ctx.tick()
            for name in at:
                errors[at[name]] = errors.get(at[name], 0) | found[name]
            if pop and queue:
                queue.popleft()
            if ends["result"]:
                job = at["result"]
                queue.append((job, errors.pop(job), cycles))
                done += 1
                if len(queue) > 2 * depth:
                    queue.popleft()
                    overflowed += 1
            cycles = 0 if ends["result"] or not working else cycles + 1
            if push:
                errors[submitted] = 0
            submitted += push
            for name in at:
                at[name] += ends[name]
            if reset:
                submitted, at, errors, cycles = 0, dict.fromkeys(at, 0), {}, cycles
            if clear:
                queue.clear()
        assert done > 100 and overflowed > 10

    simulate(status, test)


@pytest.mark.parametrize("waits, jobs", [(300, 40), pytest.param(1 << 19, 1 << 12, marks=pytest.mark.slow)])
def test_job_status_of_long_and_of_many_jobs(waits, jobs):
    """One that takes ``waits`` cycles, then ``jobs`` that end at once: number and cycles of each."""
    status = JobStatus(TINY)

    async def test(ctx):
        for port in (status.push, status.working):
            ctx.set(port, 1)
        await ctx.tick()
        ctx.set(status.push, 0)
        await ctx.tick().repeat(waits)
        for end in (status.weight_end, status.image_end, status.result_end):
            ctx.set(end, 1)
        ctx.set(status.pop, 1)
        for job in range(jobs):
            ctx.set(status.submitted, job + 1)
            ctx.set(status.push, 1)
            await ctx.tick()
            head = ctx.get(status.head)
            assert (head.job, head.errors, head.cycles) == (job, 0, 0 if job else waits + 1)
            assert ctx.get(status.count) == 1

    simulate(status, test)


@pytest.mark.parametrize("bits", [128, 512])
def test_signature(bits):
    """Pieces of random length with pauses."""
    component = Signature(bits)
    rng = random.Random(bits)

    async def test(ctx):
        for length in (1, 2, 3, 17, 1, 30):
            data = b""
            for i in range(length):
                while rng.random() < 0.3:
                    ctx.set(component.valid, 0)
                    ctx.set(component.first, rng.getrandbits(1))
                    ctx.set(component.data, rng.getrandbits(bits))
                    await ctx.tick()
                beat = rng.randbytes(bits // 8)
                data += beat
                ctx.set(component.valid, 1)
                ctx.set(component.first, i == 0)
                ctx.set(component.data, int.from_bytes(beat, "little"))
                await ctx.tick()
                assert ctx.get(component.value) == signature(data, bits // 8)

    simulate(component, test)


def test_every_error_has_its_documentation():
    from vitforge_hw.arch.registers import ERROR_DOCS, REGISTERS

    assert list(ERROR_DOCS) == [e for e in Error if e]
    assert [(n, low) for n, low, _, _ in REGISTERS["errors"].bits] == [(e.name.lower(), int(e)) for e in Error if e]
