"""Step issue of the MAT chunk: rows, tiles and k steps of the PE array."""

import enum

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from .mat_fetch import is_last, op_queue, ring_rows

LATENCY = 3  #: cycles from the issue of a step to its operands (address register, READ_LATENCY)


class ArrayState(enum.IntEnum):
    """What the PE array does in a cycle."""

    NO_OP = 0  #: no instruction
    STEP = 1
    NO_DATA = 2  #: the next input word is not fetched
    NO_ROOM = 3  #: no place for the tile's result


OP = data.StructLayout({"tiles": 10, "ksteps": 9, "rows": 12, "weight_addr": 16})


class StepIssue(wiring.Component):
    """One step a cycle: row (group), tile, k; weight rows start over with each row.

    A step of a row's first tile waits for its word in the group register, a tile's last step for room in the
    result FIFO.

    Parameters
    ----------
    config : AcceleratorConfig
    results : tiles that the result FIFO holds

    Members
    -------
    op_valid, op_ready, op : tiles, ksteps, rows, weight_addr of an instruction
    arrived : one more word in the group register
    freed_valid, freed : a row's words are not needed any more
    popped : one tile has left the result FIFO
    weight_addr, use_addr : weight row and word of the group register
    valid, first, last : the operands of a step are there; it begins, ends a tile
    state, row_end : what the array does (ArrayState); a row's last step (for monitors)

    Latency/throughput
    ------------------
    A word that arrives in cycle t can be used by a step issued in t + 1; operands 3 cycles after the issue (``valid``).
    One step a cycle, no gap between tiles, rows and instructions.
    """

    def __init__(self, config: AcceleratorConfig, results: int):
        self._config, self._results = config, results
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(OP),
                "arrived": In(1),
                "freed_valid": Out(1),
                "freed": Out(9),
                "popped": In(1),
                "weight_addr": Out(16),
                "use_addr": Out(range(ring_rows(config))),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "state": Out(2),
                "row_end": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = ring_rows(self._config)
        queue, op = op_queue(m, "ops", OP)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]

        k = Signal(9)
        tile = Signal(10)
        row = Signal(12)
        k_last = Signal()
        tile_last = Signal()
        row_last = Signal()
        words = Signal(range(depth + 1))  # arrived and not yet used by a first tile
        credits = Signal(range(self._results + 1), init=self._results)
        step = Signal()
        ends_tile, ends_row = step & k_last, step & k_last & tile_last
        m.d.comb += [
            k_last.eq(is_last(k, op.ksteps)),
            tile_last.eq(is_last(tile, op.tiles)),
            row_last.eq(is_last(row, op.rows)),
            step.eq(queue.r_rdy & (tile.any() | words.any()) & (~k_last | credits.any())),
            queue.r_en.eq(ends_row & row_last),
            self.freed_valid.eq(ends_row),
            self.freed.eq(op.ksteps),
        ]
        m.d.comb += [
            self.state.eq(
                Mux(
                    step,
                    ArrayState.STEP,
                    Mux(
                        ~queue.r_rdy,
                        ArrayState.NO_OP,
                        Mux(k_last & ~credits.any(), ArrayState.NO_ROOM, ArrayState.NO_DATA),
                    ),
                )
            ),
            self.row_end.eq(ends_row),
        ]
        m.d.sync += [
            words.eq((words + self.arrived)[: len(words)] - (step & ~tile.any())),
            credits.eq((credits + self.popped)[: len(credits)] - ends_tile),
        ]
        with m.If(step):
            m.d.sync += k.eq(Mux(k_last, 0, k + 1))
        with m.If(ends_tile):
            m.d.sync += tile.eq(Mux(tile_last, 0, tile + 1))
        with m.If(ends_row):
            m.d.sync += row.eq(Mux(row_last, 0, row + 1))

        weight = Signal(16, reset_less=True)
        base = Signal(range(depth))
        weight_now = Mux(~(tile.any() | k.any()), op.weight_addr, weight)
        with m.If(step):
            m.d.sync += weight.eq(weight_now + 1)
        with m.If(ends_row):
            m.d.sync += base.eq(base + op.ksteps[: len(base)])

        weight_addr = Signal(16, reset_less=True)
        use_addr = Signal(range(depth), reset_less=True)
        m.d.sync += [weight_addr.eq(weight_now), use_addr.eq(base + k[: len(base)])]
        m.d.comb += [self.weight_addr.eq(weight_addr), self.use_addr.eq(use_addr)]
        flags = (step, ~k.any(), k_last)
        for i in range(LATENCY):
            delayed = [Signal(name=f"{n}{i + 1}", reset_less=n != "valid") for n in ("valid", "first", "last")]
            m.d.sync += [d.eq(f) for d, f in zip(delayed, flags, strict=True)]
            flags = delayed
        m.d.comb += [p.eq(f) for p, f in zip((self.valid, self.first, self.last), flags, strict=True)]
        return m
