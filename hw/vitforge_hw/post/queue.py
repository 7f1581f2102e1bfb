"""What waits for the post-processing lanes on one engine's behalf: sums, factors, residual rows, results' places."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..engines.group_fetch import last_numbers, op_queue
from ..engines.instruction import hold
from ..engines.tile_fifo import banks
from ..interfaces import (
    FACTOR_BITS,
    POST_OP,
    RESULTS,
    BufferRead,
    BufferWrite,
    EngineOutput,
    KsumWrite,
    WeightWrite,
)
from .op import counted, op_part
from .residual_fetch import ResidualFetch
from .row_writer import RowWriter

#: factors may be RESULTS ahead of a tile that has RESULTS tiles before it
FACTORS = 2 * RESULTS
STEP_FIELDS = ("act", "act0", "act1", "divide", "res_mode", "out_wide", "narrow")
STEP = op_part(*STEP_FIELDS)  #: formats of a tile


def slots(config: AcceleratorConfig) -> int:
    """Tiles whose residual, and whose result, can wait: enough for a tile in word / post_channels cycles."""
    return 8 if config.word // config.post_channels >= 4 else 32


def phases(config: AcceleratorConfig) -> int:
    """Cycles of a tile on the lanes."""
    return config.word // config.post_channels


class PostQueue(wiring.Component):
    """Instructions, finished tiles, their factors and residual rows of one engine, and its writer.

    Parameters
    ----------
    config : AcceleratorConfig
    sums : the engine has instructions with other destinations than whole rows, and with ``hold``

    Members
    -------
    engine : EngineOutput; ``went`` : a row of it has its go
    res, wr, z, ksum_wr : residual rows; results (z and ksum_wr with ``sums``)
    ready : the oldest tile can start, with everything that it needs
    step : its formats; ``params_addr`` : parameters of the phase that starts
    opening : the lanes' next phase is a tile's first
    phase, ends_read, start, last : one of its phases starts in this cycle; it is the last one of a parameter read, the
        tile's first, the tile's last
    acc, pop : sums of the oldest tile whose sums are not read yet; they are
    factor, factor_pop : likewise (trio)
    res_low, res_high, res_pop : likewise
    push, low, high : a finished tile's bytes, in the buffer's order

    Latency: a tile that enters in cycle t can start in t + 1; see ResidualFetch and RowWriter.
    """

    def __init__(self, config: AcceleratorConfig, sums: bool):
        self._config, self._sums = config, sums
        c = config
        self._op = op_part(
            *("tiles", "rows", "groups", "param_addr", *STEP_FIELDS), *(("dest", "hold") if sums else ())
        )
        members = {
            "engine": In(EngineOutput(c)),
            "went": In(1),
            "res": Out(BufferRead(c)),
            "wr": Out(BufferWrite(c)),
            "ready": Out(1),
            "step": Out(STEP),
            "params_addr": Out(16),
            "opening": In(1),
            "phase": In(1),
            "ends_read": In(1),
            "start": In(1),
            "last": In(1),
            "acc": Out(c.cores * c.lanes * ACC_BITS),
            "pop": In(1),
            "res_low": Out(c.row_bytes * 8),
            "res_high": Out(c.row_bytes * 8),
            "res_pop": In(1),
            "push": In(1),
            "low": In(c.row_bytes * 8),
            "high": In(c.row_bytes * 8),
        }
        if c.trio:
            members |= {"factor": Out(c.cores * FACTOR_BITS), "factor_pop": In(1)}
        if sums:
            members["z"] = Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row))
            members["ksum_wr"] = Out(KsumWrite(c))
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        tag = f"{c.cores}x{c.word}x{slots(c)}"
        sums = f"_z{c.width}x{c.beats_per_weight_row}" if self._sums else ""
        m.submodules.residual = residual = block(ResidualFetch(c, slots(c)), f"vf_residual_fetch_{tag}")
        m.submodules.writer = writer = block(RowWriter(c, slots(c), self._sums), f"vf_row_writer_{tag}{sums}")
        queue, op = op_queue(m, "ops", self._op, registered=True)

        # ---- an instruction goes to every stage, when all can take it
        engine = self.engine
        given, taken = hold(m, engine.op, lambda _: queue.w_rdy & residual.op_ready & writer.op_ready)
        entry = Signal(self._op)
        m.d.comb += [queue.w_en.eq(taken), queue.w_data.eq(last_numbers(entry, "tiles", "rows"))]
        m.d.comb += [residual.op_valid.eq(taken), writer.op_valid.eq(taken)]
        for view in (entry, residual.op, writer.op):
            m.d.comb += [view[name].eq(given[name]) for name, _ in view.shape()]

        # ---- what the oldest tile needs
        tile, row, group = (Signal(POST_OP.members[f"{name}s"], name=name) for name in ("tile", "row", "group"))
        needs = op.res_mode.any()
        results = counted(m, "results", RESULTS, engine.tile_valid, self.start)
        residuals = counted(m, "residuals", slots(c), residual.arrived, self.start & needs)
        places = counted(m, "places", slots(c), writer.freed, self.start, init=slots(c))
        able = queue.r_rdy & results & places & (~needs | residuals)
        if c.trio:
            able &= ~op.divide | counted(m, "factors", FACTORS, engine.factor_valid, self.start & op.divide)
        m.d.comb += [self.ready.eq(able), *(self.step[name].eq(op[name]) for name in STEP_FIELDS)]

        # ---- counting tiles
        tile_last, row_last, group_last = tile == op.tiles, row == op.rows, group == op.groups
        m.d.comb += queue.r_en.eq(self.last & tile_last & group_last & row_last)
        with m.If(self.last):
            m.d.sync += tile.eq(Mux(tile_last, 0, tile + 1))
            with m.If(tile_last):
                m.d.sync += group.eq(Mux(group_last, 0, group + 1))
                with m.If(group_last):
                    m.d.sync += row.eq(Mux(row_last, 0, row + 1))
        self._parameters(m, op, tile, group, row)

        # ---- sums, factors
        # they count elsewhere
        acc = banks(m, "results", c.cores, RESULTS, engine.tile_valid, engine.tile_acc, self.pop)
        m.d.comb += [self.acc.eq(acc), engine.popped.eq(self.pop)]
        if c.trio:
            factor = banks(m, "factors", 1, FACTORS, engine.factor_valid, engine.factor, self.factor_pop)
            m.d.comb += self.factor.eq(factor)

        # ---- residual rows, results
        connect(m, residual.res, flipped(self.res))
        m.d.comb += [
            residual.went.eq(self.went),
            residual.pop.eq(self.res_pop),
            self.res_low.eq(residual.low),
            self.res_high.eq(residual.high),
        ]
        for name in ("wr",) + ("z", "ksum_wr") * self._sums:
            connect(m, getattr(writer, name), flipped(getattr(self, name)))
        m.d.comb += [
            writer.push.eq(self.push),
            writer.low.eq(self.low),
            writer.high.eq(self.high),
            engine.done.eq(writer.done),
        ]
        return m

    def _parameters(self, m, op, tile, group, row):
        """Address of the phase's parameters: over again with each group, or on through the instruction."""
        c = self._config
        beat = Signal(16, reset_less=True)
        now = Signal(16)
        over = ~tile.any()
        if self._sums:
            over &= ~op.dest.any() | ~(group.any() | row.any())
        fresh = self.opening & over
        after = (now + Mux(self.ends_read, c.param_read_bytes // c.beat_bytes, 0))[:16]
        if self._sums:
            held = Signal(POST_OP.members["hold"])
            first = Signal(16, reset_less=True)  # of the tile's parameters
            first_now = Mux(self.opening, now, first)
            with m.If(self.start):
                m.d.sync += first.eq(now)
            again = self.last & (held != op.hold)
            with m.If(self.last):
                m.d.sync += held.eq(Mux(again, held + 1, 0))
            after = Mux(again, first_now, after)
        m.d.comb += [now.eq(Mux(fresh, op.param_addr, beat)), self.params_addr.eq(now)]
        with m.If(self.phase):
            m.d.sync += beat.eq(after)
