"""Rows of one layer on one chunk: what the row schedule is a list of."""

import dataclasses

from vitforge_hw.arch.isa import Chunk


@dataclasses.dataclass
class Run:
    """Rows first, first + pitch, ... of one layer's tiles on one chunk; from cycle ``start`` to ``end``."""

    chunk: Chunk
    layer: int
    first: int
    rows: int
    pitch: int
    tile: int
    tiles: int
    start: float
    end: float

    @property
    def top(self) -> int:
        """The last row."""
        return self.first + (self.rows - 1) * self.pitch
