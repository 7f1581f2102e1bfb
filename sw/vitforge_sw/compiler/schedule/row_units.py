"""Units of work of the row schedule, and the runs that they make."""

import dataclasses

from vitforge_hw.arch.isa import Chunk

from ..layers.efficientvit import Layer, MapNetwork
from ..layers.run import Run
from ..memory.rings import RingError
from ..tuning import Tuning


@dataclasses.dataclass(frozen=True)
class Unit:
    """One row of a layer, tiles ``tile`` to ``tile + tiles - 1`` (pointwise); ``last``: completes the row."""

    layer: int
    row: int
    tile: int
    tiles: int
    cycles: int
    last: bool = True


def ranges(a: int, b: int, n: int, unit: int) -> list[tuple[int, int]]:
    """n nearly equal ranges from a to b, all multiples of ``unit``."""
    count = (b - a) // unit
    return [(a + count * i // n * unit, a + count * (i + 1) // n * unit) for i in range(n)]


def pieces_of(net: MapNetwork, layer: Layer, rows: int, tuning: Tuning) -> list[tuple[int, int]]:
    """Ranges of output tiles with at most ``rows`` weight rows each, fewer for a deferred classifier."""
    unit = layer.gtiles or 1
    least = unit * layer.steps
    if layer.number in net.beside:
        rows = max(least, rows // tuning.beside_parts)
    if least > rows:
        raise RingError(f"layer {layer.name}: {unit} tiles have {least} weight rows, a piece at most {rows}")
    n = -(-(layer.tiles // unit) // (rows // least))
    return ranges(0, layer.tiles, n, unit)


def units_of(net: MapNetwork, layer: Layer, piece_rows: int, share: bool, tuning: Tuning) -> list[Unit]:
    """Units in the order in which they are taken."""
    if not layer.tiles:
        return [Unit(layer.number, r, 0, 0, layer.cycles) for r in range(layer.rows)]
    out, pieces = [], pieces_of(net, layer, piece_rows, tuning)
    for a, b in pieces:
        cycles = layer.cycles * (b - a) // layer.tiles
        half, unit = [(a, b)], layer.gtiles or 1
        long = cycles > tuning.long_row or layer.rows == 1 and len(pieces) == 1
        if share and layer.shared and b - a > unit and long:
            half = ranges(a, b, 2, unit)
        for r in range(layer.rows):
            for t0, t1 in half:
                cost = layer.cycles * (t1 - t0) // layer.tiles
                out.append(Unit(layer.number, r, t0, t1 - t0, cost, t1 == layer.tiles))
    return out


def coalesce(chunk: Chunk, sequence: list[tuple[Unit, float, float]]) -> list[Run]:
    """Maximal runs of rows at distance 1, or 2 (pointwise), of an engine's units in order."""
    runs: list[Run] = []
    for u, start, end in sequence:
        r = runs[-1] if runs else None
        step = u.row - r.top if r else 0
        if r and (r.layer, r.tile, r.tiles) == (u.layer, u.tile, u.tiles):
            if step in ((1, 2) if u.tiles else (1,)) and (r.rows == 1 or step == r.pitch):
                r.rows, r.pitch, r.end = r.rows + 1, step, end
                continue
        runs.append(Run(chunk, u.layer, u.row, 1, 1, u.tile, u.tiles, start, end))
    return runs
