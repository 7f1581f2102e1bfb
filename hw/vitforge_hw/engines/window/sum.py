"""Sums over tokens: streams a map's words, block by block, to R-MAC's adder trees."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ...arch.config import AcceleratorConfig
from ...interfaces import READ_LATENCY, BufferRead
from ..group_fetch import is_last, op_queue
from ..step_issue import ArrayState
from .fetch import BITS, window_part
from .issue import edge


class TokenSum(wiring.Component):
    """Reads block b of every group, map row by map row, then block b + 1; padding pixels read 0, with ``relu`` also
    negative values. A block's last word is asked for when there is room for its tile.

    Parameters
    ----------
    config : AcceleratorConfig
    results : tiles that the result FIFO holds

    Members
    -------
    op_valid, op_ready, op : an instruction
    go_valid, go_ready : its only row may be read
    enable : the adder trees are there for the instruction
    rd : activation buffer
    room : places in the result FIFO; ``taken``: one is used
    x, valid, first, last : words to be added, they begin, end a block
    state, ended : what the unit does (ArrayState), the instruction's last request

    Latency/throughput: one word of all cores a cycle; a request accepted in cycle t has ``valid`` in t + 3.
    """

    def __init__(self, config: AcceleratorConfig, results: int):
        self._config, self._results = config, results
        c = config
        self._op = window_part(["in_addr", "in_stride", "in_groups", "width", "height", "blocks", "relu"])
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(self._op),
                "go_valid": In(1),
                "go_ready": Out(1),
                "enable": In(1),
                "rd": Out(BufferRead(c)),
                "room": In(range(results + 1)),
                "taken": Out(1),
                "x": Out(c.row_bytes * 8),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "state": Out(2),
                "ended": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        return f"vf_token_sum_{self._config.cores}x{self._config.word}_{self._results}"

    def elaborate(self, platform):
        c, rd = self._config, self.rd
        m = Module()
        queue, op = op_queue(m, "ops", self._op)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        last_group, rest = edge(m, op, c)

        active = Signal()
        group = Signal(BITS["in_groups"])
        map_row = Signal(BITS["height"])
        block = Signal(BITS["blocks"])
        offset = Signal(16)
        accepted = Signal()
        group_last, row_last, block_last = (Signal(name=f"{n}_last") for n in ("group", "row", "block"))
        last = group_last & row_last
        m.d.comb += [
            group_last.eq(group == last_group),
            row_last.eq(is_last(map_row, op.height)),
            block_last.eq(is_last(block, op.blocks)),
            rd.valid.eq(active & self.enable & (~last | self.room.any())),
            rd.addr.eq(op.in_addr + offset + block),
            accepted.eq(rd.valid & rd.ready),
            self.taken.eq(accepted & last),
            self.ended.eq(accepted & last & block_last),
            queue.r_en.eq(self.ended),
            self.go_ready.eq(queue.r_rdy & ~active),
        ]
        with m.If(self.ended):
            m.d.sync += active.eq(0)
        with m.Elif(self.go_valid & self.go_ready):
            m.d.sync += active.eq(1)
        with m.If(accepted):
            m.d.sync += [
                group.eq(Mux(group_last, 0, group + 1)),
                offset.eq(Mux(last, 0, (offset + op.in_stride)[:16])),
            ]
            with m.If(group_last):
                m.d.sync += map_row.eq(Mux(row_last, 0, map_row + 1))
            with m.If(last):
                m.d.sync += block.eq(Mux(block_last, 0, block + 1))

        # ---- data: masked by pixel and sign
        flags = data.StructLayout({"first": 1, "last": 1, "relu": 1, "mask": c.cores})
        now = Signal(flags)
        m.d.comb += [
            now.first.eq(~(group.any() | map_row.any())),
            now.last.eq(last),
            now.relu.eq(op.relu),
            now.mask.eq(Mux(group_last, rest, (1 << c.cores) - 1)),
        ]
        for i in range(READ_LATENCY):
            later = Signal(flags, name=f"flags{i}", reset_less=True)
            m.d.sync += later.eq(now)
            now = later
        kept = []
        for core in range(c.cores):
            for i in range(c.word):
                byte = rd.data.word_select(core * c.word + i, 8)
                keep = now.mask[core] & ~(now.relu & byte[-1])
                kept.append(byte & keep.replicate(8))
        x = Signal(len(self.x), reset_less=True)
        valid = Signal()
        ends = Signal(2, reset_less=True)
        m.d.sync += [x.eq(Cat(kept)), valid.eq(rd.data_valid), ends.eq(Cat(now.first, now.last))]
        m.d.comb += [self.x.eq(x), self.valid.eq(valid), self.first.eq(ends[0]), self.last.eq(ends[1])]
        stopped = Mux(active & last & ~self.room.any(), ArrayState.NO_ROOM, ArrayState.NO_DATA)
        m.d.comb += self.state.eq(Mux(accepted, ArrayState.STEP, Mux(queue.r_rdy, stopped, ArrayState.NO_OP)))
        return m
