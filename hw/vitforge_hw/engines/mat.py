"""MAT engine: pointwise and linear layers, Q K^T and Q Z on the PE array, up to the sums of its tiles."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from ..arch.config import AcceleratorConfig
from ..arch.isa import Chunk
from ..arch.latency import CYCLES
from ..emit import block
from ..interfaces import DEST_BUFFER, BufferRead, ChunkControl, EngineOutput, MemoryRead
from ..units import divisor_lane
from ..units.divisor_lane import DivisorLane
from . import pe_array
from . import step_issue as mat_issue
from .group_fetch import GroupFetch, ring_rows
from .instruction import hold
from .pe_array import PEArray
from .step_issue import StepIssue, word_steps

GO_TO_READ, READ_TO_STEP = CYCLES.go_to_read, CYCLES.read_to_step
STEP_TO_RESULT = mat_issue.LATENCY + pe_array.LATENCY  #: tile's last step issued -> tile_valid (16)
assert STEP_TO_RESULT == CYCLES.mat_step_to_result
RESULT_TO_FACTOR = divisor_lane.LATENCY - pe_array.LATENCY  #: tile_valid -> factor_valid of the same tile (4)


def step_to_result(config: AcceleratorConfig) -> int:
    """STEP_TO_RESULT of this configuration."""
    cycles = mat_issue.LATENCY + pe_array.latency(config)
    assert cycles == CYCLES.mat_step_to_result + CYCLES.w4_cell * config.w4
    return cycles


def row_steps(config: AcceleratorConfig, tiles: int, ksteps: int, groups: int = 1) -> int:
    """Cycles that a row of ``groups`` token groups takes on the PE array in a stream of rows."""
    return groups * tiles * ksteps * word_steps(config)


class Mat(wiring.Component):
    """Fetch, step issue, PE array, divisor lane: everything before post-processing.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : ChunkControl
    rd : input groups, through the rotator
    weights : weight rows
    ksum : (trio) Ksum words
    out : sums of the tiles, factors of divided tiles; ``out.done`` becomes ``ctl.done``
    busy : a row has its go and is not done
    array : PE array's state (ArrayState, 2 bits) and the end of a row's steps (monitor)

    Latency
    -------
    go -> first read request 2; request accepted -> step 3; a tile's last step -> tile_valid 16; tile_valid ->
    factor_valid 4.

    Throughput
    ----------
    ``row_steps`` cycles a row, without gaps between tiles, token groups, rows and instructions, as long as go comes a
    row ahead, the buffer grants the reads and credits return. An input word is read once a token group.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        members = {
            "ctl": In(ChunkControl(Chunk.MAT, c.w4)),
            "rd": Out(BufferRead(c, rotate=True)),
            "weights": Out(MemoryRead(c.weight_row_bytes * 8)),
            "out": Out(EngineOutput(c)),
            "array": Out(3),
            "busy": Out(1),
        }
        if c.trio:
            members["ksum"] = Out(MemoryRead(c.word * 8))
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        fetch, issue, array = GroupFetch(c), StepIssue(c), PEArray(c)
        m.submodules.fetch = fetch = block(fetch, fetch.module_name)
        m.submodules.issue = issue = block(issue, issue.module_name)
        m.submodules.pe_array = array = block(array, array.module_name)
        out = self.out

        # ---- an instruction goes to every stage, when all can take it
        op, taken = hold(m, self.ctl.op, lambda op: fetch.op_ready & issue.op_ready & out.op.ready)
        m.d.comb += [out.op.valid.eq(taken), out.op.payload.dest.eq(DEST_BUFFER)]
        for s in (fetch, issue):
            m.d.comb += s.op_valid.eq(taken)
            m.d.comb += [s.op[name].eq(op[name]) for name, _ in s.op.shape()]
        given = {name for name, _ in op.shape()}
        m.d.comb += [out.op.payload[name].eq(op[name]) for name, _ in out.op.payload.shape() if name in given]

        # ---- go
        m.d.comb += [
            fetch.go_valid.eq(self.ctl.go.valid),
            fetch.go_last.eq(self.ctl.go.payload),
            self.ctl.go.ready.eq(fetch.go_ready),
            self.ctl.done.eq(out.done),
        ]
        rows = Signal(ceil_log2(ring_rows(c)) + 2)
        m.d.sync += rows.eq((rows + (self.ctl.go.valid & fetch.go_ready))[: len(rows)] - out.done)
        m.d.comb += self.busy.eq(rows.any())

        # ---- input words and steps
        connect(m, fetch.rd, flipped(self.rd))
        m.d.comb += [
            issue.arrived.eq(fetch.arrived),
            issue.popped.eq(out.popped),
            self.array.eq(Cat(issue.state, issue.row_end)),
            fetch.freed_valid.eq(issue.freed_valid),
            fetch.freed.eq(issue.freed),
            fetch.use_addr.eq(issue.use_addr),
            self.weights.addr.eq(issue.weight_addr),
            array.x.eq(fetch.use_data),
            array.w.eq(self.weights.data),
            *(getattr(array, name).eq(getattr(issue, name)) for name in ("valid", "first", "last", "half")),
            *(getattr(array, name).eq(getattr(issue, name)) for name in ("four", "both") if c.w4),
            out.tile_valid.eq(array.tile_valid),
            out.tile_acc.eq(array.tile_acc),
        ]

        # ---- divisors
        if c.trio:
            lane = DivisorLane(c.cores, c.word, c.width)
            m.submodules.divisor = lane = block(lane, lane.module_name)
            m.d.comb += [
                self.ksum.addr.eq(issue.ksum_addr),
                lane.x.eq(fetch.use_data),
                lane.ksum.eq(self.ksum.data),
                lane.valid.eq(issue.valid & issue.divide),
                *(getattr(lane, name).eq(getattr(issue, name)) for name in ("first", "last", "half", "rule", "lo")),
                out.factor_valid.eq(lane.factor_valid),
                out.factor.eq(lane.factor),
            ]
        return m
