"""Each DMA chunk alone: every field of its instructions up to its last bits, requests and bursts that wait, resets in
the midst of it."""

import hashlib
import random
from collections import deque

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.checksum import signature
from vitforge_hw.arch.config import get_config
from vitforge_hw.host.axi import DATA_BITS, burst_limit
from vitforge_hw.host.dma import DEST_PROGRAM, ImageDma, ResultDma, WeightDma
from vitforge_sim.bench.axi_model import ChunkDriver, ReadSource, World
from vitforge_sim.bench.replay import Simulator

TINY = get_config("tiny")
LONG = pytest.mark.slow


def content(base: int, beat: int, size: int) -> bytes:
    """A beat of a memory that has something else everywhere."""
    return hashlib.shake_128(b"%d %d" % (base, beat)).digest(size)


class ReadSide:
    """The read engine as a DMA sees it: requests in, their beats out, each when it likes."""

    def __init__(self, dma, config, rng):
        self.dma, self.size, self.rng = dma, config.beat_bytes, rng
        self.rates = 1.0, 1.0  # requests, beats
        self.reset()

    def reset(self):
        self.requests, self.beats, self.on = [], deque(), 0

    def drive(self, ctx):
        request, beat = self.dma.request, self.dma.beat
        self.ready = int(self.rng.random() < self.rates[0])
        ctx.set(request.ready, self.ready)
        self.on = int(bool(self.beats) and (self.on or self.rng.random() < self.rates[1]))
        ctx.set(beat.valid, self.on)
        if self.on:
            base, number, left = self.beats[0]
            ctx.set(beat.payload.data, int.from_bytes(content(base, number, self.size), "little"))
            ctx.set(beat.payload.last, left == 1)

    def sample(self, ctx, cycle):
        request, beat = self.dma.request, self.dma.beat
        if self.on and ctx.get(beat.ready):
            base, number, left = self.beats.popleft()
            if left > 1:
                self.beats.appendleft((base, number + 1, left - 1))
            self.on = 0
        if self.ready and ctx.get(request.valid):
            p = request.payload
            self.requests.append((ctx.get(p.base), ctx.get(p.beat), ctx.get(p.beats)))
            self.beats.append(self.requests[-1])


class Writes:
    """A write port: (address, data) in order."""

    def __init__(self, port, rng):
        self.port, self.rng, self.rate, self.log = port, rng, 1.0, []

    def drive(self, ctx):
        self.ready = int(self.rng.random() < self.rate)
        ctx.set(self.port.ready, self.ready)

    def sample(self, ctx, cycle):
        if self.ready and ctx.get(self.port.valid):
            assert ctx.get(self.port.mask) == (1 << len(self.port.mask)) - 1
            self.log.append((ctx.get(self.port.addr), ctx.get(self.port.data)))


class Pulses:
    """Cycles in which a signal is high."""

    def __init__(self, signal):
        self.signal, self.cycles = signal, []

    def drive(self, ctx):
        pass

    def sample(self, ctx, cycle):
        if ctx.get(self.signal):
            self.cycles.append(cycle)


def simulate(dma, models, test):
    simulator = Simulator(dma, simulators=("icarus",))
    simulator.add_clock(1e-8)

    async def bench(ctx):
        await test(World(ctx, models))

    simulator.add_testbench(bench)
    simulator.run()


async def reset(world, dma, *models):
    world.ctx.set(dma.reset, 1)
    await world.step()
    world.ctx.set(dma.reset, 0)
    for model in models:
        model.reset()


def loads(rng, config, op) -> tuple[bytes, int]:
    """All bytes that an instruction loads from ``op["base"]``, their checksum or, now and then, a wrong one."""
    beats = range(op["source"], op["source"] + op["rows"] * op["beats"])
    data = b"".join(content(op["base"], beat, config.beat_bytes) for beat in beats)
    right = signature(data, config.beat_bytes)
    return data, rng.choice([right, right, right ^ 1 << rng.randrange(32)])


@pytest.mark.parametrize(
    "lives, longest", [(2, 20), pytest.param(25, 40, marks=LONG), pytest.param(1, 4200, marks=LONG)]
)
def test_weight_dma(lives, longest):
    """Random pieces and programs; most lives end with a reset in the midst of it."""
    config, rng = TINY, random.Random(lives)
    dma, size = WeightDma(config), config.beat_bytes
    memory, driver = ReadSide(dma, config, rng), ChunkDriver(dma.ctl, 0.1, lives)
    ports = [Writes(port, rng) for port in (dma.weights, dma.params, dma.ln_params, dma.program)]
    damaged, booted = Pulses(dma.damaged), Pulses(dma.boot_done)

    def piece(base):
        dest = rng.randrange(3)
        rows, beats = rng.randint(1, 4), rng.randint(1, longest)
        if longest > 1000:
            rows, beats, dest = 2, longest, 1
        beats += -beats % (config.beats_per_weight_row if dest == isa.DEST_WEIGHTS else 1)
        op = dict(rows=rows, beats=beats, dest=dest, base=base, dest_addr=rng.getrandbits(16))
        op["source"] = min(rng.getrandbits(26), (1 << 26) - rows * beats)
        op["data"], op["checksum"] = loads(rng, config, op)
        return op

    def check(base, ops):
        requests = [(base, op["source"] + row * op["beats"], op["beats"]) for op in ops for row in range(op["rows"])]
        assert memory.requests == requests[: len(memory.requests)]
        for dest, port in enumerate(ports[:3]):
            width, want = len(port.port.data) // 8, []
            for op in (o for o in ops if o["dest"] == dest):
                rows = [op["data"][i : i + width] for i in range(0, len(op["data"]), width)]
                want += [((op["dest_addr"] + i) % (1 << 16), int.from_bytes(r, "little")) for i, r in enumerate(rows)]
            assert port.log == want[: len(port.log)]
            if driver.finished:
                assert len(port.log) == len(want)
        if driver.finished:
            ends = [driver.done_cycles[sum(op["rows"] for op in ops[: i + 1]) - 1] for i in range(len(ops))]
            wrong = [op["checksum"] != signature(op["data"], size) for op in ops]
            assert damaged.cycles == [cycle for cycle, bad in zip(ends, wrong, strict=True) if bad]

    async def test(world):
        ctx = world.ctx
        for life in range(lives):
            base = rng.getrandbits(64)
            ctx.set(dma.base, base)
            memory.rates = rng.choice([(1, 1), (0.3, 0.8), (0.1, 1), (1, 0.5)])
            for port in ports:
                port.rate = rng.choice([1, 0.5, 0.2])
            if life % 2 == 0 and longest < 1000:  # a program first
                beats = rng.randint(1, 30)
                ctx.set(dma.boot.payload, beats)
                ctx.set(dma.boot.valid, 1)
                await world.until(lambda: memory.requests)
                ctx.set(dma.boot.valid, 0)
                await world.until(lambda: booted.cycles)
                await world.step(2)
                data = [int.from_bytes(content(base, beat, size), "little") for beat in range(beats)]
                assert memory.requests == [(base, 0, beats)] and ports[DEST_PROGRAM].log == list(enumerate(data))
                assert damaged.cycles == booted.cycles, "a program's signature is 0"
                assert not ctx.get(dma.busy) and driver.done == 0
                memory.reset()
            damaged.cycles.clear()
            booted.cycles.clear()
            ops = [piece(base) for _ in range(2 if longest > 1000 else 8)]
            for op in ops:
                driver.add(**{n: v for n, v in op.items() if n not in ("base", "data")})
            if life % 3 == 1:
                await world.step(rng.randrange(20, 300))
            else:
                await world.until(lambda: driver.finished)
                assert ctx.get(dma.busy) == 0
            check(base, ops)
            await reset(world, dma, memory, driver)
            damaged.cycles.clear()
            for port in ports:
                port.log.clear()

    simulate(dma, [memory, driver, *ports, damaged, booted], test)


@pytest.mark.parametrize("lives", [2, pytest.param(25, marks=LONG)])
def test_image_dma(lives):
    """Images and constants anywhere; some lives end with a reset in the midst of an instruction."""
    config, rng = TINY, random.Random(lives)
    dma, size = ImageDma(config), config.beat_bytes
    memory, driver = ReadSide(dma, config, rng), ChunkDriver(dma.ctl, 0.1, lives)
    port, damaged = Writes(dma.image_wr, rng), Pulses(dma.damaged)
    bases = [0, 0]

    def piece():
        job, rows, beats = rng.getrandbits(1), rng.randint(1, 4), config.beats_per_row * rng.randint(1, 8)
        op = dict(rows=rows, beats=beats, job=job, base=bases[job], out_addr=rng.getrandbits(16))
        op["source"] = min(rng.getrandbits(26), (1 << 26) - rows * beats)
        op["data"], op["checksum"] = loads(rng, config, op)
        return op

    def check(ops):
        requests = [(op["base"], op["source"] + r * op["beats"], op["beats"]) for op in ops for r in range(op["rows"])]
        assert memory.requests == requests[: len(memory.requests)]
        padded, want = config.beats_per_row * size, []
        for op in ops:
            rows = [op["data"][i : i + config.row_bytes] for i in range(0, len(op["data"]), padded)]
            want += [((op["out_addr"] + i) % (1 << 16), int.from_bytes(row, "little")) for i, row in enumerate(rows)]
        assert port.log == want[: len(port.log)]
        if driver.finished:
            wrong = [not op["job"] and op["checksum"] != signature(op["data"], size) for op in ops]
            assert len(port.log) == len(want) and len(damaged.cycles) == sum(wrong)

    async def test(world):
        for life in range(lives):
            bases[:] = rng.getrandbits(64), rng.getrandbits(64)
            world.ctx.set(dma.base, bases[0])
            world.ctx.set(dma.job_base, bases[1])
            memory.rates, port.rate = rng.choice([(1, 1), (0.3, 0.8), (0.1, 1), (1, 0.5)]), rng.choice([1, 0.5, 0.2])
            ops = [piece() for _ in range(8)]
            for op in ops:
                driver.add(**{n: v for n, v in op.items() if n not in ("base", "data")})
            if life % 3 == 1:
                await world.step(rng.randrange(20, 300))
            else:
                await world.until(lambda: driver.finished)
                assert world.ctx.get(dma.busy) == 0
            check(ops)
            await reset(world, dma, memory, driver)
            damaged.cycles.clear()
            port.log.clear()

    simulate(dma, [memory, driver, port, damaged], test)


class Rows:
    """A buffer with something else in each of 2^16 rows."""

    def __init__(self, config):
        self.config = config

    def __getitem__(self, address: int) -> bytes:
        return content(0, address, self.config.row_bytes)


class WriteSide:
    """The write master as a DMA sees it: one burst at a time, its beats, and some cycles later its response."""

    def __init__(self, dma, rng):
        self.dma, self.rng, self.rate = dma, rng, 1.0
        self.reset()

    def reset(self):
        self.bursts, self.beats, self.left, self.wait = [], [], 0, 0

    def drive(self, ctx):
        free = not self.left and not self.wait
        self.ready = int(free and self.rng.random() < self.rate), int(self.left > 0 and self.rng.random() < self.rate)
        ctx.set(self.dma.burst.ready, self.ready[0])
        ctx.set(self.dma.beat.ready, self.ready[1])
        ctx.set(self.dma.written, self.wait == 1)

    def sample(self, ctx, cycle):
        if self.wait:
            self.wait -= 1
        if self.ready[1]:
            assert ctx.get(self.dma.beat.valid), "a burst's beats are complete when it is offered"
            self.beats.append(ctx.get(self.dma.beat.payload))
            self.left -= 1
            if not self.left:
                self.wait = self.rng.randint(1, 20)
        if self.ready[0] and ctx.get(self.dma.burst.valid):
            payload = self.dma.burst.payload
            self.left = ctx.get(payload.len) + 1
            self.bursts.append((ctx.get(payload.addr), self.left))


@pytest.mark.parametrize(
    "lives, longest", [(2, 50), pytest.param(20, 90, marks=LONG), pytest.param(1, 3000, marks=LONG)]
)
def test_result_dma(lives, longest):
    """Results of any place and length to any address; some lives end with a reset in the midst of a row."""
    config, rng = TINY, random.Random(lives)
    dma, rows = ResultDma(config), Rows(config)
    memory, driver = WriteSide(dma, rng), ChunkDriver(dma.ctl, 0.1, lives)
    source = ReadSource(dma.result_rd, rows, 0.0, lives)

    def piece():
        op = dict(rows=rng.randint(1, 3), count=rng.randint(1, longest), in_addr=rng.getrandbits(16),
                  offset=rng.getrandbits(16), bank=rng.randrange(config.cores))  # fmt: skip
        op["in_addr"] = min(op["in_addr"], (1 << 16) - op["rows"] * op["count"])
        op["offset"] = min(op["offset"], (1 << 16) - op["rows"] * op["count"])
        return op

    def check(base, ops):
        bursts, beats = [], []
        for op in ops:
            units = -(-op["count"] * config.word * 8 // DATA_BITS)
            for row in range(op["rows"]):
                first = op["in_addr"] + row * op["count"]
                words = [rows[first + i][op["bank"] * config.word :][: config.word] for i in range(op["count"])]
                data = b"".join(words).ljust(16 * units, b"\0")
                beats += [int.from_bytes(data[i : i + 16], "little") for i in range(0, 16 * units, 16)]
                unit, end = op["offset"] + row * units, op["offset"] + (row + 1) * units
                while unit < end:
                    length = min(end - unit, burst_limit(config) - unit % burst_limit(config))
                    bursts.append(((base + 16 * unit) % (1 << 64), length))
                    unit += length
        assert memory.bursts == bursts[: len(memory.bursts)] and memory.beats == beats[: len(memory.beats)]
        if driver.finished:
            assert len(memory.bursts) == len(bursts) and len(memory.beats) == len(beats)

    async def test(world):
        for life in range(lives):
            base = rng.getrandbits(64) & -4096
            world.ctx.set(dma.base, base)
            memory.rate, source.stall = rng.choice([1, 0.5, 0.2]), rng.choice([0, 0.3, 0.8])
            ops = [piece() for _ in range(6)]
            for op in ops:
                driver.add(**op)
            if life % 3 == 1:
                await world.step(rng.randrange(20, 300))
            else:
                await world.until(lambda: driver.finished, 60000)
                assert world.ctx.get(dma.busy) == 0
            check(base, ops)
            await reset(world, dma, memory, driver)
            source.pipe = [None, None]

    simulate(dma, [memory, driver, source], test)
