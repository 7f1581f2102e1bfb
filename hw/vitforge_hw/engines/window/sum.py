"""Sums over tokens: streams a map's words, block by block, to R-MAC's adder trees."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ...arch.config import AcceleratorConfig
from ...interfaces import READ_LATENCY, BufferRead
from ...units.pair import Pair
from ..group_fetch import op_queue
from ..step_issue import ArrayState
from .fetch import BITS, window_part
from .loops import EDGE, edge, late, loops, prepared


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

    Latency/throughput: one word of all cores a cycle, the first request 2 cycles after its ``go``, 5 after its
    instruction; a request accepted in cycle t has ``valid`` in t + 3.
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
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        last_group, rest = edge(m, op, c)
        ready = prepared(m, queue, EDGE)

        # ---- requests: two may wait, so that nothing here depends on the buffer's arbitration
        flags = data.StructLayout({"first": 1, "last": 1, "relu": 1, "mask": c.cores})
        request = data.StructLayout({"addr": 16, "flags": flags})
        m.submodules.requests = requests = Pair(request.size)
        new, asked = Signal(request), Signal(request)
        active = Signal()
        group = Signal(BITS["in_groups"])
        map_row = Signal(BITS["height"])
        block = Signal(BITS["blocks"])
        offset = Signal(16)
        first = Signal(init=1)
        step = Signal()
        over, ends = loops(m, step, ready, [
            ("group", group, last_group),
            ("row", map_row, late(m, "rows", (op.height - 1)[: BITS["height"]])),
            ("block", block, late(m, "words", (op.blocks - 1)[: BITS["blocks"]])),
        ])  # fmt: skip
        last = over["group"] & over["row"]
        m.d.comb += [
            step.eq(active & self.enable & requests.w_rdy & (~last | self.room.any())),
            new.addr.eq(op.in_addr + offset + block),
            new.flags.first.eq(first),
            new.flags.last.eq(last),
            new.flags.relu.eq(op.relu),
            new.flags.mask.eq(Mux(over["group"], rest, (1 << c.cores) - 1)),
            requests.w_en.eq(step),
            requests.w_data.eq(new),
            self.taken.eq(ends["row"]),
            self.ended.eq(ends["block"]),
            queue.r_en.eq(self.ended),
            self.go_ready.eq(ready & ~active),
        ]
        with m.If(self.ended):
            m.d.sync += active.eq(0)
        with m.Elif(self.go_valid & self.go_ready):
            m.d.sync += active.eq(1)
        with m.If(step):
            m.d.sync += [first.eq(last), offset.eq(Mux(last, 0, (offset + op.in_stride)[:16]))]

        # ---- data: masked by pixel and sign
        m.d.comb += [
            asked.eq(requests.r_data),
            rd.valid.eq(requests.r_rdy),
            rd.addr.eq(asked.addr),
            requests.r_en.eq(rd.ready),
        ]
        now = asked.flags
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
        sums = Signal(2, reset_less=True)
        m.d.sync += [x.eq(Cat(kept)), valid.eq(rd.data_valid), sums.eq(Cat(now.first, now.last))]
        m.d.comb += [self.x.eq(x), self.valid.eq(valid), self.first.eq(sums[0]), self.last.eq(sums[1])]
        stopped = Mux(active & last & ~self.room.any(), ArrayState.NO_ROOM, ArrayState.NO_DATA)
        m.d.comb += self.state.eq(Mux(step, ArrayState.STEP, Mux(queue.r_rdy, stopped, ArrayState.NO_OP)))
        return m
