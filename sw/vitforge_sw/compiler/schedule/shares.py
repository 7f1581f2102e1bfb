"""Which engine does what of a matmul: every matmul goes to every engine that can take it."""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ...ops import Matmul, Scores


@dataclasses.dataclass(frozen=True)
class Share:
    """An engine's part: groups first, first + 1 + skip, ...; tiles tile..tile+tiles-1."""

    chunk: Chunk
    first: int
    rows: int
    skip: int
    tile: int
    tiles: int


def engines(node: Matmul | Scores, config: AcceleratorConfig, allowed: str = "both") -> tuple[Chunk, ...]:
    """Engines that can take a matmul of token groups: MAT's input port rotates tokens, R-MAC reads whole groups.

    ``allowed``: CompileOptions.engines.
    """
    both = config.trio and allowed == "both" and not getattr(node, "token_offset", 0)
    return (Chunk.MAT, Chunk.RMAC) if both else (Chunk.MAT,)


def shares(chunks: tuple[Chunk, ...], first: int, rows: int, tiles: int, swapped: bool = False) -> list[Share]:
    """Two engines take the groups in turn, MAT the even ones (``swapped``: the odd ones), of a single group one half of
    the tiles each."""
    if len(chunks) == 1:
        return [Share(chunks[0], first, rows, 0, 0, tiles)]
    if rows == 1:
        half = -(-tiles // 2)
        parts = [Share(chunks[0], first, 1, 0, 0, half), Share(chunks[1], first, 1, 0, half, tiles - half)]
        return [p for p in parts if p.tiles]
    starts = [first + (first + n + swapped) % 2 for n in (0, 1)]
    return [Share(c, at, -(-(first + rows - at) // 2), 1, 0, tiles) for c, at in zip(chunks, starts)]
