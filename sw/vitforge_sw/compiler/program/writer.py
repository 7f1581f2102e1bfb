"""What a schedule writes: steps in sequential order, pieces of the memory image, places in the rings for them."""

from collections.abc import Callable

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import DEST_LN_PARAMS, DEST_PARAMS, DEST_WEIGHTS, INSTRUCTION_BYTES, Chunk

from ...kinds.access import cdiv
from ..memory.rings import Ring
from .image import ProgramError
from .steps import Piece, Step

Content = Callable[[], np.ndarray]  #: makes the bytes of a piece
Starts = dict[int, tuple[int, int]]  #: destination -> Ring's (start, first)


def units(config: AcceleratorConfig) -> dict[int, int]:
    """Destination -> rows at multiples of which a piece must begin, where that is not 1."""
    return {DEST_PARAMS: config.param_read_bytes // config.beat_bytes}


class ProgramWriter:
    """Steps and pieces of one job.

    Parameters
    ----------
    config : AcceleratorConfig
    weight_rows : rows of the weight buffer that are a ring; the schedule uses those behind it itself
    starts : where the rings begin (``best_starts`` of a first pass)
    kept : piece -> (destination, rows): pieces with a place of their own behind their ring
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        weight_rows: int,
        starts: Starts | None = None,
        kept: dict[str, tuple[int, int]] | None = None,
    ):
        self.config = config
        self.steps: list[Step] = []
        self.pieces: list[Piece] = []
        self.beats = 0
        self.stored: dict[str, Piece] = {}
        sizes = {DEST_WEIGHTS: weight_rows, DEST_PARAMS: config.param_rows, DEST_LN_PARAMS: config.ln_param_rows}
        self.kept: dict[str, int] = {}  #: piece -> its address behind the ring
        for name, (dest, rows) in (kept or {}).items():
            unit = units(config).get(dest, 1)
            sizes[dest] -= cdiv(rows, unit) * unit
            self.kept[name] = sizes[dest]
        names = {DEST_WEIGHTS: "weight buffer", DEST_PARAMS: "parameter memory",
                 DEST_LN_PARAMS: "LayerNorm parameter memory"}  # fmt: skip
        self.rings = {dest: Ring(rows, names[dest], *(starts or {}).get(dest, ())) for dest, rows in sizes.items()}

    def add(self, chunk: Chunk, layer: str, first: int, rows: int, channel: int = 0, /, **op: int) -> int:
        """Append a step; its number."""
        self.steps.append(Step(chunk, layer, first, rows, op, channel))
        return len(self.steps) - 1

    def data(self, name: str, content: np.ndarray, layers: dict[str, int] | None = None) -> Piece:
        """Bytes placed on a beat of the memory image; ``layers`` if they belong to several."""
        flat = np.ascontiguousarray(content).view(np.uint8).ravel()
        beats = cdiv(len(flat), self.config.beat_bytes)
        layers = layers or {name.split(":")[0]: len(flat)}
        piece = Piece(name, self.beats, np.pad(flat, (0, beats * self.config.beat_bytes - len(flat))), layers)
        self.pieces.append(piece)
        self.beats += beats
        return piece

    def load(
        self,
        name: str,
        dest: int,
        content: Content,
        layers: dict[str, int] | None = None,
        stored: str | None = None,
        at: int | None = None,
    ) -> int:
        """WEIGHT_DMA of a piece, whose bytes the memory image holds once as ``stored`` (``name``); the address that it
        gets from the ring, or ``at``."""
        stored = stored or name
        if stored not in self.stored:
            self.stored[stored] = self.data(stored, content(), layers)
        piece = self.stored[stored]
        beats = len(piece.data) // self.config.beat_bytes
        rows = beats // self.config.beats_per_weight_row if dest == DEST_WEIGHTS else beats
        at = self.rings[dest].take(rows, name) if at is None else at
        self.add(Chunk.WEIGHT_DMA, name, 0, 1, source=piece.beat, beats=beats, dest=dest, dest_addr=at)
        return at

    def best_starts(self, cycles: int) -> Starts:
        """Where the rings should begin; ``cycles`` of a job, in which the uses of their pieces are counted."""
        loading = {DEST_WEIGHTS: self.config.beats_per_weight_row, DEST_PARAMS: 1, DEST_LN_PARAMS: 1}
        unit = units(self.config)
        return {d: ring.best(cycles, loading[d], unit.get(d, 1)) for d, ring in self.rings.items()}

    def check_length(self) -> None:
        """ProgramError: the program memory is too small even before instructions are cut."""
        c, count = self.config, 1 + len(self.steps)
        if count * c.instruction_beats > c.program_rows:
            raise ProgramError(
                f"program memory: at least {count} instructions of {INSTRUCTION_BYTES} bytes need "
                f"{count * c.instruction_beats} beats, program_rows = {c.program_rows} (preset {c.name})"
            )
