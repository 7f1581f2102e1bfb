"""A chunk alone: behavioural memories, the sequencer's side of its control port, records; replayed on its Verilog."""

import dataclasses
import random

from amaranth.lib import wiring

from vitforge_hw.arch.isa import Field

from .replay import BOTH, Simulator


@dataclasses.dataclass
class Record:
    """What a run did; cycles count from 0, an event's cycle is the one whose clock edge made it happen."""

    reads: list[tuple[int, int]] = dataclasses.field(default_factory=list)  #: (cycle, address)
    writes: list[tuple[int, int, int, int]] = dataclasses.field(default_factory=list)  #: (cycle, address, data, mask)
    ops: list[int] = dataclasses.field(default_factory=list)  #: cycles of accepted instructions
    goes: list[int] = dataclasses.field(default_factory=list)  #: cycles of accepted `go`
    done: list[int] = dataclasses.field(default_factory=list)  #: cycles with `done`
    watched: dict[str, list[tuple]] = dataclasses.field(default_factory=dict)


class ChunkBench:
    """Drives one chunk through a list of instructions.

    dut: component with `ctl`; instructions: dicts of `rows` and op fields; seed and `stall` (probability that a port
    is not ready, or no `go` is offered, in a cycle); `stalled`: which of "rd", "wr", "go", "op" stall;
    simulators: where the emitted Verilog of dut, or of its components, repeats the run.
    """

    def __init__(
        self, dut, instructions, *, stall: float = 0.0, stalled=("rd", "wr", "go", "op"), seed: int = 1, simulators=BOTH
    ):
        self.dut, self.instructions = dut, instructions
        self.stall, self.stalled = stall, stalled
        self.rng = random.Random(seed)
        self.record = Record()
        parts = [dut] if isinstance(dut, wiring.Component) else vars(dut).values()
        components = [part for part in parts if isinstance(part, wiring.Component)]
        self.sim = Simulator(dut, components=components, simulators=simulators)
        self.sim.add_clock(1e-6)
        self.rows = sum(i["rows"] for i in instructions)
        self.sim.add_process(self._ops)
        self.sim.add_process(self._goes)

    def _free(self, what: str) -> bool:
        return what not in self.stalled or self.rng.random() >= self.stall

    async def _offer(self, ctx, port, items, what, log):
        """Transfer items over a stream; an offer stays until it is taken."""
        cycle = 0
        for item in items:
            while not self._free(what):
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

    async def _ops(self, ctx):
        await self._offer(ctx, self.dut.ctl.op, self.instructions, "op", self.record.ops)

    async def _goes(self, ctx):
        last = [int(r == i["rows"] - 1) for i in self.instructions for r in range(i["rows"])]
        await self._offer(ctx, self.dut.ctl.go, last, "go", self.record.goes)

    def read_port(self, port, read):
        """Serve a BufferRead port from read(addr), two cycles after acceptance; data is poisoned otherwise."""

        async def process(ctx):
            ready, pipe, cycle = 0, [None], 0
            bits = len(port.data)
            while True:
                ready = int(self._free("rd"))
                ctx.set(port.ready, ready)
                _, _, valid, addr = await ctx.tick().sample(port.valid, port.addr)
                if valid and ready:
                    self.record.reads.append((cycle, addr))
                pipe.append(read(addr) if valid and ready else None)
                value = pipe.pop(0)
                ctx.set(port.data_valid, value is not None)
                ctx.set(port.data, self.rng.getrandbits(bits) if value is None else value)
                cycle += 1

        self.sim.add_process(process)

    def memory_port(self, port, read):
        """Serve a MemoryRead port from read(addr), two cycles after the address."""

        async def process(ctx):
            previous = 0
            while True:
                _, _, addr = await ctx.tick().sample(port.addr)
                ctx.set(port.data, read(previous))
                previous = addr

        self.sim.add_process(process)

    def write_port(self, port, write=None):
        """Accept and record writes of a BufferWrite or WeightWrite port."""

        async def process(ctx):
            cycle, held = 0, None
            while True:
                ready = int(self._free("wr"))
                ctx.set(port.ready, ready)
                _, _, valid, *what = await ctx.tick().sample(port.valid, port.addr, port.data, port.mask)
                if held is not None:
                    assert valid and what == held, "a write must stay until it is accepted"
                held = what if valid and not ready else None
                if valid and ready:
                    self.record.writes.append((cycle, *what))
                cycle += 1

        self.sim.add_process(process)

    def watch(self, name, valid, *signals):
        """Record (cycle, values of signals) whenever ``valid``."""
        log = self.record.watched[name] = []

        async def process(ctx):
            cycle = 0
            async for _, _, on, *values in ctx.tick().sample(valid, *signals):
                if on:
                    log.append((cycle, *values))
                cycle += 1

        self.sim.add_process(process)

    def run(self, limit: int, after: int = 20) -> Record:
        """Run until every row is done and `after` cycles more; raises TimeoutError beyond `limit` cycles."""

        async def main(ctx):
            cycle = 0
            while len(self.record.done) < self.rows:
                if cycle > limit:
                    raise TimeoutError(f"{len(self.record.done)} of {self.rows} rows done after {limit} cycles")
                _, _, done = await ctx.tick().sample(self.dut.ctl.done)
                if done:
                    self.record.done.append(cycle)
                cycle += 1
            for _ in range(after):
                _, _, done = await ctx.tick().sample(self.dut.ctl.done)
                assert not done, "done without a row"

        self.sim.add_testbench(main)
        self.sim.run()
        return self.record


def pack_entries(fields: tuple[Field, ...], entries: list[dict[str, int]], beat_bytes: int) -> list[int]:
    """Parameter entries of 8 bytes each to beats."""
    from vitforge_hw.arch import isa

    raw = b"".join(isa.pack(fields, e, "entry").to_bytes(isa.PARAM_BYTES, "little") for e in entries)
    raw += bytes(-len(raw) % beat_bytes)
    return [int.from_bytes(raw[i : i + beat_bytes], "little") for i in range(0, len(raw), beat_bytes)]
