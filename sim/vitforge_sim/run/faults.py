"""Faults of the system around the machine as a table of cases: what is done to it, what it must report, and that the
next good run is right.

``target`` is a compiled model with its machine: ``machine`` (run.machine.Machine, whose last program is a copy of its
first), ``piece(end)`` (address of a piece of the memory image), ``good(script, image, slot)``,
``check(outcome, slots)``, ``build``.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.registers import Error

from .machine import ENABLE, SOFT_RESET, Machine, Outcome, Script
from .monitor import Monitor
from .topbench import BenchProgram

RESP = {"SLVERR": 2, "DECERR": 3}
BEAT, RUN = 16, 256  #: bytes of an AXI beat and of the longest read burst
#: by number: in the order in which the source names them first
BOOT_STATES = ("OFF", "DRAIN", "START", "FAILED", "REQUEST", "LOAD", "CHECK", "RUN", "RESET")
STATES = ("IDLE", "ISSUE", "DRAIN", "SLOPE", "THRESHOLD", "GO", "COMPARE")  #: of every sequencer


@dataclasses.dataclass(frozen=True)
class Fault:
    """kind, name: row of the table. run(target): plays it, asserts, and returns what was reported, as text."""

    kind: str
    name: str
    run: Callable[[object], str]


def _reported(out: Outcome, label: str, want: tuple[int, int, int]) -> str:
    assert out.error(label) == want, (out.error(label), want)
    return f"{Error(want[0]).name.lower()} at {want[1]:#x}" + (f", response {want[2]}" if want[2] else "")


# ---- stalls


def _stall(settings: dict):
    def run(target) -> str:
        s = target.machine.aim(target.machine.enable(Script()), 0, 0)
        s.write("job_submit", 1).write("job_submit", 1).poll("completed", 2).read("errors")
        out = target.machine.run(s, seed=7, **settings)
        target.check(out, {0: 0, 1: 1})
        assert out.values["errors"] == 0
        return f"nothing; {out.bench.cycles} cycles"

    return run


def stalls() -> Iterator[Fault]:
    every = ("ar", "r", "aw", "w", "b")
    for channel in every:
        for share in (64, 200, 250):
            yield Fault("stalls", f"{channel.upper()} {share}/256", _stall({f"stall_{channel}": share}))
    for share in (64, 200):
        yield Fault("stalls", f"every channel {share}/256", _stall({f"stall_{c}": share for c in every}))
    for latency in (1, 20, 400):
        yield Fault("stalls", f"latency {latency}", _stall({"latency": latency}))
        mixed = {"latency": latency, "jitter": 300, "interleave": True}
        yield Fault("stalls", f"latency {latency}, out of order", _stall(mixed))
    yield Fault("stalls", "1 byte a cycle", _stall({"bandwidth": 1}))
    yield Fault("stalls", "memory holds for 20,000 cycles", _stall({"hold_from": 5000, "hold_cycles": 20_000}))


# ---- responses


def _response(place: str, beat: int, resp: int):
    def run(target) -> str:
        machine: Machine = target.machine
        write = place == "result"
        if write:
            base = machine.result[0]
        elif place == "image":
            base = machine.image[0]
        elif place == "program":
            base = machine.program[0] + RUN
        else:
            base = -(-target.piece(place) // RUN) * RUN
        address = base + beat * BEAT
        s = Script()
        machine.submit(s, 0, 0)
        machine.enable(s, ready=False)
        if place == "program":
            s.poll("error_code", Error.READ)
        else:
            s.poll("completed", 1)
        s.error("first").read("completed").soft_reset()
        target.good(s, 3, 1)
        out = machine.run(s, err_addr=address, err_resp=resp, err_write=write, err_read=not write, err_count=1)
        target.check(out, {1: 3})
        assert out.values["completed"] == (place != "program")
        burst = base if write else address
        return _reported(out, "first", (Error.WRITE if write else Error.READ, burst, resp))

    return run


def responses(result_beats: int) -> Iterator[Fault]:
    for place in ("program", "pos_embed", "embed:params", "fc1:weights", "image", "result"):
        last = result_beats - 1 if place == "result" else RUN // BEAT - 1
        if place in ("pos_embed", "embed:params", "image"):  # pieces of any length: beats that every one has
            last = 2
        for name, beat in {0: "first", last // 2: "middle", last: "last"}.items():
            for response, code in RESP.items():
                label = f"{response} on the {beat} beat ({name}) of {place.replace(':', ' ')}"
                yield Fault("responses", label, _response(place, name, code))


# ---- program and memory image


def _damaged(at: Callable[[object], int], mask: int, want: Callable[[object], tuple[int, int, int]], runs: bool):
    def run(target) -> str:
        machine: Machine = target.machine
        address = at(target)
        kept = machine.memory[address]
        machine.memory[address] ^= mask
        try:
            s = machine.enable(Script(), ready=False)
            machine.submit(s, 0, 0)
            s.poll("completed", 1) if runs else s.poll("error_code", want(target)[0])
            s.error("bad").read("status").read("completed").soft_reset()
            machine.enable(s, program=len(machine.program) - 1)  # a good copy
            machine.submit(s, 3, 1).poll("completed", 1).read("error_code", "good1")
            out = machine.run(s)
        finally:
            machine.memory[address] = kept
        target.check(out, {1: 3})
        assert out.values["completed"] == runs
        return _reported(out, "bad", want(target))

    return run


def damages() -> Iterator[Fault]:
    def program(byte: int, error: Error, response: int = 0, runs: bool = False, mask: int = 1):
        return _damaged(lambda t: t.machine.program[0] + byte, mask,
                        lambda t: (error, t.machine.program[0], response), runs)  # fmt: skip

    for byte, name, error in (
        (0, "magic", Error.PROGRAM), (4, "configuration hash", Error.BUILD), (8, "build hash", Error.BUILD),
        (12, "checksum", Error.CHECKSUM), (16, "start of mat", Error.CHECKSUM), (18, "count of mat", Error.CHECKSUM),
    ):  # fmt: skip
        yield Fault("program", f"one bit of the header: {name}", program(byte, error))
    for number in (1, 7, 40):
        for byte in (0, 31, 63):
            yield Fault("program", f"one bit of instruction {number}, byte {byte}",
                        program(64 * number + byte, Error.CHECKSUM, mask=1 << number % 8))  # fmt: skip
    for piece, response in (("pos_embed", 2), ("embed:params", 1), ("attn.h1:weights", 1), ("fc2:weights", 1)):
        for offset in (0, 100):
            yield Fault(
                "memory image", f"one bit of {piece.replace(':', ' ')}, byte {offset}",
                _damaged(lambda t, p=piece, o=offset: t.piece(p) + o, 0x40,
                         lambda t, r=response: (Error.CHECKSUM, t.machine.program[0], r), True),
            )  # fmt: skip
    for beats, error in ((0, Error.PROGRAM), (3, Error.PROGRAM), (1 << 20, Error.PROGRAM)):
        yield Fault("program", f"{beats} beats long", _short(beats, error))
    yield Fault("program", "8 beats too short", _short(-8, Error.CHECKSUM))


def _short(beats: int, error: Error):
    def run(target) -> str:
        machine, s = target.machine, Script()
        length = beats if beats >= 0 else machine.beats + beats
        s.write64("program", machine.program[0]).write("program_beats", length).write("control", ENABLE)
        s.poll("error_code", error).error("bad").soft_reset()
        target.good(s, 3, 1)
        out = machine.run(s)
        target.check(out, {1: 3})
        return _reported(out, "bad", (error, machine.program[0], 0))

    return run


# ---- the second and the tenth run, without a reset between


def _again(settings: Callable[[object], dict], want: Callable[[object], tuple[int, int, int]] | None):
    def run(target) -> str:
        machine = target.machine
        s = machine.enable(Script())
        for i in range(10):
            machine.submit(s, i, i).poll("completed", i + 1)
            if i == 0:
                s.error("first").write("errors", 0xFFF)
        s.read("errors")
        out = machine.run(s, **settings(target))
        target.check(out, {i: i for i in range(1, 10)} | ({} if want else {0: 0}))
        assert out.values["errors"] == 0
        return (_reported(out, "first", want(target)) if want else "nothing") + "; runs 2 to 10 right"

    return run


def again() -> Iterator[Fault]:
    yield Fault("second and tenth run", "after a good one", _again(lambda t: {}, None))
    yield Fault(
        "second and tenth run", "after a read error",
        _again(lambda t: dict(err_addr=t.machine.image[0] + 32, err_resp=2, err_write=False, err_count=1),
               lambda t: (Error.READ, t.machine.image[0] + 32, 2)),
    )  # fmt: skip
    yield Fault(
        "second and tenth run", "after a write error",
        _again(lambda t: dict(err_addr=t.machine.result[0], err_resp=3, err_read=False, err_count=1),
               lambda t: (Error.WRITE, t.machine.result[0], 3)),
    )  # fmt: skip


def table(target) -> list[Fault]:
    """Every case but the resets."""
    beats = max(1, -(-target.build.result_bytes // BEAT))
    return [*stalls(), *responses(beats), *damages(), *again()]


# ---- resets in every state


def state_monitors(chunks: Sequence[Chunk]) -> tuple[Monitor, ...]:
    """The state of boot and of each sequencer in every cycle, as the address of a record."""
    paths = {"boot": "$host.boot.fsm_state"}
    paths |= {c.name.lower(): f"$core.sequencer_{c.name.lower()}.fsm_state" for c in chunks}
    return tuple(Monitor(n, "1'b1 | $aclk", path, "1'b0 & $aclk", 4, 1) for n, path in paths.items())


@dataclasses.dataclass
class Hit:
    """A reset that found ``machine`` in ``state``; way: aresetn or soft reset."""

    machine: str
    state: int
    way: str


class Resets:
    """Resets chosen by what a run without reset shows: every state of every sequencer and of boot that it has.

    bench : tiny's design with ``state_monitors``; target : as above
    """

    def __init__(self, target, bench: BenchProgram):
        self.target, self.bench = target, bench

    def _play(self, s: Script, **settings) -> tuple[Outcome, dict[str, np.ndarray]]:
        from .topbench import MemorySettings, run_bench

        m = self.target.machine
        size = m.slots * m.result_stride
        run = run_bench(
            self.bench, s, memory=m.memory, dump=(m.result[0], size),
            settings=MemorySettings(bandwidth=16, **settings), watchdog=400_000,
        )  # fmt: skip
        results = run.memory.reshape(m.slots, m.result_stride)[:, : m.result_bytes]
        states = {}
        for name, records in run.monitors.items():
            states[name] = np.full(run.cycles + 2, -1)
            states[name][records["cycle"]] = records["addr"]
        return Outcome({label: run.events[i].value for label, i in s.labels.items()}, results, run), states

    def scenes(self) -> list[tuple[Callable[[], Script], int]]:
        """Scripts that end where the wait before the reset begins, and how long to look."""
        m = self.target.machine

        def work():
            return m.submit(m.submit(m.enable(Script()), 0, 0), 1, 1)

        def load():
            return m.enable(Script(), ready=False)

        def bad():
            return m.enable(Script(), program=1, ready=False)

        def stop():
            return work().wait(400).write("control", 0)

        return [(work, 14_000), (load, 1500), (bad, 1500), (stop, 400)]

    def run(self, ways=("aresetn", "soft reset"), only: Sequence[str] = ()) -> list[Hit]:
        """Play one reset for each state that is seen; AssertionError where the next image is not right."""
        hits: dict[tuple[str, int, str], Hit] = {}
        for scene, length in self.scenes():
            start = scene()
            at = len(start)
            out, states = self._play(start.wait(length))
            begin = out.bench.events[at - 1].cycle + 2  # a reset without a wait would be seen here
            for name, levels in states.items():
                for state in sorted(set(levels[begin : begin + length - 2]) - {-1}):
                    for way in ways:
                        if (name, state, way) in hits or only and name not in only:
                            continue
                        places = np.flatnonzero(levels[begin : begin + length - 2] == state)
                        place = int(places[len(places) // 2])
                        for early in (0,) if way == "aresetn" else (1, 2, 3):  # a write takes some cycles
                            if self._one(scene(), place - early, way).get(name) == state:
                                hits[name, state, way] = Hit(name, int(state), way)
                                break
        return list(hits.values())

    def _one(self, s: Script, wait: int, way: str) -> dict[str, int]:
        """Reset about ``wait`` cycles after the script; the states that it met."""
        if wait > 1:
            s.wait(wait - 1)
        at = len(s)
        if way == "aresetn":
            s.reset(1)
        else:
            s.write("control", SOFT_RESET).poll("control", 0)
        self.target.good(s, 7, 2)
        out, states = self._play(s, keep_reset=True)
        event = out.bench.events[at].cycle
        if out.values["good2"] == Error.STRAY and way == "aresetn":
            out.values["good2"] = 0  # an answer of the time before
        self.target.check(out, {2: 7})
        met = {}
        for name, levels in states.items():
            if way == "aresetn":
                met[name] = int(levels[event])  # the edge at which aresetn is first low
            else:
                met[name] = int(levels[event - 1])  # the answer comes a cycle after the bit is set
        return met
