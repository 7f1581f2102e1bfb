"""The registers alone: every input that they show, every output that they drive, each event and what becomes of it."""

import random

import pytest

from vitforge_hw.arch import isa, registers
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.memmap import BASE_ALIGNMENT
from vitforge_hw.arch.registers import COUNTER_BASE, COUNTER_SLOTS, REGISTERS, Error, counter_slot, field
from vitforge_hw.host.csr import Csr
from vitforge_hw.host.register_file import writable_mask
from vitforge_sim.bench.axi_model import AxiLite, World
from vitforge_sim.bench.replay import Simulator

TINY = get_config("tiny")
ONE_CYCLE = (
    "clear", "started", "image_done", "read_error", "write_error", "bad_program", "bad_build", "bad_checksum",
    "misaligned", "stray", "damaged", "progress", "moved",
)  # fmt: skip


class Watch:
    """Pushes, pops and hangs in their cycles; chunks that are busy, counted: ``on`` "some" at random, "all" always."""

    def __init__(self, csr: Csr, rng: random.Random):
        self.csr, self.rng, self.on = csr, rng, ""
        self.counts = [0] * COUNTER_SLOTS
        self.pushed, self.pops, self.hangs = [], 0, []
        self.levels = 0, 0

    def drive(self, ctx):
        if self.on:
            every = (1 << len(isa.Chunk)) - 1
            self.levels = tuple(every if self.on == "all" else self.rng.getrandbits(len(isa.Chunk)) for _ in range(2))
        elif any(self.levels):
            self.levels = 0, 0
        ctx.set(self.csr.busy, self.levels[0])
        ctx.set(self.csr.stall, self.levels[1])

    def sample(self, ctx, cycle):
        csr = self.csr
        self.counts[0] += ctx.get(csr.enable)
        for chunk in csr._config.chunks:
            for stall in (0, 1):
                self.counts[counter_slot(chunk, bool(stall))] += self.levels[stall] >> chunk & 1
        if ctx.get(csr.push):
            self.pushed.append((ctx.get(csr.push_image), ctx.get(csr.push_result)))
        self.pops += ctx.get(csr.done_pop)
        if ctx.get(csr.hangs):
            self.hangs.append(cycle)


class Registers:
    """Csr with a driver on its bus; ``run(test)`` runs ``async def test(bench)``."""

    def __init__(self, config, seed: int):
        self.config, self.rng = config, random.Random(seed)
        self.csr = Csr(config)
        self.lite, self.watch = AxiLite(self.csr.bus, seed), Watch(self.csr, self.rng)

    def run(self, test):
        simulator = Simulator(self.csr, simulators=("icarus",))
        simulator.add_clock(1e-8)

        async def bench(ctx):
            self.ctx, self.world = ctx, World(ctx, [self.lite, self.watch])
            self.lite.world = self.world
            await self.world.step(COUNTER_SLOTS + 1)
            await test(self)

        simulator.add_testbench(bench)
        simulator.run()

    def bits(self, port: str) -> int:
        return self.rng.getrandbits(len(getattr(self.csr, port)))

    async def set(self, **levels: int):
        """Inputs from now on; those of ONE_CYCLE only for this cycle."""
        for name, level in levels.items():
            self.ctx.set(getattr(self.csr, name), level)
        await self.world.step()
        for name in set(levels) & set(ONE_CYCLE):
            self.ctx.set(getattr(self.csr, name), 0)

    def get(self, port: str) -> int:
        return self.ctx.get(getattr(self.csr, port))

    async def read(self, name: str) -> int:
        return await self.lite.read(REGISTERS[name].offset)

    async def read64(self, name: str) -> int:
        return await self.read(f"{name}_lo") | await self.read(f"{name}_hi") << 32

    async def write(self, name: str, value: int, strobe: int = 15):
        await self.lite.write(REGISTERS[name].offset, value, strobe)

    async def write64(self, name: str, value: int):
        await self.write(f"{name}_lo", value & 0xFFFFFFFF)
        await self.write(f"{name}_hi", value >> 32)

    async def first_error(self) -> tuple[int, int, int]:
        return await self.read("error_code"), await self.read64("error_addr"), await self.read("error_resp")


async def show_inputs(bench):
    """What the read-only registers are told, bit for bit."""
    c, rng, ctx = bench.config, bench.rng, bench.ctx
    done = {"job": rng.getrandbits(32), "errors": rng.getrandbits(len(Error)), "cycles": rng.getrandbits(32)}
    for name, value in done.items():
        ctx.set(bench.csr.done[name], value)
    named = ("run", "active", "stopping", "submitted", "completed")
    levels = {name: bench.bits(name) for name in named}
    levels |= {"job_free": rng.randrange(c.job_depth + 1), "done_count": rng.randrange(2 * c.job_depth + 1)}
    if rng.random() < 0.3:
        levels["completed"] = levels["submitted"] ^ rng.choice([0, 1 << rng.randrange(32)])
    await bench.set(**levels)
    working = levels["submitted"] != levels["completed"]
    status = {"busy": working, "ready": levels["run"], "error": 0, "active": levels["active"],
              "stopping": levels["stopping"]}  # fmt: skip
    shape = {"cores": c.cores, "word": c.word, "masters": c.masters, "job_depth": c.job_depth}
    want = {
        "id": registers.IDENT, "version": registers.VERSION, "config_hash": c.hash, "build_hash": build_hash(c),
        "capabilities": sum(value << field("capabilities", n)[0] for n, value in shape.items()),
        "status": sum(value << field("status", n)[0] for n, value in status.items()),
        "job_free": levels["job_free"], "completed": levels["completed"], "job_number": levels["submitted"],
        "done_count": levels["done_count"], **{f"done_{name}": value for name, value in done.items()},
    }  # fmt: skip
    assert bench.get("working") == working
    for name, value in want.items():
        assert await bench.read(name) == value, name
    pops = bench.watch.pops
    await bench.write("done_pop", rng.getrandbits(32))
    await bench.write("done_pop", rng.getrandbits(32), 0b1110)  # a doorbell needs its lowest byte
    assert bench.watch.pops == pops + 1
    await bench.set(run=0, active=0, stopping=0, submitted=0, completed=0)


async def write_settings(bench):
    """Each byte of each setting alone; what the machine is given of them."""
    rng = bench.rng
    settings = [n for n, r in REGISTERS.items() if r.access == "rw" and n != "control"]
    values = {name: await bench.read(name) for name in settings}
    for _ in range(2 * len(settings)):
        name, new, strobe = rng.choice(settings), rng.getrandbits(32), rng.getrandbits(4)
        await bench.write(name, new, strobe)
        mask = sum(255 << 8 * i for i in range(4) if strobe >> i & 1)
        values[name] = ((values[name] & ~mask) | (new & mask)) & writable_mask(REGISTERS[name])
        assert await bench.read(name) == values[name], name
    for name, value in values.items():
        assert await bench.read(name) == value, name
    for port, name in (("program_base", "program"), ("push_image", "job_image"), ("push_result", "job_result")):
        assert bench.get(port) == values[f"{name}_lo"] | values[f"{name}_hi"] << 32
    assert bench.get("program_beats") == values["program_beats"]
    before = bench.get("attributes")
    await bench.write("axi_attributes", ~before)
    assert bench.get("attributes") == before, "only when enabled"
    await bench.set(started=1)
    assert bench.get("attributes") == ~before & 0xFFFF
    await bench.write("watchdog", 0)


async def submit(bench):
    """A job that is taken, and one that is refused for each reason: misaligned, full, stopping."""
    rng, watch = bench.rng, bench.watch
    names = ("job_image", "job_result", "job_image_stride", "job_result_stride")
    for case in ("good", "good", "odd", "odd", "full", "stopping"):
        values = [rng.getrandbits(bits) & -BASE_ALIGNMENT for bits in (64, 64, 32, 32)]
        odd = rng.sample(range(4), rng.choice([1, 1, 2])) if case == "odd" else []
        odd += rng.choice([[], [rng.randrange(4)]]) if case == "stopping" else []
        for number in odd:
            values[number] |= rng.choice([1 << rng.randrange(12), rng.randrange(1, 1 << 12)])
        for name, value in zip(names, values, strict=True):
            await (bench.write if "stride" in name else bench.write64)(name, value)
        await bench.set(job_full=int(case == "full"), stopping=int(case == "stopping"))
        pushed = len(watch.pushed)
        await bench.write("job_submit", rng.getrandbits(32), 0b1110)
        await bench.write("job_submit", rng.getrandbits(32), 1 | rng.getrandbits(4))
        await bench.world.step(2)
        after = [await bench.read64(name) for name in names[:2]]
        if case == "good":
            assert watch.pushed[pushed:] == [tuple(values[:2])]
            assert after == [(base + stride) % (1 << 64) for base, stride in zip(values[:2], values[2:], strict=True)]
            want = 0, 0, 0
        else:
            assert len(watch.pushed) == pushed and after == values[:2]
            code = {"odd": Error.ALIGNMENT, "full": Error.QUEUE_FULL, "stopping": Error.STOPPED}[case]
            want = code, values[min(odd)] if case == "odd" else values[0], min(odd) if case == "odd" else 0
        assert await bench.first_error() == want
        await bench.write("errors", 1 << want[0])
    await bench.set(job_full=0, stopping=0)


async def errors(bench, rounds: int):
    """Several pulses in a cycle: all are noted, the lowest is told until its bit is cleared; interrupts."""
    rng = bench.rng
    noted, first = 0, (0, 0, 0)
    await bench.write("irq_status", 3)
    await bench.write("irq_enable", 0b10)
    for _ in range(rounds):
        base, read, write = (rng.getrandbits(64) for _ in range(3))
        resps = rng.getrandbits(2), rng.getrandbits(2)
        details = {
            "read_error": (Error.READ, read, resps[0]), "write_error": (Error.WRITE, write, resps[1]),
            "bad_program": (Error.PROGRAM, base, 0), "misaligned": (Error.ALIGNMENT, base, 0),
            "bad_checksum": (Error.CHECKSUM, base, 0), "bad_build": (Error.BUILD, base, 0),
            "stray": (Error.STRAY, 0, 0),
        }  # fmt: skip
        damaged = rng.choice([0, 0, 1, 2, 3])
        pulses = {name: int(rng.random() < 0.25) for name in details} | {"damaged": damaged}
        if damaged and not pulses["bad_checksum"]:
            details["damaged"] = Error.CHECKSUM, base, 1 if damaged & 1 else 2
        found = sorted(details[name] for name, on in pulses.items() if on and name in details)
        where = {"base": base, "read_addr": read, "write_addr": write, "read_resp": resps[0], "write_resp": resps[1]}
        await bench.set(**where, **pulses)
        await bench.set(base=rng.getrandbits(64), read_addr=rng.getrandbits(64), write_addr=rng.getrandbits(64))
        await bench.world.step(3)
        if found and not noted >> first[0] & 1:
            first = found[0]
        noted |= sum({1 << kind for kind, *_ in found})
        assert await bench.read("errors") == noted and bench.get("error") == bool(noted)
        assert await bench.first_error() == (first if noted >> first[0] & 1 else (0, 0, 0))
        assert bench.get("interrupt") == bool(found) and await bench.read("irq_status") == 2 * bool(found)
        await bench.write("irq_status", 0b10)
        cleared = rng.choice([rng.getrandbits(len(Error)), 0, 1 << first[0]])
        await bench.write("errors", cleared)
        noted &= ~cleared
        await bench.world.step(1)
        assert await bench.first_error() == (first if noted >> first[0] & 1 else (0, 0, 0))
        assert not bench.get("interrupt")
    await bench.write("irq_enable", 0b01)
    await bench.set(image_done=1)
    await bench.world.step(2)
    assert bench.get("interrupt") and await bench.read("irq_status") == 1
    await bench.set(read_error=1)
    await bench.write("control", 3)
    assert bench.get("soft_reset")
    await bench.set(clear=1)
    for name in ("errors", "irq_status", "error_code", "control"):
        assert await bench.read(name) == 0, name
    assert not bench.get("enable") and not bench.get("soft_reset") and not bench.get("interrupt")


async def count(bench):
    """All of 0x200 and behind, after events, after more of them, after a restart."""
    watch = bench.watch
    await bench.write("control", 1)
    await bench.set(started=1)
    await bench.world.step(COUNTER_SLOTS)
    start = watch.counts.copy()
    for on, cycles in (("some", 40), ("all", 3 * COUNTER_SLOTS), ("some", bench.rng.randrange(100, 300))):
        watch.on = on
        await bench.world.step(cycles)
        watch.on = ""
        await bench.write("control", 0)
        await bench.world.step(2)
        await bench.write("snapshot", 1)
        watch.on, kept = "some", watch.counts.copy()
        for slot in range(COUNTER_SLOTS):
            low, high = [await bench.lite.read(COUNTER_BASE + 8 * slot + 4 * half) for half in (0, 1)]
            counted = kept[slot] - start[slot]
            if slot == 0:  # enable was set a moment before they started
                assert counted <= low <= counted + COUNTER_SLOTS and high == 0
            else:
                assert (low, high) == (counted, 0), slot
    watch.on = ""
    await bench.world.step(2)
    await bench.set(started=1)
    await bench.write("snapshot", 1)
    for slot in range(COUNTER_SLOTS):
        assert await bench.lite.read(COUNTER_BASE + 8 * slot) == 0, slot


async def stand_still(bench):
    """What keeps the watchdog quiet in each state, and which error its end is."""
    rng, watch, world = bench.rng, bench.watch, bench.world
    states = (
        ({"run": 1, "submitted": 5}, "progress", "moved", Error.WATCHDOG),
        ({"booting": 1}, "moved", "progress", Error.WATCHDOG),
        ({"stopping": 1}, "moved", "progress", Error.DRAIN),
    )
    for levels, feeds, ignored, code in states:
        period = rng.randrange(20, 70)
        await bench.write("watchdog", period)
        await bench.set(**levels)
        for event in (feeds, "image_done", feeds):
            await bench.set(**{event: 1})
            last = world.cycle - 1
            await world.step(period // 2)
            await bench.set(**{ignored: 1})
            await world.step(period - 1 - (world.cycle - last))
        await bench.set(**{feeds: 1})
        last = world.cycle - 1
        assert await bench.read("errors") == 0
        for _ in range(2):  # once for each standstill
            await world.step(period + 6)
            assert watch.hangs == ([last + period + 2] if levels.get("run") else [])
            assert await bench.first_error() == (code, 0, 0) and await bench.read("errors") == 1 << code
        watch.hangs.clear()
        await bench.write("watchdog", 0)
        await bench.set(**dict.fromkeys(levels, 0))
        await bench.write("errors", 0xFFF)
        await bench.write("irq_status", 3)


@pytest.mark.parametrize("seed, rounds", [(1, 1), pytest.param(2, 8, marks=pytest.mark.slow)])
def test_registers(seed, rounds):
    bench = Registers(TINY, seed)

    async def test(bench):
        for _ in range(rounds):
            for _ in range(2):
                await show_inputs(bench)
            await write_settings(bench)
            await submit(bench)
            await errors(bench, 8)
            await count(bench)
            await stand_still(bench)

    bench.run(test)
