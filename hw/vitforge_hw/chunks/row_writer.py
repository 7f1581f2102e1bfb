"""Writes the MAT chunk's finished rows to the activation buffer and reports rows of its instructions."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..interfaces import BufferWrite
from .mat_fetch import is_last, op_queue

SLOTS = 8  #: finished tiles that can wait for the buffer
OP = data.StructLayout({"tiles": 10, "rows": 12, "out_addr": 16, "out_stride": 16, "out_wide": 1})


class RowWriter(wiring.Component):
    """Finished tiles to one row each, or to a low and a high row.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : tiles, rows, out_addr, out_stride, out_wide of an instruction
    push, low, high : a finished tile (room is guaranteed by credits)
    freed : a tile's place is free again
    wr : activation buffer
    done : the last write of an instruction's row (group) was accepted in the cycle before

    Latency/throughput: ``push`` to ``wr.valid`` 2 cycles; one write a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(OP),
                "push": In(1),
                "low": In(c.row_bytes * 8),
                "high": In(c.row_bytes * 8),
                "freed": Out(1),
                "wr": Out(BufferWrite(c)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        queue, op = op_queue(m, "ops", OP)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]

        fill = Signal(range(SLOTS))
        use = Signal(range(SLOTS))
        count = Signal(range(SLOTS + 1))
        planes = []
        for name, value in (("low", self.low), ("high", self.high)):
            m.submodules[f"{name}_slots"] = slot = memory.Memory(shape=c.row_bytes * 8, depth=SLOTS, init=[])
            write, read = slot.write_port(), slot.read_port(domain="comb")
            m.d.comb += [write.en.eq(self.push), write.addr.eq(fill), write.data.eq(value), read.addr.eq(use)]
            planes.append(read.data)
        with m.If(self.push):
            m.d.sync += fill.eq(fill + 1)

        row = Signal(12)
        tile = Signal(10)
        plane = Signal()
        fresh = Signal(init=1)
        base = Signal(16, reset_less=True)
        addr = Signal(16, reset_less=True)
        start = Signal(16)  # first address of the present row
        now = Signal(16)
        take = Signal()
        ends_tile = Signal()
        ends_row = Signal()
        row_last = is_last(row, op.rows)
        valid = Signal()
        wr_row_end = Signal(reset_less=True)
        out_addr = Signal(16, reset_less=True)
        out = Signal(c.row_bytes * 8, reset_less=True)
        m.d.comb += [
            take.eq(count.any() & (~valid | self.wr.ready)),
            ends_tile.eq(take & (plane | ~op.out_wide)),
            ends_row.eq(ends_tile & is_last(tile, op.tiles)),
            start.eq(Mux(fresh, op.out_addr, base)),
            now.eq(Mux(~(tile.any() | plane), start, addr)),
            queue.r_en.eq(ends_row & row_last),
            self.freed.eq(ends_tile),
        ]
        m.d.sync += count.eq((count + self.push)[: len(count)] - ends_tile)
        with m.If(take):
            m.d.sync += [
                addr.eq(now + 1),
                plane.eq(~ends_tile),
                out_addr.eq(now),
                out.eq(Mux(plane, planes[1], planes[0])),
                wr_row_end.eq(ends_row),
            ]
        with m.If(ends_tile):
            m.d.sync += [use.eq(use + 1), tile.eq(tile + 1)]
        with m.If(ends_row):
            m.d.sync += [
                tile.eq(0),
                row.eq(Mux(row_last, 0, row + 1)),
                fresh.eq(row_last),
                base.eq(start + op.out_stride),
            ]
        m.d.sync += valid.eq(take | (valid & ~self.wr.ready))
        done = Signal()
        m.d.sync += done.eq(valid & self.wr.ready & wr_row_end)
        m.d.comb += [
            self.wr.valid.eq(valid),
            self.wr.addr.eq(out_addr),
            self.wr.data.eq(out),
            self.wr.mask.eq((1 << c.cores) - 1),
            self.done.eq(done),
        ]
        return m
