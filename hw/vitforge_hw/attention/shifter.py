"""SHIFTER chunk: attention codes times values by shifts and adds, to int8 rows."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from ..arch.config import ATTEND_ACC_BITS, AcceleratorConfig
from ..arch.isa import Chunk
from ..arch.latency import CYCLES
from ..emit import block
from ..interfaces import READ_LATENCY, BufferRead, BufferWrite, ChunkControl, op_layout
from ..units.pair import Pair
from .code_ring import CodePop
from .shifter_lane import SHIFT_MAX, ShifterLane, acc_latency, row_latency
from .softmax_lane import delay

VALUE_ROWS = CYCLES.sh_values  #: value rows read ahead
OUT_ROWS = 4  #: finished rows, and blocks on their way to them
ROWS_AHEAD = 4  #: rows begun (go) and not yet at their last step


class ShifterArray(wiring.Component):
    """Attention x value: ``cores`` tokens x ``attend_keys`` keys x ``word`` channels a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : In(ChunkControl(Chunk.SHIFTER))
    rd : Out(BufferRead(config)), values; bytes of keys with code 15 are ignored
    codes : Out(CodePop(config)), the code ring
    wr : Out(BufferWrite(config)), results
    acc_valid, acc : accumulators of every finished block, [token][channel], 32 bits signed (monitor)
    busy : a row is in work

    Latency/throughput: with steps = ceil(keys / attend_keys),

    - sustained: a row every blocks * max(steps, word) cycles, without gaps between blocks, rows and
      instructions, while entries, values and ``go`` come in time;
    - from ``go`` to ``done`` of a single row whose entry is there, ports ready:
      START + (blocks - 1) * max(steps, word) + steps + LATENCY cycles.

    A block's last step waits for one of ``OUT_ROWS`` places and for the requantizer (``word`` cycles a block); the
    pipeline behind it never stops. Values of ROWS_AHEAD rows are fetched ahead, up to VALUE_ROWS buffer rows.

    Reference: arith.attend
    """

    START = 4 + READ_LATENCY  #: from go to the first step: address, request, its queue, read, FIFO
    assert START == CYCLES.sh_start

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._acc_latency = READ_LATENCY + acc_latency(config)
        self._row_latency = row_latency(config)
        self.LATENCY = self._acc_latency + self._row_latency + 1
        assert self.LATENCY == CYCLES.sh_latency + (config.attend_keys - 1).bit_length() + config.word
        super().__init__(
            {
                "ctl": In(ChunkControl(Chunk.SHIFTER)),
                "rd": Out(BufferRead(config)),
                "codes": Out(CodePop(config)),
                "wr": Out(BufferWrite(config)),
                "acc_valid": Out(1),
                "acc": Out(ATTEND_ACC_BITS * config.cores * config.word),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        self._work = data.StructLayout(
            {"steps": 10, "blocks": 6, "rule": 1, "factor": 1, "shift": 5, "out_addr": 16, "single": 1}
        )
        m.submodules.work = work = fifo.SyncFIFOBuffered(width=self._work.size, depth=ROWS_AHEAD)
        m.submodules.values = values = fifo.SyncFIFO(width=8 * c.row_bytes, depth=VALUE_ROWS)
        m.submodules.targets = targets = fifo.SyncFIFO(width=17, depth=OUT_ROWS)
        m.submodules.results = results = fifo.SyncFIFO(width=8 * c.row_bytes, depth=OUT_ROWS)
        self._fetch(m, work, values)
        step = self._steps(m, work, values, targets)
        self._lanes(m, step, results)
        self._write(m, targets, results)

        in_work = Signal(6)
        begin = Signal()
        m.d.comb += [begin.eq(self.ctl.go.valid & self.ctl.go.ready), self.busy.eq(in_work != 0)]
        with m.If(begin & ~self.ctl.done):
            m.d.sync += in_work.eq(in_work + 1)
        with m.Elif(~begin & self.ctl.done):
            m.d.sync += in_work.eq(in_work - 1)
        return m

    def _fetch(self, m: Module, work, values):
        """Instruction and go to value reads, row after row, and to the steps' work queue."""
        c, ctl, rd = self.config, self.ctl, self.rd
        op = Signal(op_layout(Chunk.SHIFTER))
        op_valid = Signal()
        out_addr = Signal(16)
        m.d.comb += ctl.op.ready.eq(~op_valid)
        with m.If(ctl.op.valid & ctl.op.ready):
            m.d.sync += [op.eq(ctl.op.payload), op_valid.eq(1), out_addr.eq(ctl.op.payload.out_addr)]

        walk = data.StructLayout({"addr": 16, "stride": 12, "groups": 10, "blocks": 6})
        ahead, now = Signal(walk), Signal(walk)
        ahead_valid, active = Signal(), Signal()
        begin = Signal()
        todo = Signal(self._work)
        steps = (op.keys + (c.attend_keys - 1)) >> (c.attend_keys.bit_length() - 1)
        groups = (op.keys + (c.cores - 1)) >> (c.cores.bit_length() - 1)
        m.d.comb += [
            ctl.go.ready.eq(op_valid & ~ahead_valid & work.w_rdy),
            begin.eq(ctl.go.valid & ctl.go.ready),
            todo.steps.eq(steps),
            todo.single.eq(steps == 1),
            todo.blocks.eq(op.blocks),
            todo.rule.eq(op.rule),
            todo.factor.eq(op.factor),
            todo.shift.eq(op.shift),
            todo.out_addr.eq(out_addr),
            work.w_data.eq(todo),
            work.w_en.eq(begin),
        ]
        finish = Signal()
        with m.If(begin):
            m.d.sync += [
                ahead.addr.eq(op.v_addr),
                ahead.stride.eq(op.v_stride),
                ahead.groups.eq(groups),
                ahead.blocks.eq(op.blocks),
                ahead_valid.eq(1),
                out_addr.eq(out_addr + op.out_stride),
                op_valid.eq(~ctl.go.payload),
            ]
        with m.Elif(~active | finish):
            m.d.sync += ahead_valid.eq(0)

        # block after block, group of keys after group of keys
        addr, group_left, block_left = Signal(16), Signal(10), Signal(6)
        room = Signal(range(VALUE_ROWS + 1), init=VALUE_ROWS)
        accepted, block_end = Signal(), Signal()
        m.submodules.requests = requests = Pair(16)  # nothing above depends on the buffer's arbitration
        m.d.comb += [
            accepted.eq(active & (room != 0) & requests.w_rdy),
            requests.w_en.eq(accepted),
            requests.w_data.eq(addr),
            rd.valid.eq(requests.r_rdy),
            rd.addr.eq(requests.r_data),
            requests.r_en.eq(rd.ready),
            block_end.eq(group_left == 1),
            finish.eq(accepted & block_end & (block_left == 1)),
        ]
        with m.If(accepted):
            m.d.sync += [addr.eq(addr + now.stride), group_left.eq(group_left - 1)]
            with m.If(block_end):
                m.d.sync += [
                    addr.eq(now.addr),
                    now.addr.eq(now.addr + 1),
                    group_left.eq(now.groups),
                    block_left.eq(block_left - 1),
                ]
        with m.If(~active | finish):
            m.d.sync += [
                active.eq(ahead_valid),
                now.eq(ahead),
                now.addr.eq(ahead.addr + 1),
                addr.eq(ahead.addr),
                group_left.eq(ahead.groups),
                block_left.eq(ahead.blocks),
            ]
        with m.If(accepted & ~values.r_en):
            m.d.sync += room.eq(room - 1)
        with m.Elif(~accepted & values.r_en):
            m.d.sync += room.eq(room + 1)
        m.d.comb += [values.w_en.eq(rd.data_valid), values.w_data.eq(rd.data)]

    def _steps(self, m: Module, work, values, targets):
        """One step a cycle while there are codes, values and, for a block's last step, a place for its result."""
        c, codes = self.config, self.codes
        parts = c.cores // c.attend_keys
        todo = Signal(self._work)
        index = Signal.like(codes.index)
        fresh, final = Signal(init=1), Signal()  # the step is a block's first, its last, compared a cycle ahead
        part = Signal(range(max(parts, 2)))
        done_blocks = Signal(6)
        gap = Signal(range(c.word))
        places = Signal(range(OUT_ROWS + 1), init=OUT_ROWS)

        go, last, row_last, part_last = Signal(), Signal(), Signal(), Signal()
        last_block = Signal()  # a cycle late: the last steps of two blocks lie ``word`` cycles apart
        m.d.sync += last_block.eq(done_blocks + 1 == todo.blocks)
        m.d.comb += [
            todo.eq(work.r_data),
            last.eq(Mux(fresh, todo.single, final)),
            row_last.eq(last & last_block),
            part_last.eq(part == parts - 1),
            go.eq(work.r_rdy & codes.valid & values.r_rdy & (~last | ((gap == 0) & (places != 0)))),
            codes.index.eq(index),
            codes.free.eq(go & row_last),
            work.r_en.eq(go & row_last),
            values.r_en.eq(go & (last | part_last)),
            targets.w_en.eq(go & last),
            targets.w_data.eq(Cat((todo.out_addr + done_blocks)[:16], row_last)),
        ]
        with m.If(go):
            m.d.sync += [fresh.eq(last), final.eq(index + 2 == todo.steps)]
            m.d.sync += [index.eq(Mux(last, 0, index + 1)), part.eq(Mux(last | part_last, 0, part + 1))]
            with m.If(last):
                m.d.sync += done_blocks.eq(Mux(row_last, 0, done_blocks + 1))
        with m.If(go & last):
            m.d.sync += gap.eq(c.word - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        written = self.wr.valid & self.wr.ready
        with m.If(go & last & ~written):
            m.d.sync += places.eq(places - 1)
        with m.Elif(~(go & last) & written):
            m.d.sync += places.eq(places + 1)

        # values of this step; the codes arrive READ_LATENCY cycles later
        bits = 8 * c.attend_keys * c.word
        v = Signal(bits, reset_less=True)
        m.d.sync += v.eq(Array([values.r_data.word_select(i, bits) for i in range(parts)])[part])
        return {"go": go, "first": index == 0, "last": last, "todo": todo, "v": v}

    def _lanes(self, m: Module, step, results):
        c, codes = self.config, self.codes
        # three times the values, once for all tokens
        n = c.attend_keys * c.word
        v3 = [Signal(signed(10), name=f"v3_{i}", reset_less=True) for i in range(n)]
        for i, triple in enumerate(v3):
            v = step["v"].word_select(i, 8).as_signed()
            m.d.sync += triple.eq((v + (v << 1))[:10].as_signed())
        v1 = delay(m, step["v"], READ_LATENCY - 1, "v")

        go, last = Signal(READ_LATENCY), Signal(self._acc_latency)
        m.d.sync += [go.eq(Cat(step["go"], go)[:-1]), last.eq(Cat(step["go"] & step["last"], last)[:-1])]
        first2 = delay(m, step["first"], READ_LATENCY, "first")
        rule1 = delay(m, step["todo"].rule, READ_LATENCY - 1, "rule")  # each lane has a register of its own

        # row factors follow their block's last step
        mants, shifts = [], []
        for i in range(c.cores):
            p = Mux(step["todo"].factor, codes.p.word_select(i, 5), arith.NO_FACTOR[1])
            total = Signal(6, name=f"total{i}")
            m.d.comb += total.eq(p + step["todo"].shift)
            mants.append(Mux(step["todo"].factor, codes.mant.word_select(i, 8), arith.NO_FACTOR[0]))
            shifts.append(Mux(total > SHIFT_MAX, SHIFT_MAX, total)[:6])
        mant = Signal(8 * c.cores)
        shift = Signal(6 * c.cores)
        m.d.comb += [mant.eq(Cat(mants)), shift.eq(Cat(shifts))]
        mant = delay(m, mant, self._acc_latency, "mant")
        shift = delay(m, shift, self._acc_latency, "shift")

        lanes = []
        for i in range(c.cores):
            lane = block(ShifterLane(c), f"vf_shifter_lane_{c.attend_keys}x{c.word}")
            m.submodules[f"lane{i}"] = lane
            lanes.append(lane)
            m.d.comb += [
                lane.valid.eq(go[-1]),
                lane.first.eq(first2),
                lane.last.eq(last[READ_LATENCY - 1]),
                lane.rule.eq(rule1),
                lane.codes.eq(Cat(codes.word.word_select(k * c.cores + i, 4) for k in range(c.attend_keys))),
                lane.v.eq(v1),
                lane.v3.eq(Cat(v3)),
                lane.mant.eq(mant.word_select(i, 8)),
                lane.shift.eq(shift.word_select(i, 6)),
            ]
        finished = Signal(self._row_latency)
        m.d.sync += finished.eq(Cat(last[-1], finished)[:-1])
        m.d.comb += [
            self.acc_valid.eq(last[-1]),
            self.acc.eq(Cat(lane.acc for lane in lanes)),
            results.w_en.eq(finished[-1]),
            results.w_data.eq(Cat(lane.row for lane in lanes)),
        ]

    def _write(self, m: Module, targets, results):
        wr = self.wr
        written = Signal()
        done = Signal()
        m.d.comb += [
            wr.valid.eq(results.r_rdy),
            wr.data.eq(results.r_data),
            wr.addr.eq(targets.r_data[:16]),
            wr.mask.eq(Const(-1, len(wr.mask))),
            written.eq(wr.valid & wr.ready),
            results.r_en.eq(written),
            targets.r_en.eq(written),
            self.ctl.done.eq(done),
        ]
        m.d.sync += done.eq(written & targets.r_data[16])
