"""LayerNorm chunk: one lane per token of a group, two overlapping passes over a row."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from .. import emit
from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..arch.latency import CYCLES
from ..interfaces import BufferRead, BufferWrite, ChunkControl, MemoryRead, fields_layout
from ..units.copies import copies
from .fetch import LayerNormFetch
from .lane import H_STAGE, P_STAGE, Q6_STAGE, LayerNormLane, lane_name, store_bits
from .stats import LayerNormStats, s1_bits, s2_bits

OUT_BLOCKS = 4  #: finished blocks that may wait for the activation buffer, those in the pipeline included
HARDSWISH = ("act", "q3", "q6", "s2", "offset")
ROWS_AHEAD = 4  #: rows between their `go` and the start of their second pass


class LayerNorm(wiring.Component):
    """LayerNorm of ``cores`` tokens side by side, one channel of each a cycle.

    First pass: x = q << a, S1 and S2, x into the lane's local store (a ring). Then V and its reciprocal square root,
    token by token. Second pass: z, gamma, beta, one re-quantization; with ``config.trio`` and ``act`` to 12 bits, then
    Hardswish and another one. Passes of successive rows, also of successive instructions, overlap.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : instructions, rows and progress
    rd, wr : activation buffer
    params : LayerNorm parameters, one beat per address; never stalls
    stats_valid, stats_s1, stats_s2 : sums of a row, once per row, s1_bits (signed) and s2_bits per token
    busy : a row has been started and is not yet done

    Latency/throughput
    ------------------
    max(C, cores + 27) cycles a row of C channels (C = blocks * word), without a gap between rows and instructions. From
    the transfer of `go` to the acceptance of the row's last write, in an idle machine that never stalls:
    LayerNorm.latency() = 2 C + n + cores + 37, where n = max(1 + in_wide, 8 * word / beat_bytes), with ``trio`` 7 more.
    ``done`` follows one cycle later; `go` of a row is accepted up to two rows before its first channel is summed.

    Reference
    ---------
    arch.arith.layernorm, arch.arith.layernorm_hardswish
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "ctl": In(ChunkControl(isa.Chunk.LAYERNORM)),
                "rd": Out(BufferRead(config)),
                "wr": Out(BufferWrite(config)),
                "params": Out(MemoryRead(8 * config.beat_bytes)),
                "stats_valid": Out(1),
                "stats_s1": Out(s1_bits(config) * config.cores),
                "stats_s2": Out(s2_bits(config) * config.cores),
                "busy": Out(1),
            }
        )

    @staticmethod
    def latency(config: AcceleratorConfig, blocks: int, wide: bool) -> int:
        """Cycles from the transfer of `go` to the acceptance of the row's last write."""
        fetch = LayerNormFetch.latency(config, wide)
        second = 1 + LayerNormLane.out_latency(config) + 1
        between = LayerNormLane.SUM_LATENCY + LayerNormStats.latency(config)
        cycles = 2 * blocks * config.word + fetch + between + second - 1
        beats = max(2 + wide, isa.PARAM_BYTES * config.word // config.beat_bytes)
        stated = CYCLES.ln_latency + CYCLES.ln_hardswish * config.trio
        assert cycles == 2 * blocks * config.word + beats + config.cores + stated
        return cycles

    def elaborate(self, platform):
        m = Module()
        config = self.config
        self._lanes = []
        for i in range(config.cores):
            lane = emit.block(LayerNormLane(config), lane_name(config))
            m.submodules[f"lane{i}"] = lane
            self._lanes.append(lane)
        m.submodules.fetch = self._fetch = LayerNormFetch(config)
        m.submodules.stats = self._stats = LayerNormStats(config)
        kept = ("blocks", "param_addr", "out_addr", *(HARDSWISH if config.trio else ()))
        row = fields_layout([f for f in isa.OP_FIELDS[isa.Chunk.LAYERNORM] if f.name in kept])
        m.submodules.rows = self._rows = SyncFIFO(width=row.size, depth=ROWS_AHEAD)
        self._row = data.View(row, self._rows.r_data)

        self._start_rows(m, row)
        self._station = Signal()  # from a row's last channel in the first pass until the second pass has its constants
        self._stored = Signal(range((1 << store_bits(config)) + 1))  # channels in the local stores
        summed = self._first_pass(m)
        fetched = self._second_pass(m)
        m.d.sync += self._stored.eq((self._stored + summed - fetched)[: len(self._stored)])
        return m

    def _broadcast(self, m, **signals):
        for lane in self._lanes:
            m.d.comb += [getattr(lane, name).eq(value) for name, value in signals.items()]

    def _gather(self, name):
        return Cat(getattr(lane, name) for lane in self._lanes)

    def _scatter(self, m, **signals):
        for name, value in signals.items():
            bits = len(value) // self.config.cores
            for i, lane in enumerate(self._lanes):
                m.d.comb += getattr(lane, name).eq(value.word_select(i, bits))

    def _start_rows(self, m, row):
        """Instructions and rows: each `go` hands one row to the fetch unit and to the second pass."""
        ctl, fetch, rows = self.ctl, self._fetch, self._rows
        op = ctl.op.payload
        op_valid = Signal()
        op_row = Signal(row, reset_less=True)
        in_addr = Signal(16, reset_less=True)
        in_stride = Signal(16, reset_less=True)
        in_wide = Signal(reset_less=True)
        out_stride = Signal(16, reset_less=True)
        go = Signal()
        m.d.comb += [
            ctl.go.ready.eq(op_valid & fetch.row.ready & rows.w_rdy),
            go.eq(ctl.go.valid & ctl.go.ready),
            ctl.op.ready.eq(~op_valid),
            fetch.row.valid.eq(go),
            fetch.row.payload.in_addr.eq(in_addr),
            fetch.row.payload.param_addr.eq(op_row.param_addr),
            fetch.row.payload.blocks.eq(op_row.blocks),
            fetch.row.payload.wide.eq(in_wide),
            rows.w_en.eq(go),
            rows.w_data.eq(op_row),
        ]
        with m.If(go):
            m.d.sync += [in_addr.eq(in_addr + in_stride), op_row.out_addr.eq(op_row.out_addr + out_stride)]
            with m.If(ctl.go.payload):
                m.d.sync += op_valid.eq(0)
        with m.If(ctl.op.ready):
            m.d.sync += [
                op_valid.eq(ctl.op.valid),
                *(op_row[name].eq(op[name]) for name in row.members),
                in_addr.eq(op.in_addr),
                in_stride.eq(op.in_stride),
                in_wide.eq(op.in_wide),
                out_stride.eq(op.out_stride),
            ]
        wiring.connect(m, wiring.flipped(self.rd), fetch.rd)

        running = Signal(4)
        m.d.sync += running.eq((running + go - ctl.done)[:4])
        m.d.comb += self.busy.eq(running.any())

    def _first_pass(self, m):
        """One channel a cycle out of the present block; returns the signal that a channel is summed."""
        word, block = self.config.word, self._fetch.block
        valid = Signal()
        last = Signal(reset_less=True)
        first = Signal(init=1)
        position = Signal(range(word))
        exponents = Signal(2 * word, reset_less=True)
        addr = Signal(store_bits(self.config))
        step = Signal(name="sum_step")
        block_end = Signal(name="sum_block_end")
        row_end = Signal(name="sum_row_end")
        # a cycle ahead: nothing below waits for a comparison
        with m.If(step):
            m.d.sync += block_end.eq(position == word - 2)
        m.d.comb += [
            row_end.eq(block_end & last),
            # the store's size is the counter's upper bit
            step.eq(valid & ~self._stored[-1] & ~(row_end & self._station)),
            block.ready.eq(~valid | (step & block_end)),
        ]
        with m.If(step):
            m.d.sync += [position.eq(position + 1), addr.eq(addr + 1), first.eq(row_end), exponents.eq(exponents[2:])]
        with m.If(block.ready):
            m.d.sync += [valid.eq(block.valid), last.eq(block.payload.last), exponents.eq(block.payload.a)]
        self._broadcast(
            m,
            load=block.ready,
            wide=block.payload.wide,
            shift=step,
            first=first,
            a=exponents[:2],
            store_addr=addr,
        )
        self._scatter(m, low=block.payload.low, high=block.payload.high)

        ended = Signal(LayerNormLane.SUM_LATENCY)
        m.d.sync += ended.eq(Cat(step & row_end, ended))
        with m.If(step & row_end):
            m.d.sync += self._station.eq(1)
        stats = self._stats
        m.d.comb += [
            self.stats_valid.eq(ended[-1]),
            self.stats_s1.eq(self._gather("s1")),
            self.stats_s2.eq(self._gather("s2")),
            stats.load.eq(self.stats_valid),
            stats.s1.eq(self.stats_s1),
            stats.s2.eq(self.stats_s2),
            stats.blocks.eq(self._row.blocks),
        ]
        return step

    def _second_pass(self, m):
        """One channel a cycle out of the local stores; returns the signal that a channel is fetched."""
        word, stats, rows = self.config.word, self._stats, self._rows
        row = Signal(self._row.shape(), reset_less=True)
        active = Signal()
        begun = Signal()
        pending = Signal()
        position = Signal(range(word))
        addr = Signal(store_bits(self.config))
        room = Signal(range(OUT_BLOCKS + 1), init=OUT_BLOCKS)
        step = Signal(name="out_step")
        block_begin = Signal(name="out_block_begin")
        block_end = Signal(name="out_block_end")
        row_end = Signal(name="out_row_end")
        start = Signal()
        # a cycle ahead: nothing below waits for a comparison; blocks and room are asked for once a block
        at_begin, at_end, last_block, roomy = Signal(init=1), Signal(), Signal(), Signal(init=1)
        with m.If(step):
            m.d.sync += [at_begin.eq(at_end), at_end.eq(position == word - 2)]
        m.d.sync += [last_block.eq(~row.blocks[1:].any()), roomy.eq(room.any())]
        m.d.comb += [
            block_begin.eq(at_begin),
            block_end.eq(step & at_end),
            row_end.eq(block_end & last_block),
            step.eq(active & (~at_begin | roomy)),
            start.eq((stats.done | pending) & (~active | row_end)),
        ]
        m.d.sync += rows.r_en.eq(start)  # the next start is a row later
        with m.If(step):
            m.d.sync += [position.eq(position + 1), addr.eq(addr + 1), begun.eq(1)]
        with m.If(block_end):
            m.d.sync += [row.blocks.eq(row.blocks - 1), row.out_addr.eq(row.out_addr + 1)]
        m.d.sync += pending.eq((stats.done | pending) & ~start)
        with m.If(~active | row_end):
            m.d.sync += [active.eq(start), row.eq(self._row), begun.eq(0)]

        # stage k of a channel is k cycles behind its step
        out_latency = LayerNormLane.out_latency(self.config)
        stages = out_latency + 1
        valid = Signal(stages - 1, name="valid_stages")
        first = Signal(stages - 1 if self.config.trio else 6, name="first_stages")
        end = Signal(stages - 1, name="end_stages")
        m.d.sync += [
            valid.eq(Cat(step, valid)),
            first.eq(Cat(step & ~begun, first)),
            end.eq(Cat(block_end, end)),
        ]
        valid, first, end = Cat(step, valid), Cat(step & ~begun, first), Cat(block_end, end)
        with m.If(first[5]):
            m.d.sync += self._station.eq(0)
        self._parameters(m, row, valid[4], first[3])
        self._broadcast(
            m,
            fetch_addr=addr,
            take_c=first[1],
            take_s1=first[2],
            take_m=first[3],
            take_shift=first[5],
            blocks=row.blocks,
        )
        for lane, (counts,) in zip(self._lanes, copies(m, self.config.cores, "y_valid", valid[out_latency - 2])):
            m.d.comb += lane.y_valid.eq(counts)
        self._scatter(m, row_s1=stats.sums, row_m=stats.m, row_shift=stats.shift)

        if self.config.trio:
            self._constants(m, row, first)
        written = self._output(m, end[out_latency], block_end, row_end, row.out_addr)
        m.d.sync += room.eq((room + written - (step & block_begin))[: len(room)])
        return step

    def _constants(self, m, row, first):
        """Hardswish's constants, each while a row's channels are in the stage that takes it.

        `row` holds them until the row's last channel leaves stage 0; the next row begins more than H_STAGE cycles
        after this one.
        """
        kept = Signal(row.shape(), name="row_kept", reset_less=True)
        with m.If(first[1]):
            m.d.sync += kept.eq(row)
        act = kept.act
        identity = {"q3": (1 << len(kept.q3)) - 1, "q6": 1, "s2": 0, "offset": 0}
        stages = {"q3": P_STAGE, "q6": Q6_STAGE, "s2": H_STAGE, "offset": H_STAGE + 1}
        for name, stage in stages.items():
            constant = Signal.like(kept[name], name=f"row_{name}", reset_less=True)
            with m.If(first[stage - 1]):
                m.d.sync += constant.eq(Mux(act, kept[name], identity[name]))
            self._broadcast(m, **{"y_shift2" if name == "s2" else name: constant})

    def _parameters(self, m, row, wanted, row_first):
        """The parameter memory: the second pass (a channel in stage 4 wants its beat) before the fetch unit."""
        entries = self.config.beat_bytes // isa.PARAM_BYTES
        entry_bits = 8 * isa.PARAM_BYTES
        addr = Signal(16, reset_less=True)
        position = Signal(range(max(entries, 2)))
        request = Signal()
        arriving = Signal(2)
        beat = Signal(8 * self.config.beat_bytes, reset_less=True)
        m.d.comb += [
            request.eq(wanted & ~position.any()),
            self.params.addr.eq(Mux(request, addr, self._fetch.param_addr)),
            self._fetch.param_ready.eq(~request),
            self._fetch.param_data.eq(self.params.data),
        ]
        m.d.sync += [
            arriving.eq(Cat(request, arriving)),
            beat.eq(Mux(arriving[1], self.params.data, beat[entry_bits:])),
        ]
        with m.If(wanted):
            m.d.sync += position.eq(position + 1)
        with m.If(request):
            m.d.sync += addr.eq(addr + 1)
        with m.If(row_first):
            m.d.sync += addr.eq(row.param_addr)

        # the entry is there in stage 7
        layout = fields_layout(isa.LN_PARAM_FIELDS)
        entry = data.View(layout, beat[: layout.size])
        gamma = Signal.like(entry.gamma, name="gamma8", reset_less=True)
        beta = [Signal.like(entry.beta, name=f"beta{i}", reset_less=True) for i in (8, 9)]
        shift = [Signal.like(entry.shift, name=f"shift{i}", reset_less=True) for i in (8, 9, 10)]
        m.d.sync += [
            gamma.eq(entry.gamma),
            Cat(beta).eq(Cat(entry.beta, beta[0])),
            Cat(shift).eq(Cat(entry.shift, shift[:2])),
        ]
        self._broadcast(m, gamma=gamma, beta=beta[1], y_shift=shift[2])

    def _output(self, m, complete, block_end, row_end, addr):
        """Finished blocks to the activation buffer; returns the signal that a block is written."""
        config, wr = self.config, self.wr
        m.submodules.out = out = SyncFIFO(width=8 * config.row_bytes, depth=OUT_BLOCKS)
        m.submodules.places = places = SyncFIFO(width=17, depth=OUT_BLOCKS)
        written = Signal()
        done = Signal()
        m.d.comb += [
            out.w_en.eq(complete),
            out.w_data.eq(self._gather("y")),
            places.w_en.eq(block_end),
            places.w_data.eq(Cat(addr, row_end)),
            wr.valid.eq(out.r_rdy),
            wr.data.eq(out.r_data),
            wr.addr.eq(places.r_data[:16]),
            wr.mask.eq((1 << config.cores) - 1),
            written.eq(wr.valid & wr.ready),
            out.r_en.eq(written),
            places.r_en.eq(written),
            self.ctl.done.eq(done),
        ]
        m.d.sync += done.eq(written & places.r_data[16])
        return written
