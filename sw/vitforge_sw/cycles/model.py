"""When every row of the real program starts and ends: the sequencers' waits, the chunks' pipelines, DRAM.

All constraints are "not before": a row's times follow from rows before it in any legal order, so the rows are walked
through once in a legal order, without an event queue. Approximated are the arbiters: of the activation buffer's ports
only MAT's input reads, which go first, delay softmax, key loader, shifter array, R-MAC and the result. Without R-MAC,
bursts of the image queue find room in DRAM before those of the weight queue; with it, rows are walked through roughly
in order of time, and DRAM bursts and the engines' tiles on the shared post-processing lanes find room in that order.
"""

import bisect
import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from vitforge_hw.arch.isa import Chunk, Instruction
from vitforge_hw.arch.latency import CYCLES, Latency

from ..compiler.program.build import Build
from ..compiler.program.proof import Events, legal_order
from ..kinds import Clock, Engine, accesses, kind_of
from ..kinds.access import cdiv
from ..kinds.engine import phases
from .dram import Dram, ReadQueue, image_queue_beats

N = len(Chunk)
RESULT_BEHIND = 6000  #: cycles that others are walked ahead of a result: it meets the next image's first reads
DATA, SPACE, WEIGHTS, CHUNK = "data", "space", "weights", "busy"  #: why a row did not start earlier


class Shared:
    """A unit that gives ``rate`` places a cycle to several users; counted in slots of 64 cycles."""

    SLOT = 64

    def __init__(self, rate: float = 1.0):
        self.full = rate * self.SLOT
        self.left: dict[int, float] = {}

    def take(self, start: int, end: int, places: float) -> int:
        """End of a work of ``places``, spread evenly over [start, end), that finds room where others leave it."""
        given, slot = 0.0, start // self.SLOT
        while True:
            elapsed = min(end, (slot + 1) * self.SLOT) - start
            due = places * elapsed / max(1, end - start) - given
            room = self.left.get(slot, self.full)
            given += min(room, due)
            self.left[slot] = room - min(room, due)
            if given >= places - 1e-6:
                late = slot * self.SLOT
                return end if late < end else late + math.ceil((self.full - self.left[slot]) * self.SLOT / self.full)
            slot += 1


@dataclasses.dataclass
class Trace:
    """Per chunk arrays over all rows of all images: go, start (work begins), end (work ends), done; and the cause that
    the row waited for, with the cycles that it kept the chunk idle."""

    events: Events
    go: list[np.ndarray]
    start: list[np.ndarray]
    end: list[np.ndarray]
    done: list[np.ndarray]
    cause: list[list[str]]
    idle: list[np.ndarray]
    beats: float


class Simulator(Clock):
    """Parameters
    ----------
    build : compiled program
    bytes_per_cycle, latency : of the memory, all masters together
    images : jobs queued at time 0
    """

    def __init__(self, build: Build, bytes_per_cycle: float, latency: int, images: int, timing: Latency = CYCLES):
        self.build, self.c, self.t, self.images = build, build.config, timing, images
        self.latency = latency
        rate = min(1.0, bytes_per_cycle / build.config.beat_bytes)
        self.dram = Dram(rate)
        depth = build.config.read_fifo_beats
        self.queues = {
            Chunk.WEIGHT_DMA: ReadQueue(self.dram, latency, depth, build.config, timing),
            Chunk.IMAGE_DMA: ReadQueue(self.dram, latency, image_queue_beats(build.config), build.config, timing),
        }
        self.events = Events(build.programs, build.labels)
        n = [t * images for t in self.events.totals]
        self.go, self.start, self.end, self.done = ([np.zeros(k, dtype=np.int64) for k in n] for _ in range(4))
        self.idle = [np.zeros(k, dtype=np.int64) for k in n]
        self.cause = [[CHUNK] * k for k in n]
        self.ready = [0] * N  #: the sequencer can look at the next row
        #: the next instruction is there; at the start all chunks ask for one
        self.fetched = [4 + N // 2 * (self.c.instruction_beats + 3)] * N
        self.engines = {Chunk.MAT: Engine(), Chunk.RMAC: Engine()}
        self.both_engines = bool(build.programs[Chunk.RMAC])
        self.lanes = Shared() if self.c.trio else None  #: post-processing
        self.loaded = 0
        self.bursts: list[list[list[int]]] = [[] for _ in range(self.c.pools)]  #: MAT reads: [start, end], in order
        self.others: list[list[list[int]]] = [[] for _ in range(self.c.pools)]  #: all others' but the result's
        self.kinds = self._kinds()
        self.entries = [
            cdiv(build.programs[Chunk.SOFTMAX][k].op["keys"], self.c.attend_keys)
            for k, _ in self.events.rows[Chunk.SOFTMAX]
        ]

    def _kinds(self) -> dict[tuple[int, int, int], str]:
        """(chunk, instruction, wait) -> data, space or weights: does the awaited row write what this one reads?"""
        kinds = {}
        programs, c = self.build.programs, self.c
        for chunk in Chunk:
            for n, i in enumerate(programs[chunk]):
                reads = None
                for w, wait in enumerate(i.waits):
                    if wait.src == Chunk.WEIGHT_DMA:
                        kinds[(chunk, n, w)] = WEIGHTS
                        continue
                    if reads is None:
                        items = accesses(chunk, i.rows, i.op, c)
                        reads = {(a.memory, x) for a in items if not a.write for x in a.row(i.rows - 1).tolist()}
                    count = wait.threshold(i.rows - 1)
                    if not 0 < count <= self.events.totals[wait.src]:
                        kinds[(chunk, n, w)] = SPACE
                        continue
                    m, row = self.events.rows[wait.src][count - 1]
                    producer = programs[wait.src][m]
                    written = {
                        (a.memory, x) for a in accesses(wait.src, producer.rows, producer.op, c) if a.write
                        for x in a.row(row).tolist()
                    }  # fmt: skip
                    kinds[(chunk, n, w)] = DATA if reads & written else SPACE
        return kinds

    def run(self) -> Trace:
        order = legal_order(self.events, self.c, self.images, first=(Chunk.IMAGE_DMA,))
        for c, n in self._by_time() if self.c.trio else order:
            image, instruction, number, row = self.events.at(c, n)
            go, cause = self._sequencer(c, n, instruction, number, row)
            kind_of(Chunk(c), instruction.op).walk(self, Chunk(c), n, instruction.op, go, row)
            busy_until = self.end[c][n - 1] if n else 0
            self.idle[c][n] = max(0, self.start[c][n] - busy_until)
            self.cause[c][n] = cause
            self.ready[c] = int(self.go[c][n]) + 1
        return Trace(self.events, self.go, self.start, self.end, self.done, self.cause, self.idle, self.dram.rate)

    def _by_time(self) -> Iterator[tuple[int, int]]:
        """Legal, and roughly in order of time, so that the engines share what both of them use: of the chunks whose
        next row can be walked through, the one that is furthest behind."""
        done = [0] * N
        goal = [t * self.images for t in self.events.totals]
        waits: list[list[tuple[int, int]] | None] = [None] * N
        time = [0] * N
        while True:
            best, first = None, 0
            for c in range(N):
                if done[c] == goal[c] or (best is not None and time[c] >= first):
                    continue
                if waits[c] is None:
                    waits[c] = [(s, t) for s, t in self.events.thresholds(c, done[c]) if t > 0]
                if all(done[s] >= t for s, t in waits[c]) and not self._ring_blocked(c, done):
                    met = max((int(self.done[s][t - 1]) for s, t in waits[c]), default=0)
                    met = max(met, time[c]) + RESULT_BEHIND * (c == Chunk.RESULT_DMA)
                    if best is None or met < first:
                        best, first = c, met
            if best is None:
                return
            yield best, done[best]
            time[best] = int(self.end[best][done[best]])
            done[best] += 1
            waits[best] = None

    def _ring_blocked(self, c: int, done: list[int]) -> bool:
        """Softmax has no room in the code ring, or the shifter array no codes."""
        if c == Chunk.SHIFTER:
            return done[Chunk.SOFTMAX] <= done[c]
        if c != Chunk.SOFTMAX:
            return False
        waiting = range(done[Chunk.SHIFTER], done[c] + 1)
        return sum(self.entries[n % len(self.entries)] for n in waiting) > self.c.code_rows

    # ------------------------------------------------------------ sequencer

    def _sequencer(self, c: int, n: int, instruction, number: int, row: int) -> tuple[int, str]:
        """Time of ``go`` as far as the waits allow it, and the cause of the longest wait."""
        t = self.t
        time, cause = self.ready[c], CHUNK
        if row == 0:
            if n and n % self.events.totals[c] == 0:  # a new image: the old one's rows are all done
                time = max(time, int(self.done[c][n - 1]) + t.restart_cycles)
                self.fetched[c] = time + self.c.instruction_beats + t.fetch_cycles
            time = max(time, self.fetched[c]) + t.issue_cycles
            self.fetched[c] = time + self.c.instruction_beats + t.fetch_cycles
        longest = 0
        for w, (src, count) in enumerate(self.events.thresholds(c, n)):
            look = time + t.wait_cycles - 1
            if count > 0:
                met = int(self.done[src][count - 1]) + t.done_to_compare
                if met - look > longest:
                    longest, cause = met - look, self.kinds[(Chunk(c), number, w)]
                look = max(look, met)
            time = look + 1
        return time + (1 if len(instruction.waits) < 6 else 0), cause

    def set(self, chunk: Chunk, number: int, go: int, start: int, end: int, done: int) -> None:
        c, n = chunk, number
        self.go[c][n], self.start[c][n], self.end[c][n] = go, start, end
        self.done[c][n] = max(done, self.done[c][n - 1] + 1 if n else 0)

    # ------------------------------------------------------------ what kinds ask for

    def instruction(self, chunk: Chunk, number: int) -> Instruction:
        return self.events.at(chunk, number)[1]

    def entry(self, number: int) -> int:
        return self.entries[number % len(self.entries)]

    def transfer(self, chunk: Chunk, go: int, source: int, beats: int) -> tuple[int, int]:
        return self.queues[chunk].read(go, source, beats)

    def post(self, start: int, end: int, tiles: int) -> int:
        return self.lanes.take(start, end, tiles * phases(self.c)) if self.lanes else end

    def fetch(self, chunk: Chunk, address: int, begin: int, count: int, ahead: int) -> int:
        if chunk == Chunk.RMAC:
            return self.reads(address, begin, count)
        bursts = self.bursts[self._pool(address)]
        if bursts and bursts[-1][1] >= begin:
            bursts[-1][1] = max(bursts[-1][1], begin + ahead) if self.lanes else begin + ahead
        else:
            bursts.append([begin, begin + ahead])
        return begin + count

    def reads(self, address: int, time: int, count: int) -> int:
        end = _between(self._bursts(address, time), time, count)
        self.others[self._pool(address)].append([time, end])
        return end

    def last_reads(self, address: int, time: int, count: int) -> int:
        others = (span for span in self.others[self._pool(address)] if span[1] > time)
        return _between(sorted([*self._bursts(address, time), *others]), time, count)

    def stalls(self, address: int, start: int, end: int) -> int:
        ahead = self.t.sh_values * self.c.cores // self.c.attend_keys
        return sum(max(0, min(b, end) - max(a, start) - ahead) for a, b in self._bursts(address, start) if a < end)

    def _pool(self, address: int) -> int:
        return address // self.c.pool_rows % self.c.pools

    def _bursts(self, address: int, time: int) -> list[list[int]]:
        """MAT's bursts in the pool of ``address`` that end behind ``time``."""
        bursts = self.bursts[self._pool(address)]
        i = max(0, bisect.bisect_right(bursts, [time]) - 1)
        return bursts[i : i + 256]


def _between(spans: list[list[int]], time: int, count: int) -> int:
    """End of ``count`` cycles from ``time`` on that lie in none of ``spans`` ([start, end], by start)."""
    for a, b in spans:
        if b <= time:
            continue
        if a >= time + count:
            break
        count -= max(0, a - time)
        time = b
    return time + count


def simulate(build: Build, bytes_per_cycle: float = 64, latency: int = 100, images: int = 4) -> Trace:
    """Times of every row."""
    return Simulator(build, bytes_per_cycle, latency, images).run()
