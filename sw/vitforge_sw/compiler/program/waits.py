"""From the sequential schedule to waits: which rows must be finished before which, and the fewest waits that say so.

Two images are walked through in schedule order. For every memory row the last writer and, per chunk, the last reader
since are known; an access needs the conflicting ones before it *finished*. A need is dropped where it follows from the
chunk's own order and its other waits (vector clocks: per event, how many rows of each chunk are known to be finished
when it starts), what is left is put into the sloped form of arch.isa.Wait; an instruction whose needs have no such
form is cut. So no emitted wait can be left out.
"""

import dataclasses
import functools

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import IMAGE_SHIFT, WAITS, Chunk, Instruction, Wait

from ...kinds import Access, accesses, kind_of, memory_rows
from .steps import Step

N = len(Chunk)
_CUR, _PREV = 0, 1


class Memory:
    """Per memory row: 1 + index of the last write by chunk (if it was the last writer), and of the last reads since."""

    def __init__(self, config: AcceleratorConfig):
        self.writes = [np.zeros((N, rows), dtype=np.int32) for rows in memory_rows(config)]
        self.reads = [np.zeros((N, rows), dtype=np.int32) for rows in memory_rows(config)]

    def needs(self, chunk: Chunk, rows: int, first: int, items: list[Access]) -> np.ndarray:
        """Rows of each chunk that each row needs finished, (rows, chunks); then the accesses are noted."""
        need = np.zeros((rows, N), dtype=np.int32)
        for a in items:
            w, r = self.writes[a.memory], self.reads[a.memory]
            index = a.index
            found = w[:, index].max(axis=-1)
            if a.write:
                found = np.maximum(found, r[:, index].max(axis=-1))
                found[chunk] = 0  # a chunk's own accesses are in order, except that reads run ahead of writes
            if a.shared:
                need[0] = np.maximum(need[0], found)
            else:
                part = need[a.first : a.first + len(a.index)]
                np.maximum(part, found.T, out=part)
        for a in items:
            w, r = self.writes[a.memory], self.reads[a.memory]
            done = np.asarray(first + rows)
            if not a.shared:
                done = np.broadcast_to((first + a.first + 1 + np.arange(len(a.index)))[:, None], a.index.shape)
            if a.write:
                w[:, a.index] = 0
                r[:, a.index] = 0
                w[chunk, a.index] = done
            else:
                r[chunk, a.index] = done
        return need


class Clocks:
    """Rows of every chunk known to be finished when an event starts and when it finishes."""

    def __init__(self, totals: list[int], images: int = 2):
        self.finish = [np.zeros((t * images, N), dtype=np.int32) for t in totals]
        self.start = np.zeros((N, N), dtype=np.int32)  #: of each chunk's last started event

    def gather(self, thresholds: np.ndarray) -> np.ndarray:
        """(rows, chunks) thresholds -> (rows, chunks) finished rows that they imply."""
        out = np.zeros(thresholds.shape, dtype=np.int32)
        for s in np.flatnonzero(thresholds.any(axis=0)):
            t = thresholds[:, s]
            known = self.finish[s][np.maximum(t, 1) - 1]
            if not t.all():
                known[t <= 0] = 0
            np.maximum(out, known, out=out)
        return out

    def starts(self, chunk: Chunk, thresholds: np.ndarray) -> np.ndarray:
        """Start clocks of the chunk's next rows under these thresholds, (rows, chunks)."""
        known = self.gather(thresholds)
        known[0] = np.maximum(known[0], self.start[chunk])
        return np.maximum.accumulate(known, axis=0)

    def commit(self, chunk: Chunk, first: int, starts: np.ndarray) -> None:
        """Enter the rows' events."""
        rows = len(starts)
        self.start[chunk] = starts[-1]
        done = starts.copy()
        if chunk == Chunk.SHIFTER:  # an entry of the code ring is finished by softmax before it is used up
            done = np.maximum(done, self.finish[Chunk.SOFTMAX][first : first + rows])
        if first:
            done[0] = np.maximum(done[0], self.finish[chunk][first - 1])
        done = np.maximum.accumulate(done, axis=0)
        done[:, chunk] = first + 1 + np.arange(rows)
        self.finish[chunk][first : first + rows] = done


def derive(steps: list[Step], config: AcceleratorConfig) -> list[tuple[Step, Instruction]]:
    """Instructions with waits, in schedule order (cut steps give several).

    Where a step was cut whose second part reads again what the first has read, the waits of what overwrites it were
    made for the whole step: the parts become the steps.
    """
    while True:
        found = _derive(steps, config)
        cut = [len(parts) > 1 and kind_of(s.chunk, s.op).windows for s, parts in zip(steps, found)]
        if not any(cut):
            return [p for parts in found for p in parts]
        new, last = [], []
        for step, parts, again in zip(steps, found, cut):
            new += [s for s, _ in parts] if again else [step]
            last.append(len(new) - 1)
        steps = [dataclasses.replace(s, barriers=tuple(last[b] for b in s.barriers)) for s in new]


def _derive(steps: list[Step], config: AcceleratorConfig) -> list[list[tuple[Step, Instruction]]]:
    """Per step its instructions."""
    totals = [0] * N
    for s in steps:
        totals[s.chunk] += s.rows
    for c in Chunk:
        if totals[c] >= 1 << (IMAGE_SHIFT - 1):
            raise ValueError(f"program: {c.name} has {totals[c]} rows an image, at most {(1 << (IMAGE_SHIFT - 1)) - 1}")
    memory, clocks = Memory(config), Clocks(totals)
    items = [accesses(s.chunk, s.rows, s.op, config) for s in steps]
    out = []
    for image in (0, 1):
        position = [t * image for t in totals]
        ends: list[int] = []  # finished count of each step's chunk behind it
        for step, item in zip(steps, items):
            first = position[step.chunk]
            need = memory.needs(step.chunk, step.rows, first, item)
            for b in step.barriers:
                src = steps[b].chunk
                need[0, src] = max(need[0, src], ends[b])
            assert need[:, step.chunk].max() <= first, (step.layer, "reads what it writes itself")
            starts = clocks.starts(step.chunk, need)
            if image:
                out.append(_emit(step, need, starts, clocks, totals, config))
            clocks.commit(step.chunk, first, starts)
            position[step.chunk] += step.rows
            ends.append(position[step.chunk])
    return out


def _emit(
    step: Step, need: np.ndarray, starts: np.ndarray, clocks: Clocks, totals: list[int], config: AcceleratorConfig
) -> list[tuple[Step, Instruction]]:
    """Instructions of a step of the second image."""
    parts = []
    kind = kind_of(step.chunk, step.op)
    unit = kind.split_unit(config)
    before = clocks.start[step.chunk].copy()
    base = 0
    op = step.op
    while base < step.rows:
        left = step.rows - base
        for rows in range(left, 0, -1):
            if rows != left and rows % unit:
                continue
            waits = _waits(step, need[base : base + rows], starts[base : base + rows], clocks, totals)
            if waits is not None:
                break
        else:
            raise ValueError(f"layer {step.layer}: row {base} of {step.chunk.name} needs more than {WAITS} waits")
        part = dataclasses.replace(step, first=step.first + base * kind.row_groups(op), rows=rows, op=op)
        parts.append((part, Instruction(step.chunk, rows, op, tuple(waits))))
        clocks.start[step.chunk] = starts[base + rows - 1]
        base += rows
        if base < step.rows:
            op = kind.advance(op, rows, config)
    clocks.start[step.chunk] = before
    return parts


def _waits(step: Step, need: np.ndarray, starts: np.ndarray, clocks: Clocks, totals: list[int]) -> list[Wait] | None:
    """The fewest waits for these rows, or None if they do not fit one instruction."""
    # one column per source and image: need of the previous image only, need of the own image
    columns = []
    for s in np.flatnonzero(need.any(axis=0)).tolist():
        n = need[:, s]
        for image in (_PREV, _CUR):
            rows = (n > totals[s]) if image == _CUR else (n > 0) & (n <= totals[s])
            if rows.any():
                columns.append((s, image, np.where(rows, n, 0)))

    def combined(chosen: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
        t = np.zeros_like(need)
        for s, _, n in chosen:
            t[:, s] = np.maximum(t[:, s], n)
        return t

    kept = list(columns)
    for column in columns:
        rest = [c for c in kept if c is not column]
        if (clocks.starts(step.chunk, combined(rest)) >= need).all():
            kept = rest
    if len(kept) > WAITS:
        return None
    waits = []
    for column in kept:
        s, image, n = column
        # rows where the others, and this one's earlier rows, already imply it are free
        lower = np.zeros_like(n)
        others = [c for c in kept if c is not column]
        implied = clocks.starts(step.chunk, combined(others))[:, s]
        known = 0
        for r in np.flatnonzero(n > implied).tolist():
            if n[r] > known:
                lower[r] = known = n[r]
        offset = totals[s] if image == _CUR else 0
        wait = fit(np.where(lower > 0, lower - offset, 0), starts[:, s], totals[s], image == _CUR)
        if wait is None:
            return None
        base, a, b, shift, cap = wait
        waits.append(Wait(Chunk(s), base - (0 if image == _CUR else 1 << IMAGE_SHIFT), a, b, shift, cap))
    return waits


def fit(lower: np.ndarray, known: np.ndarray, total: int, current: bool) -> tuple[int, int, int, int, int] | None:
    """(base, a, b, s, cap) with lower <= threshold, and nothing beyond what is known to be finished anyway.

    lower: needed count per row, relative to the source's image, 0 where any will do; known: finished rows at each row's
    start in two-image counting (``total`` a image). A threshold of the own image that is not positive means that the
    previous image is finished.
    """
    wanted, top = lower > 0, int(lower.max())
    limit = known.astype(np.int64) - (total if current else 0)
    if (limit < (0 if current else 1)).any():  # a row at which nothing can be waited for
        return None
    # only the differences to ``top``, which no threshold exceeds, matter from here on
    gaps = np.where(wanted, top - lower, -1).astype(np.int32)
    found = _slope(gaps.tobytes(), np.minimum(limit - top, 0).astype(np.int32).tobytes())
    if found is None:
        return None
    below, a, b, s, cap = found
    return top - below, a, b, s, cap


@functools.cache
def _slopes(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(a, b, s) of every slope in the order of preference, 0 first, and what they add to the base at each row."""
    kinds = [(0, 0, 0)]
    kinds += [(a, b, s) for s in range(4) for a in range(1, 8) if not s or a % 2 for b in range(1 << s)]
    a, b, s = np.array(kinds, dtype=np.int32).T[:, :, None]
    return np.array(kinds), (np.arange(1, rows + 1, dtype=np.int32) * a + b) >> s


@functools.lru_cache(1 << 14)
def _slope(gaps: bytes, limits: bytes) -> tuple[int, int, int, int, int] | None:
    """``fit`` relative to the largest need: (top - base, a, b, s, cap). A network's blocks ask the same again and
    again. gaps: top - need, -1 where any will do; limits: known - top, at most 0."""
    gap, limit = np.frombuffer(gaps, np.int32), np.frombuffer(limits, np.int32)
    kinds, slopes = _slopes(len(gap))
    wanted = gap >= 0
    base = -(gap + slopes)[:, wanted].min(axis=1)
    cap = -base
    level = base[:, None] + np.minimum(slopes, cap[:, None])  # thresholds - top
    good = (cap <= 4095) & (level[:, wanted] >= -gap[wanted]).all(axis=1) & (level <= limit).all(axis=1)
    if not good.any():
        return None
    i = int(good.argmax())
    a, b, s = kinds[i].tolist()
    return int(cap[i]), a, b, s, int(cap[i])
