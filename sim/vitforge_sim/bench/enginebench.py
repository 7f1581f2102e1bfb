"""MAT or R-MAC alone: its weight memories, and what stands behind it instead of the post-processing lanes."""

import numpy as np

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import ACC_BITS
from vitforge_hw.interfaces import FACTOR_BITS, MANTISSA_BITS, POST_OP, RESULTS

from .chunkbench import ChunkBench
from .portbench import Record


class EngineBench(ChunkBench):
    """ChunkBench with the weight memories and the post-processing lanes' side of ``out``.

    dut: engine with ``out`` and ``array``; weights, ksum: rows of its memories; pace: cycles from a place that is given
    back to the next, at least; first_go: cycles before the first row may begin; options: ChunkBench's, "post_op" and
    "pop" stall as well. It records ``tile`` and ``factor`` (see `sums` and `factors`), ``row_end``, ``state`` of the
    array in every cycle, and in ``posted`` what post-processing was told.
    """

    def __init__(self, dut, instructions, weights, ksum, *, pace: int = 1, first_go: int = 0, **options):
        self.waits = first_go
        super().__init__(dut, instructions, **options)
        self.posted: list[dict[str, int]] = []
        self.memory_port(dut.weights, lambda addr: weights[addr % len(weights)])
        if hasattr(dut, "ksum"):
            self.memory_port(dut.ksum, lambda addr: ksum[addr % len(ksum)])
        self.watch("tile", dut.out.tile_valid, dut.out.tile_acc)
        self.watch("factor", dut.out.factor_valid, dut.out.factor)
        self.watch("row_end", dut.array[2])
        self.watch("state", 1, dut.array[:2])
        self.add(self._post, dut.out, pace)

    def may_go(self, row):
        self.waits -= 1
        return self.waits < 0

    async def _post(self, ctx, out, pace):
        """Takes instructions, gives tiles' places back, and ends a row with its last tile."""
        tiles, rows, waiting, rest = 0, [], 0, 0
        while True:
            ready, popped = int(self.free("post_op")), int(waiting > 0 and rest == 0 and self.free("pop"))
            done = 0
            rest = pace - 1 if popped else max(rest - 1, 0)
            if popped:
                waiting -= 1
                tiles += 1
                if tiles == rows[0]:
                    done, tiles, rows = 1, 0, rows[1:]
            ctx.set(out.op.ready, ready)
            ctx.set(out.popped, popped)
            ctx.set(out.done, done)
            _, _, valid, op, tile = await ctx.tick().sample(out.op.valid, out.op.payload, out.tile_valid)
            if valid and ready:
                self.posted.append({name: int(getattr(op, name)) for name, _ in POST_OP})
                rows += [op.tiles * (op.groups + 1)] * op.rows
            waiting += tile
            assert waiting <= RESULTS, "a tile without a place"


def packed_op(port, chunk: isa.Chunk, op: dict[str, int]):
    """Payload for a stream of instructions, of an ``op`` whose kind says which fields it has."""
    fields = (isa.ROWS_FIELD, *isa.op_fields(chunk, op.get("kind", 0)))
    return port.payload.shape().from_bits(isa.pack(fields, op, "test"))


def signed(x) -> np.ndarray:
    """Bytes as int8, in int64."""
    return np.asarray(x, np.uint8).view(np.int8).astype(np.int64)


def words(rows) -> list[int]:
    """Rows of an array as the integers that a memory holds."""
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def elements(value: int, bits: int, count: int) -> list[int]:
    """``count`` fields of ``bits`` bits, the lowest first."""
    return [value >> bits * i & (1 << bits) - 1 for i in range(count)]


def sums(config, record: Record) -> list[list[int]]:
    """Accumulators of every tile, element ``token * lanes + lane``."""
    tiles = [elements(value, ACC_BITS, config.cores * config.lanes) for _, value in record.watched["tile"]]
    return [[v - (1 << ACC_BITS) if v >> ACC_BITS - 1 else v for v in tile] for tile in tiles]


def factors(config, record: Record) -> list[list[tuple[int, int]]]:
    """Mantissa and p of every token, for every tile that is divided."""
    tiles = [elements(value, FACTOR_BITS, config.cores) for _, value in record.watched["factor"]]
    return [[(f & (1 << MANTISSA_BITS) - 1, f >> MANTISSA_BITS) for f in tile] for tile in tiles]
