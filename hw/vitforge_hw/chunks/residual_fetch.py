"""Residual rows for the post-processing lanes, prefetched."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..interfaces import BufferRead
from .mat_fetch import is_last, op_queue, ring_rows

SLOTS = 8  #: tiles whose residual can wait
#: res_mode: 0 none, 1 int8, 2 two planes; decoded by bits
OP = data.StructLayout({"tiles": 10, "rows": 12, "res_mode": 2, "res_addr": 16, "res_stride": 16})


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
        row = Signal(12)
        tile = Signal(10)
        plane = Signal()
        fresh = Signal(init=1)
        active = Signal()
        base = Signal(16, reset_less=True)
        addr = Signal(16, reset_less=True)
        slots = Signal(range(SLOTS + 1), init=SLOTS)
        begin = Signal()
        accepted = Signal()
        ends_tile = Signal()
        ends_row = Signal()
        ends_op = Signal()
        row_last = is_last(row, op.rows)
        m.d.comb += [
            begin.eq(queue.r_rdy & ~active & granted.any()),
            self.res.valid.eq(active & slots.any()),
            self.res.addr.eq(addr),
            accepted.eq(self.res.valid & self.res.ready),
            ends_tile.eq(accepted & (plane | ~op.res_mode[1])),
            ends_row.eq((ends_tile & is_last(tile, op.tiles)) | (begin & ~op.res_mode.any())),
            ends_op.eq(ends_row & row_last),
            queue.r_en.eq(ends_op),
        ]
        m.d.sync += [
            granted.eq((granted + self.went)[: len(granted)] - begin),
            slots.eq((slots + self.pop)[: len(slots)] - ends_tile),
        ]
        with m.If(begin & op.res_mode.any()):
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
        fill = Signal(range(SLOTS))
        use = Signal(range(SLOTS))
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
