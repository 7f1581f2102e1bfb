"""A component in Amaranth's simulator with memories on its ports that stall at random; replayed on its Verilog."""

import dataclasses
import random

import numpy as np
from amaranth import Const
from amaranth.lib import wiring

from .replay import USUAL, Simulator


@dataclasses.dataclass
class Record:
    """What a run did; cycles count from 0, an event's cycle is the one whose clock edge made it happen."""

    reads: list[tuple] = dataclasses.field(default_factory=list)  #: (cycle, address)
    writes: list[tuple[int, int, int, int]] = dataclasses.field(default_factory=list)  #: (cycle, address, data, mask)
    ops: list[int] = dataclasses.field(default_factory=list)  #: cycles of accepted instructions
    goes: list[int] = dataclasses.field(default_factory=list)  #: cycles of accepted `go`
    done: list[int] = dataclasses.field(default_factory=list)  #: cycles with `done`
    watched: dict[str, list[tuple]] = dataclasses.field(default_factory=dict)


class PortBench:
    """Processes for a component's ports, each on its own, and the record that they write.

    dut: the component, or an object around several; seed and `stall` (probability that a port is not ready in a
    cycle); `stalled`: names of what stalls ("rd", "wr", and what the bench asks `free` for); simulators: where the
    emitted Verilog of dut, or of its components, repeats the run.
    """

    def __init__(self, dut, *, stall: float = 0.0, stalled=("rd", "wr", "go", "op"), seed: int = 1, simulators=USUAL):
        self.dut, self.stall, self.stalled = dut, stall, stalled
        self.rng = random.Random(seed)
        self.record = Record()
        parts = [dut] if isinstance(dut, wiring.Component) else vars(dut).values()
        components = [part for part in parts if isinstance(part, wiring.Component)]
        self.sim = Simulator(dut, components=components, simulators=simulators)
        self.sim.add_clock(1e-6)

    def free(self, what: str) -> bool:
        """Whether ``what`` goes on in this cycle."""
        return what not in self.stalled or self.rng.random() >= self.stall

    def add(self, function, *args):
        """Run ``function(ctx, *args)`` as a process."""

        async def process(ctx):
            await function(ctx, *args)

        self.sim.add_process(process)

    async def offer(self, ctx, port, items, what: str, log: list[int], may=lambda n: True):
        """Transfer items over a stream, item n not before ``may(n)``; an offer stays until it is taken."""
        cycle = 0
        for n, item in enumerate(items):
            while not (may(n) and self.free(what)):
                ctx.set(port.valid, 0)
                await ctx.tick()
                cycle += 1
            ctx.set(port.valid, 1)
            ctx.set(port.payload, item)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(port.ready)
                cycle += 1
            log.append(cycle - 1)
        ctx.set(port.valid, 0)

    def read_port(self, port, read, fields=("addr",), log=None):
        """Serve a BufferRead port from read(*fields), two cycles after acceptance; data is poisoned otherwise. Of a
        port with pairs, ``fields`` are the address alone.

        log: list of (cycle, *fields) of the accepted reads (default: record.reads).
        """
        log = self.record.reads if log is None else log

        pairs = hasattr(port, "pair")

        async def process(ctx):
            pipe, seconds, cycle = [None], [None], 0
            while True:
                ready = int(self.free("rd"))
                ctx.set(port.ready, ready)
                _, _, valid, pair, *what = await ctx.tick().sample(
                    port.valid, port.pair if pairs else port.valid, *(getattr(port, name) for name in fields)
                )
                if valid and ready:
                    log.append((cycle, *what))
                pipe.append(read(*what) if valid and ready else None)
                value = pipe.pop(0)
                ctx.set(port.data_valid, value is not None)
                ctx.set(port.data, self.rng.getrandbits(len(port.data)) if value is None else value)
                if pairs:
                    assert not (valid and pair and what[0] % 2), f"a pair from odd row {what[0]}"
                    seconds.append(read(what[0] + 1) if valid and ready and pair else None)
                    second = seconds.pop(0)
                    ctx.set(port.second, self.rng.getrandbits(len(port.second)) if second is None else second)
                cycle += 1

        self.sim.add_process(process)

    def rotated_port(self, port, memory):
        """Serve a BufferRead port with ``rotate`` from bytes memory[row, bank, channel]."""
        cores = range(memory.shape[1])

        def read(addr, addr_upper, upper, offset):
            assert addr < len(memory), "an address outside the tensor"
            banks = [memory[(addr_upper if upper >> b & 1 else addr) % len(memory), b] for b in cores]
            return int.from_bytes(np.stack([banks[(i + offset) % len(cores)] for i in cores]).tobytes(), "little")

        self.read_port(port, read, ("addr", "addr_upper", "upper", "offset"))

    def memory_port(self, port, read):
        """Serve a MemoryRead port from read(addr), two cycles after the address; with ``en``, what was not asked for is
        wrong in every bit."""
        wanted = getattr(port, "en", Const(1, 1))

        async def process(ctx):
            previous, wrong = 0, 0
            while True:
                _, _, addr, en = await ctx.tick().sample(port.addr, wanted)
                ctx.set(port.data, read(previous) ^ wrong)
                previous, wrong = addr, 0 if en else (1 << len(port.data)) - 1

        self.sim.add_process(process)

    def write_port(self, port, write=None, log=None):
        """Accept writes of a BufferWrite or WeightWrite port.

        write(addr, data, mask): makes a write visible to reads that are accepted two cycles after it; log: list of
        (cycle, address, data, mask) of the accepted writes (default: record.writes).
        """
        log = self.record.writes if log is None else log

        async def process(ctx):
            cycle, held, late = 0, None, None
            while True:
                ready = int(self.free("wr"))
                ctx.set(port.ready, ready)
                _, _, valid, *what = await ctx.tick().sample(port.valid, port.addr, port.data, port.mask)
                if held is not None:
                    assert valid and what == held, "a write must stay until it is accepted"
                held = what if valid and not ready else None
                if write and late is not None:
                    write(*late)
                late = what if valid and ready else None
                if late is not None:
                    log.append((cycle, *what))
                cycle += 1

        self.sim.add_process(process)

    def watch(self, name: str, valid, *signals):
        """Record (cycle, values of signals) whenever ``valid``."""
        log = self.record.watched[name] = []

        async def process(ctx):
            cycle = 0
            async for _, _, on, *values in ctx.tick().sample(valid, *signals):
                if on:
                    log.append((cycle, *values))
                cycle += 1

        self.sim.add_process(process)
