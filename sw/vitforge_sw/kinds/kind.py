"""What a kind of instruction declares, and what its parts may ask of the cycle model."""

import abc
import collections
import dataclasses
from typing import Any

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import Kind
from vitforge_hw.arch.isa import Chunk, Field, Instruction, op_fields
from vitforge_hw.arch.latency import Latency

from .access import Access, Memory
from .memories import Memories

Op = dict[str, int]  #: fields of an instruction; those that are 0 may be missing


@dataclasses.dataclass(frozen=True)
class Output:
    """Where an instruction's rows lie in the memory that they are written to.

    address: of the first row's first group. groups: token groups (K^T V: heads) of a row. step: groups from one row to
    the next. stride: memory rows from one group to the next. words: memory rows of a group. whole: groups before the
    instruction are counted in its own rows (images).
    """

    memory: Memory
    address: int
    groups: int
    step: int
    stride: int
    words: int
    whole: bool = False


class Window:
    """The window buffer in the cycle model: a ring that instructions fill one behind the other, without a border.

    Each map row (K^T V: the groups of a head) is kept until the row of its instruction that needs it last has ended.
    """

    def __init__(self) -> None:
        self._held: collections.deque[tuple[int, list[int], int]] = collections.deque()
        self._rows = 0

    def take(self, rows: int, time: int, ends: list[int], until: int, capacity: int) -> int:
        """When ``rows`` more of ``capacity`` window rows are free, not before ``time``; they are then in use.

        ends: of the instruction's rows, filled as they end; until: the one that needs these rows last (or its last).
        """
        while self._held and self._rows + rows > capacity:
            size, before, number = self._held.popleft()
            self._rows -= size
            if before:
                time = max(time, before[min(number, len(before) - 1)] + 1)
        self._held.append((rows, ends, until))
        self._rows += rows
        return time


@dataclasses.dataclass
class Engine:
    """The front end of MAT or R-MAC in the cycle model: group register, window buffer.

    words: token groups in the group register [(words, end of their steps)], held: their words. free: the next row's go
    can be taken; fetched: the last word is asked for; kind: of the last instruction; drained: its last tile is handed
    over; rows: end of each row of the present window instruction; window: the window buffer.
    """

    words: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    held: int = 0
    free: int = 0
    fetched: int = 0
    kind: Kind = Kind.POINTWISE
    drained: int = 0
    rows: list[int] = dataclasses.field(default_factory=list)
    window: Window = dataclasses.field(default_factory=Window)


class Clock(abc.ABC):
    """The cycle model as kinds see it. All times are cycles; row numbers count over all images.

    Members
    -------
    c, t : configuration and latencies
    latency : of the DRAM
    go, start, end, done : per chunk, arrays over its rows; those of rows walked through before are valid
    engines : state of MAT and R-MAC
    both_engines : R-MAC has instructions
    loaded : when softmax has read its last row's scores
    """

    c: AcceleratorConfig
    t: Latency
    latency: int
    go: list[np.ndarray]
    start: list[np.ndarray]
    end: list[np.ndarray]
    done: list[np.ndarray]
    engines: dict[Chunk, Engine]
    both_engines: bool
    loaded: int

    @abc.abstractmethod
    def instruction(self, chunk: Chunk, number: int) -> Instruction:
        """That row ``number`` belongs to."""

    @abc.abstractmethod
    def set(self, chunk: Chunk, number: int, go: int, start: int, end: int, done: int) -> None:
        """The times of a row: taken, work begins, work ends, finished."""

    @abc.abstractmethod
    def reads(self, address: int, time: int, count: int) -> int:
        """End of ``count`` reads of the activation buffer from ``time`` on, one a cycle where MAT leaves the port."""

    @abc.abstractmethod
    def last_reads(self, address: int, time: int, count: int) -> int:
        """The same where all others that were asked for leave the port."""

    @abc.abstractmethod
    def fetch(self, chunk: Chunk, address: int, begin: int, count: int, ahead: int) -> int:
        """End of an engine's input reads; MAT's go first, the ``ahead`` words of its rows with them."""

    @abc.abstractmethod
    def stalls(self, address: int, start: int, end: int) -> int:
        """Cycles that MAT's input reads keep values from the shifter array, beyond what is read ahead."""

    @abc.abstractmethod
    def post(self, start: int, end: int, tiles: int) -> int:
        """End of an engine's work whose tiles share the post-processing lanes with the other engine's."""

    @abc.abstractmethod
    def transfer(self, chunk: Chunk, go: int, source: int, beats: int) -> tuple[int, int]:
        """(first burst is asked for, last beat is there) of a read of DRAM."""

    @abc.abstractmethod
    def entry(self, number: int) -> int:
        """Code-ring words of softmax row ``number``."""

    def last(self, chunk: Chunk, number: int) -> int:
        """End of the work of the row before row ``number``."""
        return int(self.end[chunk][number - 1]) if number else 0


class InstructionKind(abc.ABC):
    """One kind of instruction: fields, accesses, cutting, cycles, what it does in the emulator, what it writes.

    Parts that have a default say what most kinds do.

    Members
    -------
    name : as the registry lists it
    chunks : that run it, in isa's order
    code : field ``kind`` of an R-MAC instruction
    reading, writing : memories that its accesses may touch
    partial : its writes leave parts of their memory rows alone
    windows : rows read windows of a map: the second part of a cut instruction reads again what the first has read
    adds : its steps are additions, not multiplications
    products : its tiles hold value channels of one key channel, not tokens
    padded : what it writes is a tensor in whole groups of tokens
    """

    name: str
    chunks: tuple[Chunk, ...]
    code: Kind = Kind.POINTWISE
    reading: tuple[Memory, ...] = ()
    writing: tuple[Memory, ...] = ()
    partial = False
    windows = False
    adds = False
    products = False
    padded = True

    # ------------------------------------------------------------ fields

    def fields(self, chunk: Chunk) -> tuple[Field, ...]:
        """Its format."""
        return op_fields(chunk, self.code)

    def filled(self, op: Op) -> Op:
        """The op with the fields that it omits."""
        return {f.name: op.get(f.name, 0) for chunk in self.chunks for f in self.fields(chunk)}

    # ------------------------------------------------------------ accesses and rows

    @abc.abstractmethod
    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        """Every access of an instruction, reads before writes; ``op`` is filled."""

    def row_groups(self, op: Op) -> int:
        """What ``first`` of a step or label advances by from row to row: token groups, heads, rows of the DMA."""
        return 1

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        """The op of the same instruction without its first ``rows`` rows."""
        raise AssertionError(f"{self.name} instructions have one row")

    def split_unit(self, config: AcceleratorConfig) -> int:
        """Instructions can only be cut at multiples of this many rows."""
        return 1

    @abc.abstractmethod
    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output | None:
        """What the rows write of the instruction's tensor, which has ``stride`` buffer rows a group in ``planes`` byte
        planes; None: they write no tensor."""

    # ------------------------------------------------------------ cycles

    @abc.abstractmethod
    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """Cycles of a row in a stream of rows, all its operands being there."""

    def steps(self, op: Op, c: AcceleratorConfig) -> int:
        """Cycles in which an engine multiplies in a row (sums over tokens: adds)."""
        return 0

    def tiles(self, op: Op, c: AcceleratorConfig) -> list[tuple[int, int]]:
        """(group, tile) of the tiles that a row gives to post-processing, in their order."""
        return []

    def tile_count(self, op: Op, c: AcceleratorConfig) -> int:
        """Their number."""
        return len(self.tiles(op, c))

    @abc.abstractmethod
    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        """Set the times of row ``row`` of an instruction, whose waits are satisfied at ``go``."""

    # ------------------------------------------------------------ emulator

    @abc.abstractmethod
    def read(self, m: Memories, op: Op, row: int) -> tuple[Any, ...]:
        """Copies of everything that a row reads."""

    @abc.abstractmethod
    def write(self, m: Memories, op: Op, row: int, operands: tuple[Any, ...]) -> np.ndarray | None:
        """Compute and store a row: the values (tokens, channels) that it produced, or None (weights, keys)."""

    def placed(
        self, m: Memories, value: np.ndarray, op: Op, first: int, row: int, stride: int, planes: int
    ) -> tuple[np.ndarray, int, int]:
        """What ``write`` returned as part of its tensor: values (tokens, channels), first token with those that fill
        groups, first channel behind the label's."""
        return value, (first + row * self.row_groups(op)) * m.config.cores, 0
