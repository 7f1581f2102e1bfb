"""When every row of the real program starts and ends: the sequencers' waits, the chunks' pipelines, DRAM.

All constraints are "not before": a row's times follow from rows before it in any legal order, so the rows are walked
through once in a legal order, without an event queue. Approximated are the arbiters: of the activation buffer's ports
only MAT's input reads, which go first, delay softmax, key loader, shifter array and R-MAC. Without R-MAC, bursts of the
image queue find room in DRAM before those of the weight queue; with it, rows are walked through roughly in order of
time, and DRAM bursts and the engines' tiles on the shared post-processing lanes find room in that order.
"""

import bisect
import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from vitforge_hw.arch.isa import DEPTHWISE, KEY_VALUE, POINTWISE, TOKEN_SUM, Chunk

from ..compiler.program.access import accesses, cdiv
from ..compiler.program.build import Build
from ..compiler.program.proof import Events, legal_order
from .dram import Dram, ReadQueue, image_queue_beats
from .timing import (
    TIMING,
    Timing,
    group_cycles,
    group_words,
    key_value_row,
    layernorm_latency,
    layernorm_row,
    mat_tail,
    phases,
    post_tail,
    rmac_tail,
    row_tiles,
    shifter_block,
    shifter_latency,
    softmax_row,
    sum_row,
    window_row,
)

N = len(Chunk)
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
class Engine:
    """The front end of MAT or R-MAC: group register, window buffer.

    words: token groups in the group register [(words, end of their steps)], held: their words. free: the next row's go
    can be taken; fetched: the last word is asked for; kind: of the last instruction; drained: its last tile is handed
    over; rows: end of each output row of the present depthwise instruction; window: end of the last instruction that
    used the window buffer.
    """

    words: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    held: int = 0
    free: int = 0
    fetched: int = 0
    kind: int = POINTWISE
    drained: int = 0
    rows: list[int] = dataclasses.field(default_factory=list)
    window: int = 0


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


class Simulator:
    """Parameters
    ----------
    build : compiled program
    bytes_per_cycle, latency : of the memory, all masters together
    images : jobs queued at time 0
    """

    def __init__(self, build: Build, bytes_per_cycle: float, latency: int, images: int, timing: Timing = TIMING):
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
        self.lanes = Shared() if self.c.trio else None  #: post-processing
        self.loaded = 0
        self.bursts: list[list[list[int]]] = [[] for _ in range(self.c.pools)]  #: MAT reads: [start, end], in order
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
        handlers = (self._mat, self._shifter, self._layernorm, self._softmax, self._loader, self._weight_dma,
                    self._image_dma, self._result, self._rmac)  # fmt: skip
        order = legal_order(self.events, self.c, self.images, first=(Chunk.IMAGE_DMA,))
        for c, n in self._by_time() if self.c.trio else order:
            image, instruction, number, row = self.events.at(c, n)
            go, cause = self._sequencer(c, n, instruction, number, row)
            handlers[c](n, instruction.op, go, row)
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
                    if best is None or max(met, time[c]) < first:
                        best, first = c, max(met, time[c])
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

    def _set(self, c: int, n: int, go: int, start: int, end: int, done: int):
        self.go[c][n], self.start[c][n], self.end[c][n] = go, start, end
        self.done[c][n] = max(done, self.done[c][n - 1] + 1 if n else 0)

    # ------------------------------------------------------------ chunks

    def _mat(self, n: int, op: dict[str, int], go: int, row: int):
        instruction, rows = self.events.at(Chunk.MAT, n)[1], 1
        if row == 0 and self.build.programs[Chunk.RMAC]:
            rows = 1 + self._free_rows(instruction)
        self._pointwise(Chunk.MAT, n, op, go, rows)

    @staticmethod
    def _free_rows(instruction) -> int:
        """Rows behind the first that wait for nothing more: their words are fetched in one go."""
        same = all(w.threshold(instruction.rows - 1) <= max(0, w.threshold(0)) for w in instruction.waits)
        return instruction.rows - 1 if same else 0

    def _room(self) -> int:
        """Words of an engine's group register."""
        return 1 << (self.t.mat_fetch_rows * self.c.max_k // self.c.word - 1).bit_length()

    def _pointwise(self, s: Chunk, n: int, op: dict[str, int], go: int, rows: int = 1):
        """A row's token groups one by one; each group's words stay in the group register for all of its tiles. The
        words of ``rows`` rows, as far as there is room, are fetched without a pause."""
        c, t, e = self.c, self.t, self.engines[s]
        go = max(go, e.free)  # one row may wait behind the one that is being read
        room = self._room()
        k, cycles = group_words(op), group_cycles(op, c)
        before = int(self.end[s][n - 1]) if n else 0
        if e.kind != POINTWISE:
            before, e.kind = max(before, e.drained + t.rmac_switch), POINTWISE
        end = first = 0
        for group in range(op.get("groups", 0) + 1):
            begin = max(go + 2, e.fetched)
            while e.held + k > room and e.words:
                words, used = e.words.pop(0)
                e.held -= words
                begin = max(begin, used)
            e.free = begin
            ahead = k
            if group == 0 and rows > 1:
                held = sum(words for words, used in e.words if used > begin)
                ahead = max(k, min(room - held, rows * (op["groups"] + 1) * k))
            e.fetched = self._fetch(s, op["in_addr"], begin, k, ahead)
            first_word = begin if s == Chunk.MAT else self._reads(op["in_addr"], begin, 1) - 1
            start = max(before, first_word + t.mat_go_to_step - 2)
            end = self._post(start, max(start + cycles, e.fetched + t.mat_go_to_step - 2), op["tiles"])
            first = first if group else start
            before = end
            e.words.append((k, end))
            e.held += k
        tail = mat_tail(op, c, t) if s == Chunk.MAT else rmac_tail(op, c, t)
        e.drained = end - 1 + tail - post_tail(op, c, t)
        self._set(s, n, go, first, end, end - 1 + tail)

    def _fetch(self, s: Chunk, address: int, begin: int, words: int, ahead: int) -> int:
        """End of an engine's reads of ``words`` from ``begin`` on; MAT's go first, the ``ahead`` words of its rows with
        them."""
        if s == Chunk.RMAC:
            return self._reads(address, begin, words)
        bursts = self.bursts[address // self.c.pool_rows % self.c.pools]
        if bursts and bursts[-1][1] >= begin:
            bursts[-1][1] = max(bursts[-1][1], begin + ahead) if self.lanes else begin + ahead
        else:
            bursts.append([begin, begin + ahead])
        return begin + words

    def _post(self, start: int, end: int, tiles: int) -> int:
        """End of an engine's work whose tiles share the post-processing lanes with the other engine's."""
        return self.lanes.take(start, end, tiles * phases(self.c)) if self.lanes else end

    def _rmac(self, n: int, op: dict[str, int], go: int, row: int):
        c, t, s, e = self.c, self.t, Chunk.RMAC, self.engines[Chunk.RMAC]
        kind = op.get("kind", POINTWISE)
        if kind == POINTWISE:
            return self._pointwise(s, n, op, go)
        before = int(self.end[s][n - 1]) if n else 0
        if kind != e.kind:
            before, e.kind = max(before, e.drained + t.rmac_switch), kind
        go = max(go, e.free)
        begin = max(go + 2, e.fetched)
        if kind == DEPTHWISE:
            start, end = self._depthwise(op, begin, before, row)
        elif kind == KEY_VALUE:
            words, cycles = key_value_row(op, c)
            e.fetched = self._reads(op["in_addr"], begin, words)
            start = max(before, e.fetched + t.rmac_window_to_step)
            end = start + cycles
        else:
            e.fetched = self._reads(op["in_addr"], begin, sum_row(op))
            start = max(before, begin)
            end = max(start + sum_row(op), e.fetched)
        e.free = begin
        end = self._post(start, end, row_tiles(op, c))
        if kind != TOKEN_SUM:
            e.window = end
        e.rows.append(end)
        e.drained = end - 1 + rmac_tail(op, c, t) - post_tail(op, c, t)
        self._set(s, n, go, start, end, end - 1 + rmac_tail(op, c, t))

    def _depthwise(self, op: dict[str, int], begin: int, before: int, row: int) -> tuple[int, int]:
        """(start, end) of one output row. Its new map rows are read as soon as the window buffer has room for them."""
        c, t, e = self.c, self.t, self.engines[Chunk.RMAC]
        stride, half = op["stride"] + 1, op["kernel"] // 2
        y = op["first"] + row
        top = min(op["height"] - 1, y * stride + half)
        if row == 0:
            e.rows = []
            low = max(0, y * stride - half)
        else:
            low = min(op["height"] - 1, (y - 1) * stride + half) + 1
        held = c.window_rows // op["window_stride"]
        for m in range(low, top + 1):
            # map row m takes the place of row m - held; the last output row that needs that one must have ended
            freed = (m - held + half) // stride - op["first"]
            if 0 <= freed < len(e.rows):
                begin = max(begin, e.rows[freed])
            elif row == 0:
                begin = max(begin, e.window)  # the window buffer belongs to an instruction before
            begin = e.fetched = self._reads(op["in_addr"], begin, op["in_groups"] * op["blocks"])
        start = max(before, e.fetched + t.rmac_window_to_step)
        return start, start + window_row(op, c)

    def _shifter(self, n: int, op: dict[str, int], go: int, row: int):
        c, t, s = self.c, self.t, Chunk.SHIFTER
        go = max(go, self.start[s][n - 2] if n > 1 else 0)
        entry = int(self.done[Chunk.SOFTMAX][n]) + t.sh_entry
        start = max(go + t.sh_start, entry, self.end[s][n - 1] if n else 0)
        end = start + op["blocks"] * shifter_block(op, c)
        end += self._stalls(op["v_addr"] // c.pool_rows % c.pools, int(start), int(end))
        self._set(s, n, go, start, end, end + shifter_latency(c, t))

    def _bursts(self, pool: int, time: int):
        """The PE array's bursts in a pool that end behind ``time``."""
        bursts = self.bursts[pool]
        i = max(0, bisect.bisect_right(bursts, [time]) - 1)
        return bursts[i : i + 256]

    def _stalls(self, pool: int, start: int, end: int) -> int:
        """Cycles that the PE array's input bursts keep values from the shifter array, beyond what is read ahead."""
        ahead = self.t.sh_values * self.c.cores // self.c.attend_keys
        return sum(max(0, min(b, end) - max(a, start) - ahead) for a, b in self._bursts(pool, start) if a < end)

    def _reads(self, address: int, time: int, count: int) -> int:
        """End of ``count`` reads from ``time`` on, one a cycle where the PE array leaves the port."""
        for a, b in self._bursts(address // self.c.pool_rows % self.c.pools, time):
            if b <= time:
                continue
            if a >= time + count:
                break
            count -= max(0, a - time)
            time = b
        return time + count

    def _layernorm(self, n: int, op: dict[str, int], go: int, row: int):
        c, t, s = self.c, self.t, Chunk.LAYERNORM
        go = max(go, self.start[s][n - t.ln_ahead] if n >= t.ln_ahead else 0)
        start = max(go, self.end[s][n - 1] if n else 0)
        self._set(s, n, go, start, start + layernorm_row(op, c, t), start + layernorm_latency(op, c, t))

    def _softmax(self, n: int, op: dict[str, int], go: int, row: int):
        c, t, s = self.c, self.t, Chunk.SOFTMAX
        go = max(go, self.end[s][n - 2] if n > 1 else 0, self.loaded)
        self.loaded = self._reads(op["in_addr"], int(go) + 1, cdiv(op["keys"], c.word))
        start = max(self.loaded + t.sm_load - 1, self.end[s][n - 1] if n else 0)
        entry = self.entries[n % len(self.entries)]
        freed = n - min(c.code_rows // entry, t.sm_entries)
        if freed >= 0:
            start = max(start, int(self.end[Chunk.SHIFTER][freed]) + 1)
        end = start + softmax_row(op, t)
        self._set(s, n, go, start, end, end + t.sm_latency - t.sm_load)

    def _loader(self, n: int, op: dict[str, int], go: int, row: int):
        s = Chunk.LOADER
        start = max(go, self.end[s][n - 1] if n else 0)
        end = self._reads(op["in_addr"], int(start) + 1, op["blocks"]) - 1
        self._set(s, n, start, start, end, end + self.t.ld_latency)

    def _weight_dma(self, n: int, op: dict[str, int], go: int, row: int):
        self._read(Chunk.WEIGHT_DMA, n, op, go, row)

    def _image_dma(self, n: int, op: dict[str, int], go: int, row: int):
        self._read(Chunk.IMAGE_DMA, n, op, go, row)

    def _read(self, s: Chunk, n: int, op: dict[str, int], go: int, row: int):
        if n >= self.t.dma_requests:
            go = max(go, int(self.done[s][n - self.t.dma_requests]))
        start, last = self.queues[s].read(int(go), op["source"] + row * op["beats"], op["beats"])
        self._set(s, n, go, start, last - self.latency, last + self.t.dma_return)

    def _result(self, n: int, op: dict[str, int], go: int, row: int):
        end = go + op["count"] + self.t.result_latency
        self._set(Chunk.RESULT_DMA, n, go, go, end, end + self.latency)


def simulate(build: Build, bytes_per_cycle: float = 64, latency: int = 100, images: int = 4) -> Trace:
    """Times of every row."""
    return Simulator(build, bytes_per_cycle, latency, images).run()
