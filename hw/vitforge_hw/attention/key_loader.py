"""Key loader: copies keys from the activation buffer into the weight buffer."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..arch.latency import CYCLES
from ..interfaces import BufferRead, ChunkControl, WeightWrite
from ..units.pair import Pair

IN_FLIGHT = 8  #: blocks between their read and their write


class Loader(wiring.Component):
    """Row r: ``blocks`` buffer rows of ``cores`` keys, each into one slice of a weight row.

    Block b goes to weight row weight_addr + (r // slices) * blocks + b, slice r % slices, where slices = lanes / cores.
    A slice holds ``cores`` lanes of ``width`` bytes: the bytes of a buffer row in their order.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : instructions, rows and progress
    rd : activation buffer
    wr : weight buffer; one mask bit per slice of row_bytes
    busy : a row has been started and is not yet done

    Latency/throughput
    ------------------
    One block a cycle, without a gap between rows and instructions. From the transfer of `go` to the acceptance of the
    row's last write, in an idle machine that never stalls: blocks + LATENCY = blocks + 5 cycles; ``done`` follows one
    cycle later.

    Reference
    ---------
    docs/architecture.md, Layout of tensors
    """

    LATENCY = CYCLES.ld_latency - 1  #: done follows the last write one cycle later

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.slices = config.weight_row_bytes // config.row_bytes
        super().__init__(
            {
                "ctl": In(ChunkControl(isa.Chunk.LOADER)),
                "rd": Out(BufferRead(config)),
                "wr": Out(WeightWrite(8 * config.weight_row_bytes, self.slices)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        issue, last, place = self._reads(m)

        # data and place wait in FIFOs of equal depth; as many blocks are asked for as they hold
        m.submodules.blocks = blocks = SyncFIFO(width=8 * self.config.row_bytes, depth=IN_FLIGHT)
        m.submodules.places = places = SyncFIFO(width=len(place) + 1, depth=IN_FLIGHT)
        written = Signal()
        done = Signal()
        m.d.comb += [
            blocks.w_en.eq(self.rd.data_valid),
            blocks.w_data.eq(self.rd.data),
            places.w_en.eq(issue),
            places.w_data.eq(Cat(place, last)),
            self.wr.valid.eq(blocks.r_rdy),
            self.wr.data.eq(blocks.r_data.replicate(self.slices)),
            Cat(self.wr.addr, self.wr.mask).eq(places.r_data[:-1]),
            written.eq(self.wr.valid & self.wr.ready),
            blocks.r_en.eq(written),
            places.r_en.eq(written),
            self.ctl.done.eq(done),
        ]
        m.d.sync += done.eq(written & places.r_data[-1])

        # at most three rows beside those with a block in flight
        running = Signal(4)
        with m.If(self._go & ~done):
            m.d.sync += running.eq(running + 1)
        with m.Elif(done & ~self._go):
            m.d.sync += running.eq(running - 1)
        m.d.comb += self.busy.eq(running.any())

        flying = Signal(range(IN_FLIGHT + 1))
        m.d.comb += self._room.eq(flying != IN_FLIGHT)
        with m.If(issue & ~written):
            m.d.sync += flying.eq(flying + 1)
        with m.Elif(written & ~issue):
            m.d.sync += flying.eq(flying - 1)
        return m

    def _reads(self, m):
        """Instruction, row and block counters; returns signals of a read: it is asked for, last of its row, place."""
        ctl, slices = self.ctl, self.slices
        op = Signal.like(ctl.op.payload, name="ahead", reset_less=True)  # the instruction behind the present one
        ahead, following = Signal(name="ahead_valid"), Signal()
        op_valid = Signal()
        op_addr = Signal(16, reset_less=True)
        op_stride = Signal(16, reset_less=True)
        op_weight = Signal(16, reset_less=True)
        op_blocks = Signal(16, reset_less=True)
        part = Signal(slices, init=1)  # one hot: slice of the next row

        # rows behind the present one
        m.submodules.rows = rows = SyncFIFO(width=16 + 16 + 6 + slices, depth=2)
        active = Signal()
        addr = Signal(16, reset_less=True)
        weight = Signal(16, reset_less=True)
        left = Signal(6, reset_less=True)
        mask = Signal(slices, reset_less=True)
        issue = Signal()
        last = Signal()
        row_end = Signal()

        self._go = go = Signal(name="go")
        self._room = Signal(name="room")
        m.submodules.requests = requests = Pair(len(addr))  # nothing above depends on the buffer's arbitration
        m.d.comb += [
            issue.eq(active & self._room & requests.w_rdy),
            requests.w_en.eq(issue),
            requests.w_data.eq(addr),
            self.rd.valid.eq(requests.r_rdy),
            self.rd.addr.eq(requests.r_data),
            requests.r_en.eq(self.rd.ready),
            last.eq(~left[1:].any()),
            row_end.eq(issue & last),
            ctl.go.ready.eq(op_valid & rows.w_rdy),
            go.eq(ctl.go.valid & ctl.go.ready),
            ctl.op.ready.eq(~ahead),
            following.eq(~op_valid | (go & ctl.go.payload)),
            rows.w_en.eq(go),
            rows.w_data.eq(Cat(op_addr, op_weight, op_blocks[: len(left)], part)),
            rows.r_en.eq(~active | row_end),
        ]
        with m.If(issue):
            m.d.sync += [addr.eq(addr + 1), weight.eq(weight + 1), left.eq(left - 1)]
        with m.If(rows.r_en):
            m.d.sync += [active.eq(rows.r_rdy), Cat(addr, weight, left, mask).eq(rows.r_data)]
        with m.If(go):
            m.d.sync += [
                op_addr.eq(op_addr + op_stride),
                part.eq(Cat(part[-1], part[:-1])),
            ]
            with m.If(part[-1]):
                m.d.sync += op_weight.eq(op_weight + op_blocks)
        with m.If(~ahead):
            m.d.sync += [op.eq(ctl.op.payload), ahead.eq(ctl.op.valid)]
        with m.Elif(following):
            m.d.sync += ahead.eq(0)
        with m.If(following):
            m.d.sync += [
                op_valid.eq(ahead),
                op_addr.eq(op.in_addr),
                op_stride.eq(op.in_stride),
                op_weight.eq(op.weight_addr),
                op_blocks.eq(op.blocks),
                part.eq(1),
            ]
        return issue, last, Cat(weight, mask)
