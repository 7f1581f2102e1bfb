"""A sequencer alone, cycle by cycle against a plain model: random programs, waits, counters, stalls of everything that
it talks to."""

import random
from dataclasses import dataclass

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.control.sequencer import Sequencer
from vitforge_sim.bench.replay import Simulator

BITS = 8 * isa.INSTRUCTION_BYTES
COUNTERS = len(isa.Chunk)
WORD = 1 << 32


@dataclass(frozen=True)
class Row:
    """What the ports of the rows show: a row may begin (and is the last), or waits for so manyth wait."""

    go: bool = False
    last: bool = False
    waiting: int = isa.WAITS


QUIET = Row()


def word(rng, rows: int, waits: int, source: int = 0) -> int:
    """An instruction of 512 random bits, whose first so many waits are enabled, for counters from ``source`` on."""
    bits = rng.getrandbits(BITS) & ~sum(1 << i * isa.WAIT_BITS for i in range(isa.WAITS))
    for i in range(waits):
        fields = {f.name: rng.randint(*f.range) for f in isa.WAIT_FIELDS}
        fields |= {"enable": 1, "src": (source + i) % COUNTERS}
        if rng.random() < 0.5:
            fields["cap"] = rng.randrange(40)  # as large as the sloped part
        bits &= ~((1 << isa.WAIT_BITS) - 1 << i * isa.WAIT_BITS)
        bits |= isa.pack(isa.WAIT_FIELDS, fields, "wait") << i * isa.WAIT_BITS
    at = isa.WAITS * isa.WAIT_BITS
    return bits & ~((1 << isa.ROWS_FIELD.bits) - 1 << at) | rows << at


def waits_of(instruction: int) -> list[isa.Wait]:
    found = []
    for i in range(isa.WAITS):
        fields = isa.unpack(isa.WAIT_FIELDS, instruction >> i * isa.WAIT_BITS)
        if fields.pop("enable"):
            found.append(isa.Wait(isa.Chunk(fields.pop("src")), **fields))
    return found


class Model:
    """The sequencer in plain Python, a cycle at a time: `rows` are generators of Row, told what the ports were given.

    wanted : (source, threshold) of the wait that is looked at, None if there is none
    """

    def __init__(self, program: list[int]):
        self.program = program
        self.image = self.issued = self.fetched = self.started = self.done = 0
        self.ahead: int | None = None
        self.running = self.draining = False
        self.wanted: tuple[int, int] | None = None
        self._rows = None
        self.row = QUIET

    def _run(self, instruction: int):
        """After the cycle of its acceptance: three cycles for each wait that is satisfied, two for a row."""
        count = instruction >> isa.WAITS * isa.WAIT_BITS & (1 << isa.ROWS_FIELD.bits) - 1
        waits = waits_of(instruction)
        for row in range(count):
            for number, wait in enumerate(waits):
                yield QUIET
                threshold = (self.image << isa.IMAGE_SHIFT) + wait.threshold(row)
                self.wanted = wait.src, threshold % WORD
                counters = (yield QUIET)["counters"]
                while (counters[wait.src] - threshold) % WORD >= WORD // 2:
                    counters = (yield Row(waiting=number))["counters"]
                yield QUIET
                self.wanted = None
            yield QUIET
            while not (yield Row(go=True, last=row == count - 1))["go_ready"]:
                pass
            self.started += 1

    @property
    def issuing(self) -> bool:
        return self.running and self._rows is None and not self.draining

    def outputs(self) -> dict[str, int]:
        """Levels of this cycle; payloads only where they are valid."""
        fetch = self.running and self.ahead is None and self.fetched != len(self.program)
        ending = self.draining and self.started == self.done
        found = {
            "running": self.running, "fetch_valid": fetch, "op_valid": self.issuing and self.ahead is not None,
            "go_valid": self.row.go, "counter": self.image << isa.IMAGE_SHIFT | self.done, "image_end": ending,
            "busy": self.started != self.done, "stalled": self.row.waiting < isa.WAITS, "waiting": self.row.waiting,
        }  # fmt: skip
        if found["op_valid"]:
            found["op"] = self.ahead >> isa.WAITS * isa.WAIT_BITS
        if self.row.go:
            found["last"] = self.row.last
        return found

    def tick(self, given: dict):
        """The cycle with these inputs passes."""
        image_end = self.draining and self.started == self.done
        was_running, accepted = self.running, None
        if not self.running:
            if given["run"] and given["submitted"] != self.image:
                self.running, self.issued, self.fetched = True, 0, 0
        elif image_end:
            self.running = self.draining = False
            self.image = (self.image + 1) % (1 << 16)
            self.started = self.done = 0
        elif self.draining:
            pass
        elif self._rows is None:
            if self.issued == len(self.program):
                self.draining = True
            elif self.ahead is not None and given["op_ready"]:
                accepted, self.ahead = self.ahead, None
                self.issued += 1
                self._rows = self._run(accepted)
                self.row = next(self._rows)
        else:
            try:
                self.row = self._rows.send(given)
            except StopIteration:
                self._rows, self.row = None, QUIET
        if given["fetched"] is not None:
            assert was_running and accepted is None
            self.ahead = given["fetched"]
            self.fetched += 1
        if given["done"] and not image_end:
            self.done += 1


def inputs(rng, model: Model, fetch_valid: bool, idle: bool, busy: float, done: float) -> dict:
    """What the neighbours do in a cycle, as often as ``busy`` says, ends of rows as often as ``done``; counters stand
    around the threshold that is looked at."""
    counters = [rng.getrandbits(32) for _ in range(COUNTERS)]
    if model.wanted is not None:
        source, threshold = model.wanted
        near = rng.choice((0, 0, -1, -1, 1, 1 << rng.randrange(31), -(1 << rng.randrange(31))))
        counters[source] = (threshold + near) % WORD
    return {
        "counters": counters,
        "run": rng.random() < 0.7,
        "submitted": model.image if idle else model.image ^ 1 << rng.randrange(16),
        "op_ready": rng.random() < busy,
        "go_ready": rng.random() < busy,
        "done": model.started > model.done and rng.random() < done,
        "fetched": model.program[model.fetched] if fetch_valid and rng.random() < busy else None,
    }


def drive(
    chunk: isa.Chunk, program: list[int], images: int, rng, busy: float = 0.6, done: float = 0.6, width: int = 128
):  # fmt: skip
    """Run so many images of a program, compare every output in every cycle. ``width``: bits of an instruction that come
    at once; others than 512 are parts, in any cycles, before the fetch is done."""
    dut, model = Sequencer(chunk, fetch_bits=width), Model(program)
    parts = BITS // width if width < BITS else 0
    bits = len(dut.ctl.op.payload.as_value())
    start = rng.getrandbits(16)
    signals = {
        "running": dut.running, "fetch_valid": dut.fetch.valid, "op_valid": dut.ctl.op.valid,
        "go_valid": dut.ctl.go.valid, "counter": dut.counter, "image_end": dut.image_end, "busy": dut.busy,
        "stalled": dut.stalled, "waiting": dut.waiting, "op": dut.ctl.op.payload.as_value(),
        "last": dut.ctl.go.payload,
    }  # fmt: skip

    async def bench(ctx):
        ctx.set(dut.start, start)
        ctx.set(dut.count, len(program))
        pause, sent = 5, 0
        while model.image < images or pause:
            want = model.outputs()
            pause -= pause > 0 and not model.running
            if want["image_end"] and rng.random() < 0.2:
                pause = rng.randrange(1, 8)
            given = inputs(rng, model, want["fetch_valid"] and sent == parts, pause > 0, busy, done)
            data, part = given["fetched"], want["fetch_valid"] and sent < parts and rng.random() < busy
            if parts:
                ctx.set(dut.fetch.part, part)
                data = model.program[model.fetched] >> width * sent & (1 << width) - 1 if part else None
            sent = 0 if given["fetched"] is not None else sent + part
            ctx.set(dut.run, given["run"])
            ctx.set(dut.submitted, given["submitted"])
            ctx.set(dut.counters, sum(c << 32 * i for i, c in enumerate(given["counters"])))
            ctx.set(dut.fetch.done, given["fetched"] is not None)
            ctx.set(dut.fetch.data, rng.getrandbits(width) if data is None else data)
            ctx.set(dut.ctl.op.ready, given["op_ready"])
            ctx.set(dut.ctl.go.ready, given["go_ready"])
            ctx.set(dut.ctl.done, given["done"])
            want["op"] = want.get("op", 0) & (1 << bits) - 1
            for name, level in want.items():
                if name != "op" or want["op_valid"]:
                    assert ctx.get(signals[name]) == level, (name, model.image, model.issued)
            if want["fetch_valid"]:
                assert ctx.get(dut.fetch.index) == (start + model.fetched) % (1 << 16)
            await ctx.tick()
            model.tick(given)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


IN_CI = isa.Chunk.SOFTMAX
CHUNKS = [pytest.param(c, marks=[] if c == IN_CI else pytest.mark.slow, id=c.name.lower()) for c in isa.Chunk]


@pytest.mark.parametrize("width", [128, BITS])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_random_programs(chunk, width):
    """Waits of every number, source and slope, up to a counter's half range before and behind the threshold."""
    rng = random.Random(chunk)
    program = [word(rng, rng.choice((1, 2, 3, 9)), rng.randrange(isa.WAITS + 1), n) for n in range(5 * COUNTERS)]
    drive(chunk, program, 2, rng, width=width)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", isa.Chunk, ids=lambda c: c.name.lower())
def test_long_programs(chunk):
    """Many instructions; many rows, whose ends are behind their beginnings; many images."""
    rng, most = random.Random(chunk), isa.ROWS_FIELD.range[1]
    drive(chunk, [word(rng, 1, rng.random() < 0.2, n) for n in range(2100)], 1, rng, 0.95)
    drive(chunk, [word(rng, most, 0)], 1, rng, 0.95, done=0.4)
    drive(chunk, [word(rng, most // 2, 1)], 1, rng, 0.95, done=0.1)
    drive(chunk, [], 1100, rng)
