"""Garbage where no data is alive: rows read for the last time, and rows that are being written.

How often each written row is read before it is written again does not depend on the order, because the program has no
races; it is counted once along one legal order.
"""

import numpy as np

from vitforge_hw.arch.isa import Chunk

from ..compiler.program.build import Build
from ..compiler.program.proof import Events, legal_order
from ..kinds import accesses, kind_of, memory_rows


class Poison:
    """Parameters
    ----------
    build : the program whose reads are counted
    arrays : memories in the order of kinds.Memory
    rng : source of garbage
    """

    def __init__(self, build: Build, arrays: tuple[np.ndarray, ...], rng: np.random.Generator):
        self.arrays, self.rng = arrays, rng
        self.partial: list[list[bool]] = []  #: chunk, row of the image: its writes leave parts of their rows alone
        self.rows: list[list[tuple[list, list]]] = []  #: chunk, row of the image -> reads, writes [(memory, rows)]
        for c in Chunk:
            events = []
            for i in build.programs[c]:
                items = accesses(c, i.rows, i.op, build.config)
                for r in range(i.rows):
                    reads = [(a.memory, a.row(r)) for a in items if not a.write]
                    events.append((reads, [(a.memory, a.row(r)) for a in items if a.write]))
            self.rows.append(events)
            self.partial.append([kind_of(c, i.op).partial for i in build.programs[c] for _ in range(i.rows)])
        self.left = [np.full(n, -1, dtype=np.int64) for n in memory_rows(build.config)]
        self.counts = self._count(build)

    def _count(self, build: Build) -> dict[tuple[int, int], list[np.ndarray]]:
        """(chunk, row of the image) -> per written range, reads of each row until the next write."""
        events = Events(build.programs, build.labels)
        slot = [np.zeros(len(x), dtype=np.int64) for x in self.left]
        places, size = [], 1
        order = legal_order(events, build.config)
        for c, n in order:
            for _, index in self.rows[c][n % events.totals[c]][1]:
                places.append(size)
                size += len(index)
        total = np.zeros(size, dtype=np.int64)
        position, starts = 0, {}
        for c, n in order:
            reads, writes = self.rows[c][n % events.totals[c]]
            if n < events.totals[c]:
                starts[(c, n)] = []
            for memory, index in reads:
                total[slot[memory][index]] += 1
            for memory, index in writes:
                slot[memory][index] = places[position] + np.arange(len(index))
                if n < events.totals[c]:
                    starts[(c, n)].append((places[position], len(index)))
                position += 1
        return {key: [total[a : a + k] for a, k in value] for key, value in starts.items()}

    def _fill(self, memory: int, index: np.ndarray):
        if len(index):
            shape = (len(index), self.arrays[memory].shape[1])
            self.arrays[memory][index] = self.rng.integers(0, 256, shape, dtype=np.uint8)

    def read(self, chunk: int, row: int):
        """A row has captured its operands: what it read last is dead, what it will write is undefined until then."""
        reads, writes = self.rows[chunk][row]
        for memory, index in reads:
            left = self.left[memory]
            left[index] -= 1
            self._fill(memory, np.unique(index[left[index] == 0]))
        if not self.partial[chunk][row]:
            for memory, index in writes:
                self._fill(memory, index)

    def written(self, chunk: int, row: int):
        """A row has stored its results."""
        for (memory, index), count in zip(self.rows[chunk][row][1], self.counts[(chunk, row)]):
            self.left[memory][index] = count
