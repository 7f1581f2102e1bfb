"""Residual rows for the post-processing lanes, prefetched."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..engines.group_fetch import last_numbers, op_queue
from ..interfaces import POST_OP, BufferRead
from ..units.pair import Pair
from .op import following, op_part
from .planes import planes

#: res_mode: 0 none, 1 int8, 2 two planes; decoded by bits
OP = op_part("tiles", "rows", "groups", "skip", "res_mode", "res_addr", "res_stride")


class ResidualFetch(wiring.Component):
    """Reads the residual rows of each tile (one, or low and high plane) as soon as the row has its ``go``.

    Parameters
    ----------
    config : AcceleratorConfig
    slots : tiles whose residual can wait, a power of two

    Members
    -------
    op_valid, op_ready, op : tiles, rows, groups, skip, res_mode, res_addr, res_stride of an instruction
    went : one more row may be read
    res : activation buffer
    arrived : one more tile is complete (can be used from the next cycle on)
    low, high : planes of the oldest tile; ``pop`` frees it

    Latency/throughput
    ------------------
    First request 3 cycles after ``went``, then one a cycle but for one between rows and two between instructions; up to
    ``slots`` tiles ahead. Instructions without a residual take one cycle a row and one.
    """

    def __init__(self, config: AcceleratorConfig, slots: int):
        self._config, self._slots = config, slots
        c = config
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
        m = Module()
        queue, op = op_queue(m, "ops", OP, registered=True)
        m.d.comb += [
            queue.w_data.eq(last_numbers(self.op, "tiles", "rows")),
            queue.w_en.eq(self.op_valid),
            self.op_ready.eq(queue.w_rdy),
        ]

        granted = Signal(POST_OP.members["rows"])  # rows with go that have not begun here: an engine takes far fewer
        row, tile, group = (Signal(POST_OP.members[f"{name}s"], name=name) for name in ("row", "tile", "group"))
        plane = Signal()
        fresh = Signal(init=1)
        active = Signal()
        base = Signal(16, reset_less=True)  # the present group
        row_start = Signal(16, reset_less=True)
        addr = Signal(16, reset_less=True)
        slots = Signal(range(self._slots + 1), init=self._slots)
        begin = Signal()
        accepted = Signal()  # a request is made
        request = data.StructLayout({"addr": 16, "plane": 1, "ends_tile": 1})
        m.submodules.requests = requests = Pair(request.size)
        ends_tile = Signal()
        ends_group = Signal()
        ends_row = Signal()
        ends_op = Signal()
        over = Signal()  # the instruction leaves the queue a cycle after its last request
        row_last = row == op.rows
        group_last = group == op.groups
        m.d.comb += [
            begin.eq(queue.r_rdy & ~over & ~active & granted.any()),
            accepted.eq(active & slots.any() & requests.w_rdy),
            ends_tile.eq(accepted & (plane | ~op.res_mode[1])),
            ends_group.eq(ends_tile & (tile == op.tiles)),
            ends_row.eq((ends_group & group_last) | (begin & ~op.res_mode.any())),
            ends_op.eq(ends_row & row_last),
            queue.r_en.eq(over),
        ]
        m.d.sync += over.eq(ends_op)
        m.d.sync += [
            granted.eq((granted + self.went)[: len(granted)] - begin),
            slots.eq((slots + self.pop)[: len(slots)] - ends_tile),
        ]
        with m.If(begin & op.res_mode.any()):
            start = Mux(fresh, op.res_addr, base)
            m.d.sync += [active.eq(1), fresh.eq(0), addr.eq(start), base.eq(start), row_start.eq(start)]
        with m.If(accepted):
            m.d.sync += [addr.eq(addr + 1), plane.eq(~ends_tile)]
        with m.If(ends_tile):
            m.d.sync += tile.eq(tile + 1)
        with m.If(ends_group):
            next_group = following(base, row_start, op.res_stride, group_last, op.skip)
            m.d.sync += [tile.eq(0), group.eq(group + 1), base.eq(next_group), addr.eq(next_group)]
        with m.If(ends_row):
            m.d.sync += [active.eq(0), group.eq(0), row.eq(Mux(row_last, 0, row + 1))]
        with m.If(over):
            m.d.sync += fresh.eq(1)

        # ---- two requests wait, so that nothing above depends on the buffer's arbitration
        now = Signal(request)
        m.d.comb += [
            requests.w_en.eq(accepted),
            requests.w_data.eq(Cat(addr, plane, ends_tile)),
            now.eq(requests.r_data),
            self.res.valid.eq(requests.r_rdy),
            self.res.addr.eq(now.addr),
            requests.r_en.eq(self.res.ready),
        ]

        # ---- data come READ_LATENCY after the request: which plane, and whether it completes a tile
        asked = self.res.valid & self.res.ready
        tags = Cat(asked & ~now.plane, asked & now.plane, asked & now.ends_tile)
        for i in range(2):
            delayed = Signal(3, name=f"tag{i}")
            m.d.sync += delayed.eq(tags)
            tags = delayed
        rows = {"low": (tags[0], self.res.data), "high": (tags[1], self.res.data)}
        low, high = planes(m, "slots", self._slots, rows, tags[2], self.pop)
        m.d.comb += [self.low.eq(Cat(low)), self.high.eq(Cat(high)), self.arrived.eq(tags[2])]
        return m
