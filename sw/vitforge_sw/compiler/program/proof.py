"""Proof of the program's order over two images, from the decoded instructions alone.

An event is one row of an instruction. Its start comes after the finish of the rows that its waits name; inside a chunk
rows start in order and finish in order, but a row may start before its predecessor has finished. Softmax row n finishes
before shifter row n does (code ring). Shown:

- no deadlock: with the strongest extra order a chunk could impose (one row at a time) and the code ring's capacity,
  all rows of both images can be executed; the constraints do not change with the order, so every order can go on;
- no race: two accesses to a memory row, one of them a write, are ordered by these edges alone. In-order chunks make a
  vector clock of all counters enough: A is finished before B starts iff clock_B[chunk(A)] > number(A). Two writes of
  one chunk, and a read before a write of one chunk, are in order by themselves.

Programs repeat unchanged and waits reach back one image at most, so two images stand for any number.
"""

import dataclasses

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import IMAGE_SHIFT, Chunk, Instruction, Wait

from ...kinds import Memory, accesses, memory_rows, readers, writers
from ...kinds.access import cdiv
from .steps import Label

N = len(Chunk)
_WRITERS = {m: writers(m) for m in Memory}
_READERS = {m: readers(m) for m in Memory}


@dataclasses.dataclass(frozen=True)
class Access:
    """One access of a row: the row's number counts over all images."""

    chunk: Chunk
    number: int
    write: bool
    text: str


class OrderError(ValueError):
    """Two conflicting accesses, of which ``first`` comes first in some legal order, and nothing forces it to."""

    def __init__(self, first: Access, second: Access, where: str):
        super().__init__(f"order: {first.text} and {second.text} are not ordered ({where})")
        self.first, self.second = first, second


class DeadlockError(ValueError):
    """The rows that every chunk is stuck at."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """``rows``: events of two images; ``accesses``: memory rows checked; ``order``: a legal order, (chunk, number)."""

    rows: int
    accesses: int
    order: list[tuple[int, int]]


def absolute(wait: Wait, row: int, image: int, totals: list[int]) -> int:
    """Finished rows of ``wait.src``, counted over all images from 0, that satisfy the wait."""
    relative = wait.threshold(row)
    back = relative < -(1 << IMAGE_SHIFT - 1)
    relative += back << IMAGE_SHIFT
    return min(max(relative, 0), totals[wait.src]) + (image - back) * totals[wait.src]


class Events:
    """Rows of every chunk of one image, with thresholds by image."""

    def __init__(self, programs: dict[Chunk, list[Instruction]], labels: dict[Chunk, list[Label]]):
        self.rows: list[list[tuple[int, int]]] = [
            [(n, r) for n, i in enumerate(programs[c]) for r in range(i.rows)] for c in Chunk
        ]
        self.programs, self.labels = programs, labels
        self.totals = [len(r) for r in self.rows]

    def at(self, chunk: int, number: int) -> tuple[int, Instruction, int, int]:
        """(image, instruction, its number, row) of an event."""
        image, index = divmod(number, self.totals[chunk])
        n, row = self.rows[chunk][index]
        return image, self.programs[Chunk(chunk)][n], n, row

    def thresholds(self, chunk: int, number: int) -> list[tuple[int, int]]:
        """(source, finished rows) of every wait."""
        image, instruction, _, row = self.at(chunk, number)
        return [(int(w.src), absolute(w, row, image, self.totals)) for w in instruction.waits]

    def text(self, chunk: int, number: int, verb: str) -> str:
        image, _, n, row = self.at(chunk, number)
        label = self.labels[Chunk(chunk)][n]
        return f"{verb} of {Chunk(chunk).name} {label.layer} instruction {n} row {row} (image {image})"


def legal_order(
    events: Events, config: AcceleratorConfig, images: int = 2, first: tuple[Chunk, ...] = ()
) -> list[tuple[int, int]]:
    """One order in which all rows can run, one at a time in each chunk; DeadlockError if there is none.

    ``first``: chunks that go as far as they can before the others.
    """
    turns = [*map(int, first), *(c for c in range(N) if c not in first)]
    done = [0] * N
    goal = [t * images for t in events.totals]
    ring = 0
    softmax = events.programs[Chunk.SOFTMAX]
    entries = [cdiv(softmax[n].op["keys"], config.attend_keys) for n, _ in events.rows[Chunk.SOFTMAX]]
    order = []

    def blocked(c: int) -> str | None:
        if c == Chunk.SHIFTER and done[Chunk.SOFTMAX] <= done[c]:
            return "codes"
        if c == Chunk.SOFTMAX and ring + entries[done[c] % len(entries)] > config.code_rows:
            return "room in the code ring"
        for src, t in events.thresholds(c, done[c]):
            if done[src] < t:
                return f"{t} rows of {Chunk(src).name} (has {done[src]})"
        return None

    while True:
        progress = False
        for c in turns:
            while done[c] < goal[c] and blocked(c) is None:
                order.append((c, done[c]))
                if c == Chunk.SOFTMAX:
                    ring += entries[done[c] % len(entries)]
                if c == Chunk.SHIFTER:
                    ring -= entries[done[c] % len(entries)]
                done[c] += 1
                progress = True
        if not progress:
            break
    stuck = [c for c in range(N) if done[c] < goal[c]]
    if stuck:
        raise DeadlockError(
            "deadlock: " + "; ".join(f"{events.text(c, done[c], 'start')} waits for {blocked(c)}" for c in stuck)
        )
    return order


def _row_accesses(programs: dict[Chunk, list[Instruction]], config: AcceleratorConfig) -> list:
    """Per chunk and instruction: [(memory, write, per row: slice, index array, or None)], reads first."""

    def compact(index: np.ndarray) -> slice | np.ndarray | None:
        if not len(index):
            return None
        lo, hi = int(index[0]), int(index[-1])
        return slice(lo, hi + 1) if hi - lo + 1 == len(index) else index

    limits = memory_rows(config)
    out = []
    for c in Chunk:
        entries = []
        for n, i in enumerate(programs[c]):
            rows = []
            for a in accesses(c, i.rows, i.op, config):
                if a.index.size and (a.index.min() < 0 or a.index.max() >= limits[a.memory]):
                    raise ValueError(
                        f"program: {c.name} instruction {n} leaves the {a.memory.title} "
                        f"({a.index.min()}..{a.index.max()} of {limits[a.memory]} rows)"
                    )
                each = [compact(a.index)] * i.rows if a.shared else [compact(a.row(r)) for r in range(i.rows)]
                rows.append((a.memory, a.write, each))
            entries.append(rows)
        out.append(entries)
    return out


def prove(
    programs: dict[Chunk, list[Instruction]],
    labels: dict[Chunk, list[Label]],
    config: AcceleratorConfig,
) -> Proof:
    """Check a decoded program. Raises DeadlockError or OrderError, both ValueErrors that name rows and layers."""
    events = Events(programs, labels)
    order = legal_order(events, config)
    rows = _row_accesses(programs, config)
    sizes = memory_rows(config)
    writes = [np.zeros((len(_WRITERS[m]), s), dtype=np.int32) for m, s in zip(Memory, sizes)]
    reads = [np.zeros((len(_READERS[m]), s), dtype=np.int32) for m, s in zip(Memory, sizes)]
    writer = [[_WRITERS[m].index(c) if c in _WRITERS[m] else -1 for c in range(N)] for m in Memory]
    reader = [[_READERS[m].index(c) if c in _READERS[m] else -1 for c in range(N)] for m in Memory]
    of_writer = [np.array(_WRITERS[m], dtype=np.intp) for m in Memory]
    of_reader = [np.array(_READERS[m], dtype=np.intp) for m in Memory]
    finish = [np.zeros((t * 2, N), dtype=np.int32) for t in events.totals]
    start = np.zeros((N, N), dtype=np.int32)
    checked = 0

    def fail(
        c: int,
        number: int,
        write: bool,
        memory: Memory,
        index: slice | np.ndarray,
        table: np.ndarray,
        chunks: tuple[Chunk, ...],
        earlier_write: bool,
        k: int,
    ) -> None:
        at = np.arange(sizes[memory])[index]
        address = int(at[np.argmax(table[k][index])])
        first = Access(chunks[k], int(table[k][address]) - 1, earlier_write, "")
        verb = {False: "read", True: "write"}
        first = dataclasses.replace(first, text=events.text(first.chunk, first.number, verb[earlier_write]))
        second = Access(Chunk(c), number, write, events.text(c, number, verb[write]))
        raise OrderError(first, second, f"{memory.title} row {address}")

    for c, number in order:
        known = start[c]
        for src, t in events.thresholds(c, number):
            if t > 0:
                np.maximum(known, finish[src][t - 1], out=known)
        n, row = events.rows[c][number % events.totals[c]]
        for memory, write, each in rows[c][n]:
            index = each[row]
            if index is None:
                continue
            w = writes[memory]
            checked += index.stop - index.start if isinstance(index, slice) else len(index)
            late = w[:, index].max(axis=1) > known[of_writer[memory]]
            if write:
                own = writer[memory][c]
                late[own] = False
                if late.any():
                    fail(c, number, True, memory, index, w, _WRITERS[memory], True, int(late.argmax()))
                r = reads[memory]
                late = r[:, index].max(axis=1) > known[of_reader[memory]]
                if reader[memory][c] >= 0:
                    late[reader[memory][c]] = False
                if late.any():
                    fail(c, number, True, memory, index, r, _READERS[memory], False, int(late.argmax()))
                w[:, index] = 0
                r[:, index] = 0
                w[own, index] = number + 1
            else:
                if late.any():
                    fail(c, number, False, memory, index, w, _WRITERS[memory], True, int(late.argmax()))
                reads[memory][reader[memory][c], index] = number + 1
        end = finish[c][number]
        end[:] = known
        if number:
            np.maximum(end, finish[c][number - 1], out=end)
        if c == Chunk.SHIFTER:
            np.maximum(end, finish[Chunk.SOFTMAX][number], out=end)
        end[c] = number + 1
    return Proof(len(order), checked, order)
