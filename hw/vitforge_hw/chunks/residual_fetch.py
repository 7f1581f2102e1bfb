"""Residual rows for the post-processing lanes, prefetched."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..interfaces import BufferRead
from .mat_fetch import op_queue, ring_rows

SLOTS = 8  #: tiles whose residual can wait
NONE, BYTE, WIDE = 0, 1, 2  #: res_mode
OP = data.StructLayout({"tiles": 10, "rows": 12, "res_mode": 2, "res_addr": 16, "res_stride": 12})


class ResidualFetch(wiring.Component):
    """Reads the residual rows of each tile (one, or low and high plane) as soon as the row has its ``go``.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : tiles, rows, res_mode, res_addr, res_stride of an instruction
    went : one more row may be read
    res : activation buffer
    arrived : one more tile is complete (can be used from the next cycle on)
    low, high : planes of the oldest tile; ``pop`` frees it

    Latency/throughput
    ------------------
    First request 2 cycles after ``went``, then one a cycle but for one between rows; up to 8 tiles ahead.
    Instructions without a residual take one cycle a row.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(OP),
                "went": In(1),
                "res": Out(BufferRead(c)),
                "arrived": Out(1),
                "low": Out(c.row_bytes * 8),
                "high": Out(c.row_bytes * 8),
                "pop": In(1),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        queue, op = op_queue(m, "ops", OP)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]

        granted = Signal(range(2 * ring_rows(c)))  # rows with go that have not begun here
        row, tile, plane = Signal(12), Signal(10), Signal()
        fresh, active = Signal(init=1), Signal()
        base, addr = Signal(16, reset_less=True), Signal(16, reset_less=True)
        slots = Signal(range(SLOTS + 1), init=SLOTS)
        begin, accepted, ends_tile, ends_row = Signal(), Signal(), Signal(), Signal()
        ends_op = Signal()
        row_last = row == op.rows - 1
        m.d.comb += [
            begin.eq(queue.r_rdy & ~active & (granted != 0)),
            self.res.valid.eq(active & (slots != 0)),
            self.res.addr.eq(addr),
            accepted.eq(self.res.valid & self.res.ready),
            ends_tile.eq(accepted & (plane | (op.res_mode == BYTE))),
            ends_row.eq((ends_tile & (tile == op.tiles - 1)) | (begin & (op.res_mode == NONE))),
            ends_op.eq(ends_row & row_last),
            queue.r_en.eq(ends_op),
        ]
        m.d.sync += [
            granted.eq((granted + self.went - begin)[: len(granted)]),
            slots.eq((slots + self.pop - ends_tile)[: len(slots)]),
        ]
        with m.If(begin & (op.res_mode != NONE)):
            start = Mux(fresh, op.res_addr, base)
            m.d.sync += [active.eq(1), fresh.eq(0), addr.eq(start), base.eq(start + op.res_stride)]
        with m.If(accepted):
            m.d.sync += [addr.eq(addr + 1), plane.eq(~ends_tile)]
        with m.If(ends_tile):
            m.d.sync += tile.eq(tile + 1)
        with m.If(ends_row):
            m.d.sync += [active.eq(0), tile.eq(0), row.eq(Mux(row_last, 0, row + 1))]
        with m.If(ends_op):
            m.d.sync += fresh.eq(1)

        # ---- data come READ_LATENCY after the request: which plane, and whether it completes a tile
        tags = Cat(accepted & ~plane, accepted & plane, ends_tile)
        for i in range(2):
            delayed = Signal(3, name=f"tag{i}")
            m.d.sync += delayed.eq(tags)
            tags = delayed
        fill, use = Signal(range(SLOTS)), Signal(range(SLOTS))
        for name, enable, out in (("low", tags[0], self.low), ("high", tags[1], self.high)):
            m.submodules[f"{name}_slots"] = slot = memory.Memory(shape=c.row_bytes * 8, depth=SLOTS, init=[])
            write, read = slot.write_port(), slot.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(enable),
                write.addr.eq(fill),
                write.data.eq(self.res.data),
                read.addr.eq(use),
                out.eq(read.data),
            ]
        m.d.comb += self.arrived.eq(tags[2])
        with m.If(tags[2]):
            m.d.sync += fill.eq(fill + 1)
        with m.If(self.pop):
            m.d.sync += use.eq(use + 1)
        return m
