"""When every row of the real program starts and ends: the sequencers' waits, the chunks' pipelines, DRAM.

All constraints are "not before": a row's times follow from rows before it in any legal order, so the rows are walked
through once in a legal order, without an event queue. Approximated are the arbiters: bursts of the image queue find
room in DRAM before those of the weight queue, and of the activation buffer's ports only the PE array's input reads,
which go first, delay softmax, key loader and shifter array.
"""

import bisect
import dataclasses

import numpy as np

from vitforge_hw.arch.isa import Chunk

from .access import accesses, cdiv
from .build import Build
from .dram import Dram, ReadQueue, image_queue_beats
from .proof import Events, legal_order
from .timing import (
    TIMING,
    Timing,
    layernorm_latency,
    layernorm_row,
    mat_row,
    mat_tail,
    shifter_block,
    shifter_latency,
    softmax_row,
)

N = len(Chunk)
DATA, SPACE, WEIGHTS, CHUNK = "data", "space", "weights", "busy"  #: why a row did not start earlier


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
        self.words: list[tuple[int, int]] = []  #: rows in the MAT group register: (words, row)
        self.held = self.first_word = self.fetch_end = self.loaded = 0
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
                    self._image_dma, self._result)  # fmt: skip
        for c, n in legal_order(self.events, self.c, self.images, first=(Chunk.IMAGE_DMA,)):
            image, instruction, number, row = self.events.at(c, n)
            go, cause = self._sequencer(c, n, instruction, number, row)
            handlers[c](n, instruction.op, go, row)
            busy_until = self.end[c][n - 1] if n else 0
            self.idle[c][n] = max(0, self.start[c][n] - busy_until)
            self.cause[c][n] = cause
            self.ready[c] = int(self.go[c][n]) + 1
        return Trace(self.events, self.go, self.start, self.end, self.done, self.cause, self.idle, self.dram.rate)

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
        c, t = self.c, self.t
        go = max(go, self.first_word)  # one row may wait behind the one that is being read
        k = op["ksteps"]
        room = 1 << (t.mat_fetch_rows * c.max_k // c.word - 1).bit_length()
        begin = max(go + 2, self.fetch_end)
        while self.held + k > room and self.words:
            words, user = self.words.pop(0)
            self.held -= words
            begin = max(begin, int(self.end[Chunk.MAT][user]))
        self.words.append((k, n))
        self.held += k
        self.first_word, self.fetch_end = begin, begin + k
        bursts = self.bursts[op["in_addr"] // c.pool_rows % c.pools]
        if bursts and bursts[-1][1] >= begin:
            bursts[-1][1] = begin + k
        else:
            bursts.append([begin, begin + k])
        start = max(self.end[Chunk.MAT][n - 1] if n else 0, begin + t.mat_go_to_step - 2)
        end = start + mat_row(op, c)
        self._set(Chunk.MAT, n, go, start, end, end - 1 + mat_tail(op, c, t))

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
        return bursts[i:i + 256]

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

