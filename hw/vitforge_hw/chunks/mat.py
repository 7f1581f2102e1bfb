"""MAT: linear layers and Q K^T on the PE array, with post-processing."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from ..arch.config import ACC_BITS, AcceleratorConfig
from ..arch.isa import Chunk
from ..emit import block
from ..interfaces import BufferRead, BufferWrite, ChunkControl, MemoryRead
from . import mat_issue, pe_array, post
from .mat_fetch import GroupFetch, ring_rows
from .mat_issue import StepIssue
from .pe_array import PEArray
from .post import PostProcess
from .residual_fetch import ResidualFetch
from .row_writer import RowWriter

#: cycles, for the cycle model; each from the first cycle of the one event to the first cycle of the other
GO_TO_READ = 2  #: go taken -> first input request (residual request likewise)
READ_TO_STEP = 3  #: request accepted -> the step that uses the word can be issued (data after 2)
STEP_TO_RESULT = mat_issue.LATENCY + pe_array.LATENCY  #: tile's last step issued -> tile_valid (11)
RESULT_TO_PHASE = 1  #: tile_valid -> first phase of post-processing
PHASE_TO_WRITE = post.LATENCY + 2  #: tile's last phase -> write request of the (low) row (19)
WRITE_TO_DONE = 1  #: row's last write accepted -> done


def row_cycles(config: AcceleratorConfig, tiles: int, ksteps: int, wide: int) -> int:
    """Cycles that a row takes in a stream of rows: the slowest of array, post-processing and writes."""
    return tiles * max(ksteps, config.word // config.post_channels, 1 + wide)


def row_latency(config: AcceleratorConfig, tiles: int, ksteps: int, wide: int) -> int:
    """Cycles from a row's ``go`` to its ``done`` when the chunk is idle before and nothing stalls."""
    first = GO_TO_READ + READ_TO_STEP + ksteps - 1 + STEP_TO_RESULT + RESULT_TO_PHASE
    last = config.word // config.post_channels - 1 + PHASE_TO_WRITE + wide + WRITE_TO_DONE
    return first + row_cycles(config, tiles - 1, ksteps, wide) + last


class Mat(wiring.Component):
    """Fetch, step issue, PE array, post-processing, writer: stages with small queues between them.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : ChunkControl
    rd : input groups, through the rotator
    res : residual rows
    wr : results
    weights : weight rows, ``params`` : post-processing parameters
    tile_valid, tile_acc : a finished tile enters the result FIFO; its sums before the bias, ACC_BITS bits each,
        element ``token * lanes + lane``
    busy : a row has its go and is not done
    array : PE array's state (ArrayState, 2 bits) and the end of a row's steps (monitor)

    Latency
    -------
    go -> first read request 2; request accepted -> step 3; a tile's last step -> tile_valid 11; tile_valid -> first
    phase 1; last phase (word / post_channels - 1 later) -> write request 19 (high plane 20); last write accepted ->
    done 1. On p2vit an idle chunk has a row of tiles x ksteps steps done tiles * ksteps + 39 (wide: + 40) cycles after
    its go (``row_latency``).

    Throughput
    ----------
    tiles * max(ksteps, word / post_channels) cycles a row, without gaps between tiles, rows and instructions, as long
    as go comes a row ahead and the buffer grants ksteps reads, tiles (x 2 planes) residual reads and writes a row.
    An input word is read once a row.

    Reference: arch.arith.postprocess of sum(x * w)
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "ctl": In(ChunkControl(Chunk.MAT)),
                "rd": Out(BufferRead(c, rotate=True)),
                "res": Out(BufferRead(c)),
                "wr": Out(BufferWrite(c)),
                "weights": Out(MemoryRead(c.weight_row_bytes * 8)),
                "params": Out(MemoryRead(c.beat_bytes * 8)),
                "tile_valid": Out(1),
                "tile_acc": Out(c.cores * c.lanes * ACC_BITS),
                "array": Out(3),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        tag = f"{c.cores}x{c.word}"
        m.submodules.fetch = fetch = block(GroupFetch(c), f"vf_group_fetch_{tag}_{ring_rows(c)}")
        m.submodules.issue = issue = block(StepIssue(c, post.RESULTS), f"vf_step_issue_{ring_rows(c)}")
        m.submodules.pe_array = array = block(PEArray(c), f"vf_pe_array_{tag}")
        m.submodules.residual = residual = block(ResidualFetch(c), f"vf_residual_fetch_{tag}")
        m.submodules.post = lanes = block(PostProcess(c), f"vf_post_process_{tag}x{c.post_channels}")
        m.submodules.writer = writer = block(RowWriter(c), f"vf_row_writer_{tag}")

        # ---- an instruction goes to every stage, when all can take it
        op = self.ctl.op.payload
        stages = (fetch, issue, residual, lanes, writer)
        ready = Cat(s.op_ready for s in stages).all()
        m.d.comb += self.ctl.op.ready.eq(ready)
        for s in stages:
            m.d.comb += s.op_valid.eq(self.ctl.op.valid & ready)
            for name, _ in s.op.shape():
                m.d.comb += s.op[name].eq(op[name])

        # ---- go
        m.d.comb += [
            fetch.go_valid.eq(self.ctl.go.valid),
            fetch.go_last.eq(self.ctl.go.payload),
            self.ctl.go.ready.eq(fetch.go_ready),
        ]
        went = self.ctl.go.valid & fetch.go_ready
        m.d.comb += residual.went.eq(went)
        rows = Signal(ceil_log2(ring_rows(c)) + 2)
        m.d.sync += rows.eq((rows + went)[: len(rows)] - self.ctl.done)
        m.d.comb += self.busy.eq(rows.any())

        # ---- input words and steps
        connect(m, fetch.rd, flipped(self.rd))
        m.d.comb += [
            issue.arrived.eq(fetch.arrived),
            issue.popped.eq(lanes.popped),
            self.array.eq(Cat(issue.state, issue.row_end)),
            fetch.freed_valid.eq(issue.freed_valid),
            fetch.freed.eq(issue.freed),
            fetch.use_addr.eq(issue.use_addr),
            self.weights.addr.eq(issue.weight_addr),
            array.x.eq(fetch.use_data),
            array.w.eq(self.weights.data),
            array.valid.eq(issue.valid),
            array.first.eq(issue.first),
            array.last.eq(issue.last),
        ]

        # ---- results
        connect(m, residual.res, flipped(self.res))
        connect(m, lanes.params, flipped(self.params))
        connect(m, writer.wr, flipped(self.wr))
        m.d.comb += [
            self.tile_valid.eq(array.tile_valid),
            self.tile_acc.eq(array.tile_acc),
            lanes.tile_valid.eq(array.tile_valid),
            lanes.tile_acc.eq(array.tile_acc),
            lanes.res_arrived.eq(residual.arrived),
            lanes.res_low.eq(residual.low),
            lanes.res_high.eq(residual.high),
            residual.pop.eq(lanes.res_pop),
            writer.push.eq(lanes.push),
            writer.low.eq(lanes.low),
            writer.high.eq(lanes.high),
            lanes.freed.eq(writer.freed),
            self.ctl.done.eq(writer.done),
        ]
        return m
