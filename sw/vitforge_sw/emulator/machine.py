"""Chunks, counters, waits and the code ring: rows start, read, write and finish in any order that they allow."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.isa import Chunk, Instruction

from ..compiler.layers.batch import EVERY
from ..compiler.program.build import Build
from ..compiler.program.image import decode
from ..compiler.program.proof import OrderError
from ..compiler.program.steps import Label
from ..kinds import kind_of
from ..kinds.memories import Memories
from .poison import Poison

START, READ, WRITE, FINISH = range(4)  #: phases of a row, in order; each phase keeps the rows' order inside a chunk
N = len(Chunk)


@dataclasses.dataclass
class Result:
    """One image: integer logits (classes,), every tensor that was written by name (tokens, channels); its job's
    result bytes."""

    logits: np.ndarray
    tensors: dict[str, np.ndarray]
    data: bytes


@dataclasses.dataclass(frozen=True)
class Hold:
    """``first`` must not do ``phase`` before ``then`` did ``then_phase``; events are (chunk, row over all images)."""

    first: tuple[Chunk, int]
    phase: int
    then: tuple[Chunk, int]
    then_phase: int


class Machine:
    """Parameters
    ----------
    build : compiled model; program and data are decoded from ``memory_image``, the rest only names the tensors
    seed : of the order and of the garbage in the buffers
    depth : rows of one chunk between start and finish; None: any number
    memory_image : another image to run (tests: a changed program)
    """

    def __init__(self, build: Build, seed: int = 0, depth: int | None = 3, memory_image: bytes | None = None):
        self.build, self.config, self.depth = build, build.config, depth
        self.rng = np.random.default_rng(seed)
        programs, logical = decode(memory_image or build.memory_image, build.config)
        self.events: list[list[tuple[Instruction, int, Label]]] = []
        for chunk in Chunk:
            rows = []
            for n, instruction in enumerate(programs[chunk]):
                label = build.labels[chunk][n]
                rows += [(instruction, r, label) for r in range(instruction.rows)]
            self.events.append(rows)
        self.memories = Memories(self.config, logical, self.rng)
        self.poison = Poison(build, self.memories.arrays(), self.rng)

    def run(self, images: list[np.ndarray], holds: tuple[Hold, ...] = ()) -> list[Result]:
        """Run all images (tokens, K) back to back in the build's jobs (Build.jobs). RuntimeError on a deadlock, naming
        what every chunk waits for."""
        batch = self.build.batch
        jobs = [self._job(job) for job in self.build.jobs(images)]
        total = [len(e) * len(jobs) for e in self.events]
        self.done = [[0] * 4 for _ in range(N)]
        self.memories.codes = []
        self.ring = 0
        self.operands: list[dict[int, tuple]] = [{} for _ in range(N)]
        self.tensors: list[dict[str, np.ndarray]] = [{} for _ in range(len(jobs) * batch)]
        self.jobs, self.results = jobs, [bytearray(self.build.result_bytes) for _ in jobs]
        active = [c for c in range(N) if total[c]]
        while active:
            progress = False
            for c in self.rng.permutation(active):
                # a burst of several phases of one chunk makes far-apart interleavings likely
                for _ in range(int(self.rng.integers(1, 9))):
                    phases = [p for p in (FINISH, WRITE, READ, START) if self._ready(c, p, total, holds)]
                    if not phases:
                        break
                    self._step(c, phases[int(self.rng.integers(len(phases)))])
                    progress = True
            active = [c for c in active if self.done[c][FINISH] < total[c]]
            if not progress:
                raise RuntimeError("deadlock: " + "; ".join(self._where(c) for c in active))
        return [self._result(i) for i in range(len(images))]

    # ------------------------------------------------------------ order

    def counter(self, c: int) -> int:
        """Progress counter: image in the upper half, finished rows in the lower."""
        n = len(self.events[c])
        if n == 0:
            return 1 << 30
        image, rows = divmod(self.done[c][FINISH], n)
        return (image << 16) + rows

    def _ready(self, c: int, phase: int, total: list[int], holds: tuple[Hold, ...]) -> bool:
        done = self.done[c]
        n = done[phase]
        if n >= total[c] or (phase > START and n >= done[phase - 1]):
            return False
        for h in holds:
            if h.phase == phase and h.first == (c, n) and self.done[h.then[0]][h.then_phase] <= h.then[1]:
                return False
        if phase == START:
            if self.depth is not None and n - done[FINISH] >= self.depth:
                return False
            return self._blocked(c) is None
        if c == Chunk.SHIFTER and phase == WRITE:
            return bool(self.memories.codes)
        if c == Chunk.SOFTMAX and phase == WRITE:
            return self.ring + self._entry(n) <= self.config.code_rows
        return True

    def _entry(self, n: int) -> int:
        """Code-ring words of softmax row ``n``."""
        rows = self.events[Chunk.SOFTMAX]
        return -(-rows[n % len(rows)][0].op["keys"] // self.config.attend_keys)

    def _blocked(self, c: int):
        """The first unsatisfied wait of the chunk's next row, or None."""
        image, index = divmod(self.done[c][START], len(self.events[c]))
        instruction, row, _ = self.events[c][index]
        for w in instruction.waits:
            difference = self.counter(w.src) - ((image << 16) + w.threshold(row))
            if ((difference + (1 << 31)) & 0xFFFFFFFF) < 1 << 31:
                return w
        return None

    def _where(self, c: int) -> str:
        n = self.done[c][START]
        image, index = divmod(n, len(self.events[c]))
        if image >= len(self.jobs):
            return f"{Chunk(c).name}: last rows"
        _, row, label = self.events[c][index]
        return f"{Chunk(c).name}: image {image} {label.layer} row {row} waits for {self._blocked(c)}"

    # ------------------------------------------------------------ one phase of one row

    def _step(self, c: int, phase: int):
        n = self.done[c][phase]
        image, index = divmod(n, len(self.events[c]))
        instruction, row, label = self.events[c][index]
        chunk, m = Chunk(c), self.memories
        kind = kind_of(chunk, instruction.op)
        if phase == READ:
            m.job = self.jobs[image]
            self.operands[c][n] = kind.read(m, instruction.op, row)
            self.poison.read(c, index)
        elif phase == WRITE:
            m.result = []
            value = kind.write(m, instruction.op, row, self.operands[c].pop(n))
            self.poison.written(c, index)
            if chunk == Chunk.SOFTMAX:
                self.ring += self._entry(n)
            for at, data in m.result:
                self.results[image][at : at + len(data)] = data
            if value is not None:
                self._capture(image, chunk, instruction.op, label, row, value)
        elif phase == FINISH and chunk == Chunk.SHIFTER:
            self.ring -= self._entry(n)
        self.done[c][phase] = n + 1

    def _capture(self, image: int, chunk: Chunk, op: dict[str, int], label: Label, row: int, value: np.ndarray):
        """Keep what a row wrote as part of its tensor, still with padding pixels; ``image``: number of the job."""
        batch = self.build.batch
        if label.image == EVERY:  # token i belongs to image i
            image -= self.build.lag
            for i in range(batch if image >= 0 else 0):
                own = dataclasses.replace(label, image=i)
                self._capture(image, chunk, op, own, row, value[i : i + 1])
            return
        kind, place = kind_of(chunk, op), self.build.places.get(label.tensor)
        stride, planes = (place.stride, place.planes) if place else (0, 1)
        value, first, channel = kind.placed(self.memories, value, op, label.first, row, stride, planes)
        channel += label.channel
        tensors = self.tensors[image * batch + label.image]
        if label.tensor not in tensors:
            t = self.build.tensors[label.tensor]
            tensors[label.tensor] = np.zeros((self._padded(t) if kind.padded else t["tokens"], t["channels"]), np.int64)
        target = tensors[label.tensor][first : first + len(value), channel : channel + value.shape[1]]
        target[:] = value[: target.shape[0], : target.shape[1]]

    def _padded(self, t: dict) -> int:
        """Tokens of a tensor with those that fill groups."""
        cores = self.config.cores
        width = t.get("width", 0)
        return (t["height"] * -(-width // cores) if width else -(-t["tokens"] // cores)) * cores

    def _plain(self, name: str, x: np.ndarray) -> np.ndarray:
        """(tokens, channels), pixel after pixel."""
        t = self.build.tensors[name]
        if t.get("width", 0) and len(x) == self._padded(t):
            x = x.reshape(t["height"], -1, x.shape[1])[:, : t["width"]].reshape(t["tokens"], -1)
        return x[: t["tokens"]]

    # ------------------------------------------------------------ jobs

    def _job(self, images: Sequence[np.ndarray]) -> np.ndarray:
        data = memmap.unstripe(self.build.pack_job([np.asarray(x) for x in images]), self.config.masters)
        return np.frombuffer(data, dtype=np.uint8).reshape(-1, self.config.beat_bytes)

    def _result(self, image: int) -> Result:
        job, number = divmod(image, self.build.batch)
        data = bytes(self.results[job + self.build.lag])
        tensors = {name: self._plain(name, x) for name, x in self.tensors[image].items()}
        return Result(self.build.logits(data, number), tensors, data)


def emulate(build: Build, images: list[np.ndarray], seed: int = 0, depth: int | None = 3) -> list[Result]:
    """Run a compiled model on input tensors (tokens, K) of int8, back to back."""
    return Machine(build, seed, depth).run(images)


def holds_for(error: OrderError) -> tuple[Hold, ...]:
    """The order that the proof found: the second access happens while the first has not, or is under way.

    From a row's READ to its WRITE what it writes is garbage, so that a race shows even where old and new data agree.
    """
    first, second = (error.first.chunk, error.first.number), (error.second.chunk, error.second.number)
    if error.first.write and not error.second.write:
        return Hold(second, READ, first, READ), Hold(first, WRITE, second, READ)
    if error.first.write:
        return (Hold(first, WRITE, second, WRITE),)
    return Hold(first, READ, second, READ), Hold(second, WRITE, first, READ)


def differences(results: list[Result], reference: list[Result], output: str) -> list[tuple[int, str]]:
    """(image, tensor) of every tensor, and of the logits as ``output``, that is not the same."""
    found = []
    for i, (a, b) in enumerate(zip(results, reference)):
        found += [(i, n) for n in b.tensors if n not in a.tensors or not np.array_equal(a.tensors[n], b.tensors[n])]
        if not np.array_equal(a.logits, b.logits) and (i, output) not in found:
            found.append((i, output))
    return found
