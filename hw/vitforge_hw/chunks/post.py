"""Post-processing of the MAT chunk: result FIFO, parameters, lanes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..interfaces import READ_LATENCY, MemoryRead, fields_layout
from ..units import post_lane
from ..units.post_lane import STAGE, PostLane
from . import residual_fetch, row_writer
from .mat_fetch import is_last, op_queue

RESULTS = 8  #: tiles in the result FIFO
OP = data.StructLayout(
    {
        "tiles": 10,
        "rows": 12,
        "param_addr": 16,
        "act": 2,
        "gelu_exp": 4,
        "res_mode": 2,
        "out_wide": 1,
        "narrow": 1,
    }
)
FETCH = 1 + READ_LATENCY  #: cycles from the start of a phase to its parameters (address register, memory)
LANES_AT = FETCH + 1  #: ... to the lanes' inputs
OUT_AT = LANES_AT + post_lane.LATENCY  #: ... to the lanes' outputs
LATENCY = OUT_AT + 1  #: start of a tile's last phase to ``push`` of the whole tile
#: what travels with a phase
_STEP = data.StructLayout(
    {
        "phase": 16,  # one bit per phase
        "last": 1,
        "act": 2,
        "gelu_exp": 4,
        "res_mode": 2,
        "wide": 1,
        "narrow": 1,
    }
)


class PostProcess(wiring.Component):
    """A tile of cores x lanes sums in word / post_channels cycles (phases), post_channels channels of all cores each.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : tiles, rows, parameters and formats of an instruction
    tile_valid, tile_acc : a finished tile (room is guaranteed by credits)
    popped : a tile has left the result FIFO
    params : parameter memory
    res_arrived, res_low, res_high, res_pop : residual rows of the oldest tile
    push, low, high : a finished tile's bytes, in the buffer's order
    freed : the writer has a free place again

    Latency/throughput
    ------------------
    A tile that enters in cycle t starts in t + 1; its last phase starts word / post_channels - 1 cycles later, and
    ``push`` follows LATENCY (17) cycles after that. One tile in word / post_channels cycles.

    Reference: arch.arith.postprocess
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(OP),
                "tile_valid": In(1),
                "tile_acc": In(c.cores * c.lanes * ACC_BITS),
                "popped": Out(1),
                "params": Out(MemoryRead(c.beat_bytes * 8)),
                "res_arrived": In(1),
                "res_low": In(c.row_bytes * 8),
                "res_high": In(c.row_bytes * 8),
                "res_pop": Out(1),
                "push": Out(1),
                "low": Out(c.row_bytes * 8),
                "high": Out(c.row_bytes * 8),
                "freed": In(1),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        phases = c.word // c.post_channels
        valid, steps = self._start(m, phases)
        lanes = range(c.post_channels)
        at = lambda name: steps[LANES_AT + STAGE[name]]  # noqa: E731

        # ---- accumulators of the phase's channels, with the parameters
        acc = self._results(m, phases, valid[FETCH], steps[FETCH])
        params = self._parameters(m, steps[FETCH])

        # ---- residual, one cycle before the lanes want it
        wanted = LANES_AT + STAGE["residual"] - 1
        step = steps[wanted]
        m.d.comb += self.res_pop.eq(valid[wanted] & step.last & step.res_mode.any())
        residual = []
        for token in range(c.cores):
            for j in lanes:
                places = [token * c.word + p * c.post_channels + j for p in range(phases)]
                low, high = (
                    self._pick(step.phase, [row.word_select(place, 8) for place in places])
                    for row in (self.res_low, self.res_high)
                )
                value = Signal(signed(16), name=f"residual{token}_{j}", reset_less=True)
                upper = Mux(step.res_mode[1], high, low[-1].replicate(8))
                m.d.sync += value.eq(Cat(low, upper) & step.res_mode.any().replicate(16))
                residual.append(value)

        # ---- lanes, and their bytes shifted into whole rows
        low_rows, high_rows = [], []
        for token in range(c.cores):
            low_bytes, high_bytes = [], []
            for j in lanes:
                lane = block(PostLane(), "vf_post_lane")
                m.submodules[f"lane{token}_{j}"] = lane
                m.d.comb += [
                    lane.acc.eq(acc[token * c.post_channels + j]),
                    lane.residual.eq(residual[token * c.post_channels + j]),
                    lane.exp_index.eq(at("exp_index").gelu_exp),
                    lane.exp_out.eq(at("exp_out").gelu_exp),
                    lane.act.eq(at("act").act),
                    lane.wide.eq(at("wide").wide),
                    lane.narrow.eq(at("narrow").narrow),
                    *(getattr(lane, f.name).eq(params[j][STAGE[f.name]][f.name]) for f in isa.POST_PARAM_FIELDS),
                ]
                low_bytes.append(lane.low)
                high_bytes.append(lane.high)
            for rows, out, name in ((low_rows, low_bytes, "low"), (high_rows, high_bytes, "high")):
                r = Signal(c.word * 8, name=f"{name}{token}", reset_less=True)
                with m.If(valid[OUT_AT]):
                    m.d.sync += r.eq(Cat(r, *out)[c.post_channels * 8 :])
                rows.append(r)
        push = Signal()
        m.d.sync += push.eq(valid[OUT_AT] & steps[OUT_AT].last)
        m.d.comb += [self.push.eq(push), self.low.eq(Cat(low_rows)), self.high.eq(Cat(high_rows))]
        return m

    def _start(self, m, phases):
        """Decides which phase starts; returns its valid bit and description in each following cycle."""
        c = self._config
        queue, op = op_queue(m, "ops", OP)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        phase = Signal(phases, init=1)
        tile = Signal(10)
        row = Signal(12)
        results = Signal(range(RESULTS + 1))
        residuals = Signal(range(residual_fetch.SLOTS + 1))
        places = Signal(range(row_writer.SLOTS + 1), init=row_writer.SLOTS)
        needs = op.res_mode.any()
        go = Signal()
        first = Signal()
        last = Signal()
        m.d.comb += [
            go.eq(
                ~phase[0] | (queue.r_rdy & results.any() & places.any() & (~needs | residuals.any()))
            ),
            first.eq(go & phase[0]),
            last.eq(go & phase[-1]),
        ]
        tile_last, row_last = is_last(tile, op.tiles), is_last(row, op.rows)
        m.d.comb += queue.r_en.eq(last & tile_last & row_last)
        m.d.sync += [
            results.eq((results + self.tile_valid)[: len(results)] - first),
            residuals.eq((residuals + self.res_arrived)[: len(residuals)] - (first & needs)),
            places.eq((places + self.freed)[: len(places)] - first),
        ]
        beats = c.word * isa.PARAM_BYTES // c.beat_bytes  # of a tile
        per_beat = phases // beats
        beat = Signal(16, reset_less=True)
        address = Signal(16, reset_less=True)
        now = Mux(phase[0] & ~tile.any(), op.param_addr, beat)
        ends_beat = Cat(bit for p, bit in enumerate(phase) if p % per_beat == per_beat - 1).any()
        with m.If(go):
            m.d.sync += [phase.eq(Cat(phase[-1], phase[:-1])), beat.eq(now + ends_beat)]
        with m.If(last):
            m.d.sync += tile.eq(Mux(tile_last, 0, tile + 1))
            with m.If(tile_last):
                m.d.sync += row.eq(Mux(row_last, 0, row + 1))
        m.d.sync += address.eq(now)
        m.d.comb += self.params.addr.eq(address)

        step = Signal(_STEP)
        m.d.comb += [
            step.phase.eq(phase),
            step.last.eq(last),
            step.act.eq(op.act),
            step.gelu_exp.eq(op.gelu_exp),
            step.res_mode.eq(op.res_mode),
            step.wide.eq(op.out_wide),
            step.narrow.eq(op.narrow),
        ]
        valid, steps = [go], [step]
        for i in range(1, OUT_AT + 1):
            valid.append(Signal(name=f"valid{i}"))
            steps.append(Signal(_STEP, name=f"step{i}", reset_less=True))
            m.d.sync += [valid[i].eq(valid[i - 1]), steps[i].eq(steps[i - 1])]
        return valid, steps

    def _pick(self, chosen, values):
        """The value whose bit is set in the one-hot ``chosen``."""
        out = values[0]
        for bit, value in zip(chosen[1:], values[1:], strict=False):
            out = Mux(bit, value, out)
        return out

    def _results(self, m, phases, valid, step):
        """The result FIFO, one memory per phase; registers with the sums of the phase's channels, token-major."""
        c = self._config
        sums = [self.tile_acc.word_select(i, ACC_BITS) for i in range(c.cores * c.lanes)]
        fill = Signal(range(RESULTS))
        use = Signal(range(RESULTS))
        with m.If(self.tile_valid):
            m.d.sync += fill.eq(fill + 1)
        m.d.comb += self.popped.eq(valid & step.last)
        with m.If(self.popped):
            m.d.sync += use.eq(use + 1)
        count = c.cores * c.post_channels
        rows = []
        for p in range(phases):
            m.submodules[f"results{p}"] = mem = memory.Memory(shape=count * ACC_BITS, depth=RESULTS, init=[])
            write, read = mem.write_port(), mem.read_port(domain="comb")
            channels = range(p * c.post_channels, (p + 1) * c.post_channels)
            part = [sums[token * c.lanes + channel] for token in range(c.cores) for channel in channels]
            m.d.comb += [
                write.en.eq(self.tile_valid),
                write.addr.eq(fill),
                write.data.eq(Cat(part)),
                read.addr.eq(use),
            ]
            rows.append(read.data)
        chosen = Signal(count * ACC_BITS, name="acc", reset_less=True)
        m.d.sync += chosen.eq(self._pick(step.phase, rows))
        return [chosen.word_select(i, ACC_BITS).as_signed() for i in range(count)]

    def _parameters(self, m, step):
        """Per channel of the phase: its parameter entry at each stage of the lanes."""
        c = self._config
        layout = fields_layout(isa.POST_PARAM_FIELDS)
        bits = 8 * isa.PARAM_BYTES
        groups = c.beat_bytes // (isa.PARAM_BYTES * c.post_channels)
        last = max(STAGE[f.name] for f in isa.POST_PARAM_FIELDS)
        out = []
        for j in range(c.post_channels):
            entry = self._pick(
                Cat(step.phase[g::groups].any() for g in range(groups)),
                [self.params.data.word_select(g * c.post_channels + j, bits)[: layout.size] for g in range(groups)],
            )
            stages = []
            for i in range(last + 1):
                r = Signal(layout, name=f"params{j}_{i}", reset_less=True)
                m.d.sync += r.eq(entry)
                stages.append(r)
                entry = r
            out.append(stages)
        return out
