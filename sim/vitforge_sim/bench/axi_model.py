"""Models for Amaranth's own simulator: AXI4 memory, AXI4-Lite driver, sequencer, buffer ports, stepped together.

Each cycle every model first drives its signals, from its own state and a seeded random generator alone, then every
model looks at the settled handshakes, then the clock ticks: the order of the models does not matter.
"""

import random
from collections import deque

BEAT = 16


class World:
    """All models around one design. ``await step()`` is one cycle.

    ctx: simulator context; models: objects with drive(ctx) and sample(ctx, cycle).
    """

    def __init__(self, ctx, models):
        self.ctx, self.models, self.cycle = ctx, list(models), 0

    async def step(self, cycles: int = 1):
        for _ in range(cycles):
            for model in self.models:
                model.drive(self.ctx)
            for model in self.models:
                model.sample(self.ctx, self.cycle)
            await self.ctx.tick()
            self.cycle += 1

    async def until(self, condition, limit: int = 20000):
        """Step until ``condition()``; AssertionError after ``limit`` cycles."""
        for _ in range(limit):
            if condition():
                return
            await self.step()
        raise AssertionError(f"nothing after {limit} cycles")


class AxiMemory:
    """DRAM behind AXI4 masters, with checks of the protocol.

    ports: AXI4 interfaces; memory: bytearray that begins at byte address ``base``; latency: (low, high) cycles from AR
    to the first R beat and from the last W to B; stall: probability that a channel does not move in a cycle;
    bandwidth is one beat per master and cycle; ids may overtake each other; read_errors, write_errors: {address of a
    beat or burst: response}.
    """

    def __init__(self, ports, memory: bytearray, latency=(1, 20), stall=0.2, seed=0, burst_beats=16, base=0):
        self.memory, self.latency, self.stall, self.limit, self.base = memory, latency, stall, burst_beats, base
        self.rng = random.Random(seed)
        self.read_errors, self.write_errors = {}, {}
        self.reads, self.writes = [], []  # (cycle, master, id, address, beats)
        self.read_beats = 0
        self.frozen = False  # answers nothing
        self.masters = [_Master(self, port, number) for number, port in enumerate(ports)]

    def read(self, address: int) -> int:
        offset = address - self.base
        assert 0 <= offset <= len(self.memory) - BEAT, f"read outside the memory: {address:#x}"
        return int.from_bytes(self.memory[offset : offset + BEAT], "little")

    @property
    def outstanding(self) -> int:
        return sum(len(q) for m in self.masters for q in m.queues.values()) + sum(m.writing for m in self.masters)

    def drive(self, ctx):
        for master in self.masters:
            master.drive(ctx)

    def aresetn(self):
        """The masters are being reset, this memory is not: what waits may be taken back, the rest is answered."""
        for master in self.masters:
            master.held.clear()

    def sample(self, ctx, cycle):
        for master in self.masters:
            master.sample(ctx, cycle)


class _Master:
    def __init__(self, memory: AxiMemory, port, number: int):
        self.memory, self.port, self.number = memory, port, number
        self.queues = {}  # id -> deque of [ready cycle, address, beats left]
        self.current = None  # beat on the R channel
        self.held = {}  # channel -> payload that must stay
        self.cycle = 0
        self.write = self.response = None
        self.write_id = 0
        self.data_seen = []
        self.aw_ready = self.w_ready = self.ar_ready = 0

    @property
    def writing(self) -> bool:
        return self.write is not None or self.response is not None

    def moves(self) -> bool:
        return not self.memory.frozen and self.memory.rng.random() >= self.memory.stall

    def drive(self, ctx):
        p = self.port
        self.ar_ready = int(self.moves())
        ctx.set(p.arready, self.ar_ready)
        if self.current is None and self.moves():
            ready = [i for i, q in self.queues.items() if q and q[0][0] <= self.cycle + 1]
            if ready:
                name = self.memory.rng.choice(ready)
                _, address, left = self.queues[name][0]
                self.current = (name, address, left)
        if self.current is not None:
            name, address, left = self.current
            ctx.set(p.rid, name)
            ctx.set(p.rdata, self.memory.read(address))
            ctx.set(p.rresp, self.memory.read_errors.get(address, 0))
            ctx.set(p.rlast, left == 1)
        ctx.set(p.rvalid, self.current is not None)
        self.aw_ready = int(self.write is None and self.response is None and self.moves())
        self.w_ready = int(self.response is None and self.moves())
        ctx.set(p.awready, self.aw_ready)
        ctx.set(p.wready, self.w_ready)
        answer = self.response is not None and self.response[0] <= self.cycle + 1 and not self.memory.frozen
        ctx.set(p.bvalid, answer)
        if answer:
            ctx.set(p.bid, self.write_id)
            ctx.set(p.bresp, self.response[1])

    def stable(self, ctx, channel: str, names: str, ready: int):
        """A channel that was valid without ready stays as it is."""
        p = self.port
        valid = ctx.get(getattr(p, channel + "valid"))
        now = tuple(ctx.get(getattr(p, channel + n)) for n in names.split()) if valid else None
        if channel in self.held:
            assert now == self.held[channel], f"{channel} changed while it waited"
        self.held.pop(channel, None)
        if valid and not ready:
            self.held[channel] = now
        return valid and ready

    def check_burst(self, ctx, prefix: str) -> tuple[int, int]:
        p = self.port
        address, beats = ctx.get(getattr(p, prefix + "addr")), ctx.get(getattr(p, prefix + "len")) + 1
        assert address % BEAT == 0 and beats <= self.memory.limit
        assert address // 4096 == (address + beats * BEAT - 1) // 4096, "burst across 4 KiB"
        assert ctx.get(getattr(p, prefix + "size")) == 4 and ctx.get(getattr(p, prefix + "burst")) == 1
        return address, beats

    def sample(self, ctx, cycle):
        p, memory, self.cycle = self.port, self.memory, cycle
        latency = memory.rng.randint(*memory.latency)
        if self.stable(ctx, "ar", "id addr len", self.ar_ready):
            address, beats = self.check_burst(ctx, "ar")
            assert address // 256 == (address + beats * BEAT - 1) // 256, "burst across a run of 256 bytes"
            name = ctx.get(p.arid)
            memory.reads.append((cycle, self.number, name, address, beats))
            self.queues.setdefault(name, deque()).append([cycle + latency, address, beats])
        if self.current is not None:
            assert ctx.get(p.rready), "RREADY must never drop: the space is reserved"
            name, address, left = self.current
            memory.read_beats += 1
            self.current = None
            queue = self.queues[name]
            if left == 1:
                queue.popleft()
            else:
                queue[0][1:] = [address + BEAT, left - 1]
        if self.stable(ctx, "aw", "id addr len", self.aw_ready):
            self.write, self.write_id = self.check_burst(ctx, "aw"), ctx.get(p.awid)
            memory.writes.append((cycle, self.number, 0, *self.write))
        if self.stable(ctx, "w", "data strb last", self.w_ready):
            self.data_seen.append((ctx.get(p.wdata), ctx.get(p.wstrb), ctx.get(p.wlast)))
        if self.response is not None and ctx.get(p.bready) and ctx.get(p.bvalid):
            self.response = None
        elif self.write is not None and len(self.data_seen) >= self.write[1]:
            address, beats = self.write
            assert len(self.data_seen) == beats, "more W beats than AWLEN says"
            for i, (value, strobe, last) in enumerate(self.data_seen):
                assert last == (i == beats - 1), "WLAST"
                where = address + i * BEAT
                for byte in range(BEAT):
                    if strobe >> byte & 1:
                        memory.memory[where - memory.base + byte] = value >> (8 * byte) & 255
            self.data_seen, self.write = [], None
            self.response = (cycle + latency, memory.write_errors.get(address, 0))


class AxiLite:
    """AXI4-Lite master: ``await write(address, value)``, ``await read(address)``; AW and W in random order."""

    def __init__(self, bus, seed=0):
        self.bus, self.rng, self.world = bus, random.Random(seed), None
        self.aw = self.w = self.ar = None
        self.waiting, self.result = False, None

    def drive(self, ctx):
        b = self.bus
        for valid, payload, value in (
            (b.awvalid, b.awaddr, self.aw),
            (b.wvalid, b.wdata, self.w),
            (b.arvalid, b.araddr, self.ar),
        ):
            on = value is not None and (ctx.get(valid) or self.rng.random() < 0.7)
            ctx.set(valid, on)
            if on:
                ctx.set(payload, value)
        ctx.set(b.bready, self.rng.random() < 0.7)
        ctx.set(b.rready, self.rng.random() < 0.7)

    def sample(self, ctx, cycle):
        b = self.bus
        if ctx.get(b.awvalid) and ctx.get(b.awready):
            self.aw = None
        if ctx.get(b.wvalid) and ctx.get(b.wready):
            self.w = None
        if ctx.get(b.arvalid) and ctx.get(b.arready):
            self.ar = None
        if ctx.get(b.bvalid) and ctx.get(b.bready):
            assert self.aw is None and self.w is None and ctx.get(b.bresp) == 0
            self.waiting = False
        if ctx.get(b.rvalid) and ctx.get(b.rready):
            assert self.ar is None and ctx.get(b.rresp) == 0
            self.result, self.waiting = ctx.get(b.rdata), False

    async def write(self, address: int, value: int, strobe: int = 15):
        self.world.ctx.set(self.bus.wstrb, strobe)
        self.aw, self.w, self.waiting = address, value & 0xFFFFFFFF, True
        await self.world.until(lambda: not self.waiting, 100)

    async def read(self, address: int) -> int:
        self.ar, self.waiting = address, True
        await self.world.until(lambda: not self.waiting, 100)
        return self.result


class ChunkDriver:
    """The sequencer's side of ChunkControl: a list of ops (dicts with rows), random pauses; counts ``done``."""

    def __init__(self, ctl, pause=0.0, seed=0):
        self.ctl, self.pause, self.rng = ctl, pause, random.Random(seed)
        self.reset()

    def reset(self):
        self.ops, self.rows = deque(), deque()  # rows: flags of rows that may start
        self.done, self.wanted, self.done_cycles, self.go_cycles = 0, 0, [], []
        self.on = [0, 0]

    def add(self, **op):
        self.ops.append(op)
        self.wanted += op["rows"]

    def drive(self, ctx):
        ctl = self.ctl
        for i, (port, have) in enumerate(((ctl.op, self.ops), (ctl.go, self.rows))):
            self.on[i] = int(bool(have) and (self.on[i] or self.rng.random() >= self.pause))
            ctx.set(port.valid, self.on[i])
        if self.on[0]:
            ctx.set(ctl.op.payload, self.ops[0])
        if self.on[1]:
            ctx.set(ctl.go.payload, self.rows[0])

    def sample(self, ctx, cycle):
        ctl = self.ctl
        go = self.on[1] and ctx.get(ctl.go.ready)
        if ctx.get(ctl.done):
            self.done += 1
            self.done_cycles.append(cycle)
        if go:
            self.rows.popleft()
            self.go_cycles.append(cycle)
            self.on[1] = 0
        if self.on[0] and ctx.get(ctl.op.ready):
            rows = self.ops.popleft()["rows"]
            self.rows.extend(int(r == rows - 1) for r in range(rows))
            self.on[0] = 0

    @property
    def finished(self) -> bool:
        return self.done == self.wanted


class WriteSink:
    """A buffer or weight write port: {row: bytearray}; ``columns`` equal slices selected by the mask."""

    def __init__(self, port, row_bytes: int, columns: int, stall=0.0, seed=0):
        self.port, self.row_bytes, self.columns = port, row_bytes, columns
        self.stall, self.rng = stall, random.Random(seed)
        self.rows, self.log = {}, []  # log: (cycle, row, mask)
        self.ready = 0

    def drive(self, ctx):
        self.ready = int(self.rng.random() >= self.stall)
        ctx.set(self.port.ready, self.ready)

    def sample(self, ctx, cycle):
        if not (self.ready and ctx.get(self.port.valid)):
            return
        row, mask = ctx.get(self.port.addr), ctx.get(self.port.mask)
        data = ctx.get(self.port.data).to_bytes(self.row_bytes, "little")
        target = self.rows.setdefault(row, bytearray(self.row_bytes))
        size = self.row_bytes // self.columns
        for i in range(self.columns):
            if mask >> i & 1:
                target[i * size : (i + 1) * size] = data[i * size : (i + 1) * size]
        self.log.append((cycle, row, mask))

    def bytes(self, row: int, count: int) -> bytes:
        return b"".join(bytes(self.rows[row + i]) for i in range(count))


class ReadSource:
    """A buffer read port: ``rows[address]`` (bytes) two cycles after the request."""

    def __init__(self, port, rows, stall=0.0, seed=0):
        self.port, self.rows, self.stall, self.rng = port, rows, stall, random.Random(seed)
        self.pipe = [None, None]
        self.ready = 0

    def drive(self, ctx):
        self.ready = int(self.rng.random() >= self.stall)
        ctx.set(self.port.ready, self.ready)
        ctx.set(self.port.data_valid, self.pipe[0] is not None)
        # data without data_valid must not matter
        ctx.set(self.port.data, self.rng.getrandbits(32) if self.pipe[0] is None else self.pipe[0])

    def sample(self, ctx, cycle):
        request = None
        if self.ready and ctx.get(self.port.valid):
            request = int.from_bytes(self.rows[ctx.get(self.port.addr)], "little")
        self.pipe = [self.pipe[1], request]
