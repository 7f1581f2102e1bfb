"""The read side of all master ports alone: requests anywhere in 64 bits of address, answers out of order, errors, and
answers that nobody waits for."""

import dataclasses
import hashlib
import random
from collections import deque

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.memmap import BASE_ALIGNMENT
from vitforge_hw.host.axi import DATA_BITS
from vitforge_hw.host.read_engine import BEATS_BITS, ReadEngine
from vitforge_sim.bench.replay import Resettable, Simulator

TINY = get_config("tiny")
WIDE = dataclasses.replace(TINY, name="wide", masters=2, burst_beats=8, read_fifo_beats=64)
BEAT, RUN = 16, 256  #: bytes; of a run that one master has
TOP = 1 << 64


def content(address: int) -> tuple[int, int]:
    """Data and response of a memory that has something else everywhere."""
    digest = hashlib.blake2b(address.to_bytes(8), digest_size=17).digest()
    return int.from_bytes(digest[:16]), 2 + digest[16] % 2 if digest[16] < 6 else 0


def place(base: int, beat: int, master: int, masters: int) -> int:
    """Address of a master's part of a beat of the striped image at ``base``."""
    return (base + beat // 16 * RUN * masters + master * RUN + beat % 16 * BEAT) % TOP


class Port:
    """The memory behind one master: bursts in any order of their ids, beats that nobody asked for."""

    def __init__(self, axi, config, rng):
        self.axi, self.config, self.rng = axi, config, rng
        self.bursts: list[list] = []  # [id, address, beats left]
        self.old: list[list] = []  # of a time before aresetn
        self.beat = None  # (id, address, is stray) on R
        self.asked: list[tuple[int, int, int]] = []

    def drive(self, ctx, rate: float, epoch: int):
        a, rng = self.axi, self.rng
        self.ready = int(rng.random() < rate)
        ctx.set(a.arready, self.ready)
        self.beat = None
        dice = rng.random()
        if dice < 0.02:  # an id of another epoch, or one of which nothing is outstanding
            ids = [i for i in range(16) if i >> 1 != epoch or not any(i == burst[0] for burst in self.bursts)]
            self.beat = rng.choice(ids), rng.getrandbits(64), True
        elif dice < rate:
            source = rng.choice([self.bursts, self.old] if self.old else [self.bursts])
            firsts = {burst[0]: burst for burst in reversed(source)}
            if firsts:
                burst = rng.choice(list(firsts.values()))
                self.beat = burst[0], burst[1], source is self.old
                burst[1:] = [(burst[1] + BEAT) % TOP, burst[2] - 1]
                if not burst[2]:
                    source.remove(burst)
        ctx.set(a.rvalid, self.beat is not None)
        number, address, _ = self.beat or (rng.getrandbits(4), rng.getrandbits(64), False)
        ctx.set(a.rid, number)
        data, resp = content(address)
        ctx.set(a.rdata, data)
        ctx.set(a.rresp, resp)
        ctx.set(a.rlast, rng.getrandbits(1))

    def sample(self, ctx, attributes: int):
        a = self.axi
        assert ctx.get(a.rready)
        if not (self.ready and ctx.get(a.arvalid)):
            return
        address, length, number = ctx.get(a.araddr), ctx.get(a.arlen) + 1, ctx.get(a.arid)
        assert address // RUN == (address + length * BEAT - 1) // RUN and length <= self.config.burst_beats
        assert (ctx.get(a.arsize), ctx.get(a.arburst), ctx.get(a.arlock), ctx.get(a.arqos)) == (4, 1, 0, 0)
        assert attributes == ctx.get(a.arcache) | ctx.get(a.arprot) << 4 | ctx.get(a.aruser) << 7
        self.bursts.append([number, address, length])


class Bench:
    """ReadEngine, its memories, two requesters and receivers; ``step`` is one cycle."""

    def __init__(self, config, seed):
        self.config, self.rng = config, random.Random(seed)
        self.dut = ReadEngine(config)
        self.top = Resettable(self.dut)
        self.ports = [Port(getattr(self.dut, f"m_axi{i}"), config, self.rng) for i in range(config.masters)]
        self.epoch = self.attributes = self.delivered = self.failed = 0
        self.memory, self.ask, self.take = 1.0, 1.0, (1.0, 1.0)  # chances of a move in a cycle
        self.forget()

    def forget(self):
        self.offers = [None, None]
        self.due = deque(), deque()  # per queue: (base, beat, beats left) of what must come
        self.unsure = deque(), deque()  # the same of what no error has been told of
        self.told, self.faulty = [0, 0], [0, 0]

    def faults(self, base: int, beat: int) -> list[tuple[int, int]]:
        """Address and response of each master's wrong response for a beat."""
        masters = self.config.masters
        parts = [place(base, beat, m, masters) for m in range(masters)]
        return [(part, content(part)[1]) for part in parts if content(part)[1]]

    def next_fault(self, q: int) -> tuple[int, int] | None:
        """Of the beats that no error was told of, the next one's first wrong response; None: not among the next 300."""
        for _ in range(300):
            if not self.unsure[q]:
                break
            base, beat, left = self.unsure[q].popleft()
            if left > 1:
                self.unsure[q].appendleft((base, beat + 1, left - 1))
            if faults := self.faults(base, beat):
                return faults[0]
        return None

    async def step(self, ctx, *, reset=0, clear=0, stop=0, longest=0):
        """longest: of a new request, in beats; 0: none begins."""
        rng, dut = self.rng, self.dut
        for name, level in {"reset": clear, "stop": stop, "epoch": self.epoch}.items():
            ctx.set(getattr(dut, name), level)
        ctx.set(dut.attributes.as_value(), self.attributes)
        ctx.set(self.top.reset, reset)
        for port in self.ports:
            port.drive(ctx, self.memory, self.epoch)
        takes = [int(rng.random() < rate) for rate in self.take]
        for q in (0, 1):
            request = getattr(dut, f"request{q}")
            if self.offers[q] is None and longest and rng.random() < self.ask:
                beats = rng.choice([1, 2, 20, rng.randint(1, longest), rng.randint(1, longest)])
                self.offers[q] = rng.getrandbits(64) & -BASE_ALIGNMENT, rng.getrandbits(26), beats
            ctx.set(request.valid, self.offers[q] is not None)
            fields = self.offers[q] or (rng.getrandbits(64), rng.getrandbits(26), rng.getrandbits(BEATS_BITS))
            ctx.set(request.payload, dict(zip(("base", "beat", "beats"), fields, strict=True)))
            ctx.set(getattr(dut, f"beat{q}").ready, takes[q])
        self._look(ctx, takes)
        await ctx.tick()

    def _look(self, ctx, takes):
        dut, masters = self.dut, self.config.masters
        assert ctx.get(dut.stray) == any(p.beat is not None and p.beat[2] for p in self.ports)
        assert ctx.get(dut.moved) == any(p.beat is not None for p in self.ports)
        if ctx.get(dut.idle):
            assert not any(p.bursts for p in self.ports)
        for port in self.ports:
            port.sample(ctx, self.attributes)
        if ctx.get(dut.error):
            which = [q for q in (0, 1) if ctx.get(dut.error_queue) >> q & 1]
            found = [self.next_fault(q) for q in which]
            assert (ctx.get(dut.error_addr), ctx.get(dut.error_resp)) == found[0] and all(found)
            for q in which:
                self.told[q] += 1
        for q in (0, 1):
            request, beat = getattr(dut, f"request{q}"), getattr(dut, f"beat{q}")
            if takes[q] and ctx.get(beat.valid):
                base, number, left = self.due[q].popleft()
                if left > 1:
                    self.due[q].appendleft((base, number + 1, left - 1))
                parts = [content(place(base, number, m, masters))[0] for m in range(masters)]
                assert ctx.get(beat.payload.data) == sum(part << DATA_BITS * m for m, part in enumerate(parts))
                assert ctx.get(beat.payload.last) == (left == 1)
                self.faulty[q] += bool(self.faults(base, number))
                assert self.told[q] >= self.faulty[q]
                self.delivered += 1
            if self.offers[q] and ctx.get(request.ready):
                self.due[q].append(self.offers[q])
                self.unsure[q].append(self.offers[q])
                self.offers[q] = None

    async def stop(self, ctx):
        """No further burst; what is outstanding comes back, nothing after it."""
        self.offers = [None, None]
        for _ in range(2000):
            await self.step(ctx, stop=1)
            if ctx.get(self.dut.idle):
                break
        assert not any(port.bursts for port in self.ports)
        await self.step(ctx, stop=1, clear=1)
        self.failed += sum(self.told)
        self.forget()

    async def aresetn(self, ctx):
        """In the midst of it: the memories answer all the same, in the next epoch."""
        idle = ctx.get(self.dut.idle)
        await self.step(ctx, reset=1)
        self.epoch = (self.epoch + (not idle)) % 8
        for port in self.ports:
            port.old = [burst for burst in port.old + port.bursts if burst[0] >> 1 != self.epoch]
            port.bursts.clear()
        self.failed += sum(self.told)
        self.forget()
        await self.step(ctx, reset=1)


@pytest.mark.parametrize(
    "config, lives",
    [(TINY, 2), pytest.param(TINY, 30, marks=pytest.mark.slow), pytest.param(WIDE, 15, marks=pytest.mark.slow)],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_read_engine(config, lives):
    """Each life ends with aresetn or a stop; every third has requests of up to 2^20 beats, which it does not finish."""
    bench = Bench(config, lives)

    async def test(ctx):
        rng = bench.rng
        await bench.step(ctx)
        for life in range(lives):
            bench.attributes = rng.getrandbits(8)
            longest = (1 << BEATS_BITS) - 1 if life % 3 == 1 else rng.choice([40, 200])
            bench.ask = rng.choice([1, 0.3])
            for _ in range(4):
                bench.memory = rng.choice([1, 1, 0.7, 0.3])
                bench.take = [rng.choice([1, 0.5, 0.05, 0.02]) for _ in range(2)]
                for _ in range(100):
                    await bench.step(ctx, longest=longest)
            if life % 3 == 0:  # all that was asked for
                bench.memory, bench.take = 0.7, [1, 1]
                for _ in range(12000):
                    await bench.step(ctx)
                    if not any((*bench.offers, *bench.due)):
                        break
                assert not any((*bench.offers, *bench.due)) and bench.told == bench.faulty
            await (bench.aresetn if rng.random() < 0.6 else bench.stop)(ctx)

    simulator = Simulator(bench.top, simulators=("icarus",))
    simulator.add_clock(1e-8)
    simulator.add_testbench(test)
    simulator.run()
    assert bench.delivered > 100 * lives and bench.failed > lives
