"""Input side of LayerNorm: reads blocks of channels and their PTF exponents ahead of the first pass."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..interfaces import BufferRead
from ..units.pair import Pair

AHEAD = 4  #: blocks read ahead

ROW_LAYOUT = data.StructLayout({"in_addr": 16, "param_addr": 16, "blocks": 8, "wide": 1})


def block_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One block: low bytes, upper nibbles (where ``wide``), an exponent per channel; ``last`` ends the row."""
    row = config.row_bytes
    return data.StructLayout({"low": 8 * row, "high": 4 * row, "a": 2 * config.word, "wide": 1, "last": 1})


class LayerNormFetch(wiring.Component):
    """Reads the blocks of a row and their exponents; up to AHEAD blocks wait in FIFOs.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    row : the next row to read (one more is held beside the present one)
    rd : activation buffer
    param_valid, param_ready, param_addr, param_data : parameter memory, shared with the second pass: a read is
        accepted in a cycle with valid and ready, its data returns two cycles later
    block : blocks in order

    Latency
    -------
    latency(config, wide) = 4 + n cycles from the row's transfer to its first block, n = max(2 + wide, beats), beats =
    8 * word / beat_bytes; then a block every n + 1 cycles.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "row": In(stream.Signature(ROW_LAYOUT)),
                "rd": Out(BufferRead(config)),
                "param_valid": Out(1),
                "param_ready": In(1),
                "param_addr": Out(16),
                "param_data": In(8 * config.beat_bytes),
                "block": Out(stream.Signature(block_layout(config))),
            }
        )

    @staticmethod
    def latency(config: AcceleratorConfig, wide: bool) -> int:
        return 4 + max(2 + wide, isa.PARAM_BYTES * config.word // config.beat_bytes)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        beats = isa.PARAM_BYTES * config.word // config.beat_bytes

        # present and next row
        active = Signal()
        waiting = Signal()
        current = Signal(ROW_LAYOUT, reset_less=True)
        following = Signal(ROW_LAYOUT, reset_less=True)
        row_end = Signal()
        m.d.comb += self.row.ready.eq(~waiting)
        with m.If(self.row.valid & ~waiting):
            m.d.sync += [following.eq(self.row.payload), waiting.eq(1)]

        # a block: one or two buffer rows and `beats` beats of parameters, read independently of each other
        used = Signal(range(AHEAD + 1))
        room = active & (used != AHEAD)
        # two requests wait, so that nothing here depends on the buffer's arbitration
        request = data.StructLayout({"addr": 16, "high": 1})
        m.submodules.requests = requests = Pair(request.size)
        asked = data.View(request, requests.r_data)
        rows_read = Signal()
        beats_read = Signal()
        high = Signal()
        beat = Signal(range(max(beats, 2)))
        accepted = Signal()
        granted = Signal()
        m.d.comb += [
            requests.w_en.eq(accepted),
            requests.w_data.eq(Cat(current.in_addr, high)),
            self.rd.valid.eq(requests.r_rdy),
            self.rd.addr.eq(asked.addr),
            requests.r_en.eq(self.rd.ready),
            self.param_valid.eq(room & ~beats_read),
            self.param_addr.eq(current.param_addr),
            accepted.eq(room & ~rows_read & requests.w_rdy),
            granted.eq(self.param_valid & self.param_ready),
        ]
        last_row = Signal()
        last_beat = Signal()
        last_block = Signal()
        block_end = Signal()
        m.d.comb += [
            last_row.eq(accepted & (high | ~current.wide)),
            last_beat.eq(granted & (beat == beats - 1)),
            last_block.eq(~current.blocks[1:].any()),
            block_end.eq(rows_read & beats_read),
            row_end.eq(block_end & last_block),
        ]
        with m.If(accepted):
            m.d.sync += [current.in_addr.eq(current.in_addr + 1), high.eq(~last_row)]
        with m.If(granted):
            m.d.sync += [current.param_addr.eq(current.param_addr + 1), beat.eq(beat + 1)]
        m.d.sync += [rows_read.eq(rows_read | last_row), beats_read.eq(beats_read | last_beat)]
        with m.If(last_beat):
            m.d.sync += beat.eq(0)
        with m.If(block_end):
            m.d.sync += [rows_read.eq(0), beats_read.eq(0), current.blocks.eq(current.blocks - 1)]
        with m.If(~active | row_end):
            m.d.sync += active.eq(waiting)
            with m.If(waiting):
                m.d.sync += [current.eq(following), waiting.eq(0)]

        # buffer rows return two cycles after their acceptance
        m.submodules.low_bytes = low = SyncFIFO(width=8 * config.row_bytes, depth=AHEAD)
        m.submodules.high_bytes = high_fifo = SyncFIFO(width=4 * config.row_bytes, depth=AHEAD)
        planes = Signal(2, reset_less=True)
        m.d.sync += planes.eq(Cat(asked.high, planes))
        nibbles = Cat(self.rd.data.word_select(i, 8)[:4] for i in range(config.row_bytes))
        m.d.comb += [
            low.w_data.eq(self.rd.data),
            low.w_en.eq(self.rd.data_valid & ~planes[1]),
            high_fifo.w_data.eq(nibbles),
            high_fifo.w_en.eq(self.rd.data_valid & planes[1]),
        ]

        # exponents: collected beat by beat; the block's marks follow its last beat
        m.submodules.exponents = exponents = SyncFIFO(width=2 * config.word + 2, depth=AHEAD)
        position = sum(f.bits for f in isa.LN_PARAM_FIELDS[:-1])
        entries = config.beat_bytes // isa.PARAM_BYTES
        new = Cat(self.param_data[i * 64 + position : i * 64 + position + 2] for i in range(entries))
        arriving = Signal(2)
        ending = Signal(2)
        marks = [Signal(2, name=f"marks{i}", reset_less=True) for i in range(2)]
        m.d.sync += [
            arriving.eq(Cat(granted, arriving)),
            ending.eq(Cat(last_beat, ending)),
            marks[0].eq(Cat(current.wide, last_block)),
            marks[1].eq(marks[0]),
        ]
        collected = new
        if beats > 1:
            earlier = Signal(2 * entries * (beats - 1), reset_less=True)
            collected = Cat(earlier, new)
            with m.If(arriving[1]):
                m.d.sync += earlier.eq(collected[2 * entries :])
        m.d.comb += [exponents.w_data.eq(Cat(collected, marks[1])), exponents.w_en.eq(ending[1])]

        wide = exponents.r_data[-2]
        taken = Signal()
        m.d.comb += [
            self.block.valid.eq(exponents.r_rdy & low.r_rdy & (high_fifo.r_rdy | ~wide)),
            taken.eq(self.block.valid & self.block.ready),
            self.block.payload.eq(Cat(low.r_data, high_fifo.r_data, exponents.r_data)),
            low.r_en.eq(taken),
            high_fifo.r_en.eq(taken & wide),
            exponents.r_en.eq(taken),
        ]
        m.d.sync += used.eq((used + block_end - taken)[: len(used)])
        return m
