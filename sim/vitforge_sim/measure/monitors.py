"""What every chunk did in every cycle, from the passive monitors `timeline`, `array` and, with trio, `rmac_array` (hw
core._watch_timeline).

Nothing here knows the program: rows are numbered in the order of their `go`, waits by their place in the instruction.
"""

import dataclasses

import numpy as np

from vitforge_hw.arch.isa import WAITS, Chunk
from vitforge_hw.engines.step_issue import ArrayState

from ..run.accelerator import CHUNK_BITS
from ..run.topbench import BenchResult

MONITORS = ("timeline", "array", "rmac_array")  #: what `decode` reads; the last one only where R-MAC is


@dataclasses.dataclass(frozen=True)
class Spans:
    """Non-overlapping stretches [begin, end) in cycles, in order of time, with a value each."""

    begin: np.ndarray
    end: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)

    def cut(self, begin: int, end: int) -> list[tuple[int, int, int]]:
        """(begin, end, value) of what lies in [begin, end)."""
        i = int(np.searchsorted(self.end, begin, "right")) if begin < end else len(self.begin)
        out = []
        while i < len(self.begin) and self.begin[i] < end:
            out.append((max(begin, int(self.begin[i])), min(end, int(self.end[i])), int(self.value[i])))
            i += 1
        return out


@dataclasses.dataclass(frozen=True)
class ChunkTimeline:
    """One chunk.

    go, done: cycle of each row's start and of its completion. waiting: stretches in which the next row's wait (value:
    its number in the instruction) was not satisfied. running: stretches inside an image's program.
    """

    go: np.ndarray
    done: np.ndarray
    waiting: Spans
    running: Spans


@dataclasses.dataclass(frozen=True)
class Timeline:
    """chunks: by chunk (an absent one does nothing). array: states of MAT's PE array (ArrayState). row_end: cycle of
    each MAT row's last step. rmac_array, rmac_row_end: the same of R-MAC; empty where the run has no such monitor."""

    chunks: dict[Chunk, ChunkTimeline]
    array: Spans
    row_end: np.ndarray
    rmac_array: Spans
    rmac_row_end: np.ndarray


def _value(records: np.ndarray) -> np.ndarray:
    """Data of the records (at most 64 bits) as uint64."""
    data = np.zeros((len(records), 8), np.uint8)
    width = min(8, records["data"].shape[1])
    data[:, :width] = records["data"][:, :width]
    return data.view("<u8")[:, 0]


def _spans(cycles: np.ndarray, values: np.ndarray, initial: int, end: int) -> Spans:
    """Stretches of equal value; before the first record it is ``initial``."""
    times = np.concatenate([[0], cycles]).astype(np.int64)
    values = np.concatenate([[initial], values]).astype(np.int64)
    first = np.concatenate([[True], values[1:] != values[:-1]])
    begin = times[first]
    stop = np.concatenate([begin[1:], [end]])
    keep = stop > begin
    return Spans(begin[keep], stop[keep], values[first][keep])


def _only(spans: Spans, wanted: np.ndarray) -> Spans:
    return Spans(spans.begin[wanted], spans.end[wanted], spans.value[wanted])


def decode(run: BenchResult) -> Timeline:
    """Timeline of a run that recorded `MONITORS`. Raises ValueError if it did not, or if records contradict."""
    for name in MONITORS[:2]:
        if name not in run.monitors:
            raise ValueError(f"timeline: the run must record monitor {name!r}")
    records = run.monitors["timeline"]
    cycles, value = records["cycle"].astype(np.int64), _value(records)
    chunks = {}
    for chunk in Chunk:
        field = value >> np.uint64(CHUNK_BITS * chunk) & np.uint64((1 << CHUNK_BITS) - 1)
        field = field.astype(np.int64)
        waiting = _spans(cycles, field >> 3, WAITS, run.cycles)
        running = _spans(cycles, field >> 2 & 1, 0, run.cycles)
        go, done = cycles[field & 1 == 1], cycles[field & 2 == 2]
        if len(done) > len(go) or (done < go[: len(done)]).any():
            raise ValueError(f"timeline: {chunk.name} finishes rows that it did not start")
        chunks[chunk] = ChunkTimeline(
            go, done, _only(waiting, waiting.value < WAITS), _only(running, running.value == 1)
        )
    if "rmac_array" in run.monitors:
        rmac = _array(run, "rmac_array")
    else:
        nothing = np.zeros(0, np.int64)
        rmac = Spans(nothing, nothing, nothing), nothing
    return Timeline(chunks, *_array(run, "array"), *rmac)


def _array(run: BenchResult, monitor: str) -> tuple[Spans, np.ndarray]:
    """An engine's array: its states, the cycles of its rows' last steps."""
    records = run.monitors[monitor]
    cycles, value = records["cycle"].astype(np.int64), _value(records).astype(np.int64)
    return _spans(cycles, value & 3, ArrayState.NO_OP, run.cycles), cycles[value & 4 == 4]
