"""Post-processing: lanes and parameters shared by the engines."""

from amaranth import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..arch import isa
from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..interfaces import (
    FACTOR_BITS,
    MANTISSA_BITS,
    READ_LATENCY,
    BufferRead,
    BufferWrite,
    EngineOutput,
    KsumWrite,
    MemoryRead,
    WeightWrite,
    fields_layout,
)
from ..units import dyadic, hardswish, post_lane
from ..units.copies import copies
from .queue import STEP, STEP_FIELDS, PostQueue, phases
from .token import PostToken, lane_inputs, pick

FETCH = 1 + READ_LATENCY  #: cycles from the start of a phase to its parameters (address register, memory)
LANES_AT = FETCH + 1  #: ... to the lanes' inputs
SUMS = "rmac"  #: the engine with other destinations than whole rows


def latency(config: AcceleratorConfig) -> int:
    """Cycles from the start of a tile's last phase to ``push`` of the whole tile: 17, or 21 with ``trio``."""
    return LANES_AT + post_lane.latency(config.trio) + 1


def tag(config: AcceleratorConfig) -> str:
    """What a module's name says of the shape."""
    c = config
    return f"{c.cores}x{c.word}" + (f"x{c.width}_trio" + "_attention" * c.attention) * c.trio


class PostProcess(wiring.Component):
    """Tiles of cores x lanes sums: word / post_channels cycles (phases), post_channels channels of all cores each.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    For each engine <e> of config.engine_names:

    <e> : EngineOutput
    <e>_went : a row has its go: its residual may be read
    <e>_res, <e>_wr : activation buffer

    params : parameter memory, param_read_bytes from a beat address aligned to them
    z, ksum_wr : weight buffer, Ksum memory (trio)

    Latency/throughput
    ------------------
    A tile that enters in cycle t starts in t + 1, when the lanes are free, its residual and with ``divide`` its factor
    are there and its writer has room; its last phase starts word / post_channels - 1 cycles later; the writer has it
    ``latency`` (17, trio: 21) cycles after that. One tile in word / post_channels cycles; when two engines offer
    tiles, alternately.

    Reference: arch.arith.postprocess, arch.arith.divide
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        self._stage = post_lane.stages(c.trio)
        self._phases = phases(c)
        self._out_at = LANES_AT + post_lane.latency(c.trio)
        # what travels with a phase
        self._step = data.StructLayout(
            {"phase": self._phases, "last": 1, "engine": len(c.engine_names)}
            | {name: STEP.members[name] for name in STEP_FIELDS}
        )
        members = {"params": Out(MemoryRead(c.param_read_bytes * 8))}
        for e in c.engine_names:
            members |= {
                e: In(EngineOutput(c)),
                f"{e}_went": In(1),
                f"{e}_res": Out(BufferRead(c)),
                f"{e}_wr": Out(BufferWrite(c)),
            }
        if c.trio:
            members["z"] = Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row))
            members["ksum_wr"] = Out(KsumWrite(c))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        c = self._config
        return f"vf_post_process_{tag(c)}x{c.post_channels}x{c.beat_bytes}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        queues = [self._queue(m, e) for e in c.engine_names]
        valid, steps = self._start(m, queues)
        at = lambda name: steps[LANES_AT + self._stage[name] - 1]  # noqa: E731
        step = steps[FETCH]

        # ---- sums and factors leave their queues, residual rows a cycle before the lanes want them
        popped = valid[FETCH] & step.last
        wanted = LANES_AT + self._stage["residual"] - 1
        row = steps[wanted]
        for i, queue in enumerate(queues):
            m.d.comb += [
                queue.pop.eq(popped & step.engine[i]),
                queue.res_pop.eq(valid[wanted] & row.last & row.engine[i] & row.res_mode.any()),
            ]
        params = self._parameters(m, step)
        mantissas, exponents = self._factors(m, step, popped, queues) if c.trio else (None, None)

        # ---- what all lanes have alike, a cycle early: each token's have a register of their own
        shared = {"wide": at("wide").out_wide, "narrow": at("narrow").narrow}
        if c.attention:
            shared |= {name: at(name).act0 for name in ("exp_index", "exp_out")}
            shared |= {"take_gelu": at("take_gelu").act[0]}
        if c.trio:
            shared |= {"divide": at("divide").divide, "q3": at("q3").act0, "q6": at("q6").act1}
        if c.trio and c.attention:
            shared["take_hardswish"] = at("take_hardswish").act[1]

        early, row_early = steps[FETCH - 1], steps[wanted - 1]
        shared |= {"engine": early.engine, "phase": early.phase, "write": valid[self._out_at - 1]}
        shared |= {f"res_{name}": row_early[name] for name in ("engine", "phase")} | {"res_mode": row_early.res_mode}

        # ---- lanes, and their bytes shifted into whole rows
        tokens = [block(token, token.module_name) for token in (PostToken(c) for _ in range(c.cores))]
        widths = {name: len(getattr(tokens[0], name)) for name in shared}
        shared = {name: copies(m, c.cores, f"{name}_", Value.cast(v)[: widths[name]]) for name, v in shared.items()}
        for t, token in enumerate(tokens):
            m.submodules[f"token{t}"] = token
            given = {name: of_token[t][0] for name, of_token in shared.items()}
            given |= {"mantissa": mantissas[t], "exponent": exponents[t]} if c.trio else {}
            m.d.comb += [
                *(getattr(token, name).eq(value[: len(getattr(token, name))]) for name, value in given.items()),
                *(getattr(token, name)[j].eq(value) for (name, j), value in params.items()),
            ]
            for i, queue in enumerate(queues):
                m.d.comb += [
                    token.acc[i].eq(queue.acc.word_select(t, c.lanes * ACC_BITS)),
                    token.res_low[i].eq(queue.res_low.word_select(t, c.word * 8)),
                    token.res_high[i].eq(queue.res_high.word_select(t, c.word * 8)),
                ]
        low, high = Cat(token.low for token in tokens), Cat(token.high for token in tokens)
        for i, queue in enumerate(queues):
            push = Signal(name=f"push{i}")
            step = steps[self._out_at]
            m.d.sync += push.eq(valid[self._out_at] & step.last & step.engine[i])
            m.d.comb += [queue.push.eq(push), queue.low.eq(low), queue.high.eq(high)]
        return m

    def _queue(self, m, e):
        """The engine's queue, connected to the outside."""
        c, sums = self._config, e == SUMS
        queue = block(PostQueue(c, sums), f"vf_post_queue_{tag(c)}x{c.post_channels}x{c.beat_bytes}" + "_sums" * sums)
        m.submodules[e] = queue
        connect(m, flipped(getattr(self, e)), queue.engine)
        m.d.comb += queue.went.eq(getattr(self, f"{e}_went"))
        for name in ("res", "wr"):
            connect(m, getattr(queue, name), flipped(getattr(self, f"{e}_{name}")))
        for name in ("z", "ksum_wr") * sums:
            connect(m, getattr(queue, name), flipped(getattr(self, name)))
        return queue

    def _start(self, m, queues):
        """Decides which phase of which engine starts; returns its valid bit and description in each following cycle."""
        c = self._config
        phase = Signal(self._phases, init=1)
        go = Signal()
        who = Signal(len(queues))  # one-hot
        ready = Cat(q.ready for q in queues)
        if len(queues) == 1:
            m.d.comb += who.eq(1)
        else:
            engine = Signal(2, reset_less=True)
            second = Signal()  # whose turn it is when both are ready
            chosen = Mux(ready[1] & (second | ~ready[0]), 0b10, 0b01)
            m.d.comb += who.eq(Mux(phase[0], chosen, engine))
            m.d.sync += engine.eq(who)
            with m.If(go & phase[0]):
                m.d.sync += second.eq(who[0])
        m.d.comb += go.eq(~phase[0] | ready.any())
        with m.If(go):
            m.d.sync += phase.eq(Cat(phase[-1], phase[:-1]))
        reads = c.word * isa.PARAM_BYTES // c.param_read_bytes  # of a tile
        per_read = self._phases // reads
        ends_read = Cat(bit for p, bit in enumerate(phase) if p % per_read == per_read - 1).any()
        for mine, queue in zip(who, queues, strict=True):
            m.d.comb += [
                queue.opening.eq(phase[0]),
                queue.phase.eq(go & mine),
                queue.ends_read.eq(ends_read),
                queue.start.eq(go & mine & phase[0]),
                queue.last.eq(go & mine & phase[-1]),
            ]
        address = Signal(16, reset_less=True)
        m.d.sync += address.eq(pick(who, [q.params_addr for q in queues]))
        m.d.comb += self.params.addr.eq(address)

        step = Signal(self._step)
        m.d.comb += [step.phase.eq(phase), step.last.eq(phase[-1]), step.engine.eq(who)]
        m.d.comb += [step[name].eq(pick(who, [q.step[name] for q in queues])) for name in STEP_FIELDS]
        if not c.attention:  # lanes without GELU do nothing but Hardswish
            for name, value in zip(("act0", "act1"), hardswish.IDENTITY):
                m.d.comb += step[name].eq(pick(who, [Mux(q.step.act[1], q.step[name], value) for q in queues]))
        valid, steps = [go], [step]
        alone = {"engine": 1} if len(queues) == 1 else {}  # a constant from the first cycle: no register
        for i in range(1, self._out_at + 1):
            valid.append(Signal(name=f"valid{i}"))
            steps.append(Signal(self._step, init=alone, name=f"step{i}", reset_less=True))
            m.d.sync += [valid[i].eq(valid[i - 1]), steps[i].eq(steps[i - 1])]
        return valid, steps

    def _factors(self, m, step, popped, queues):
        """Per token: mantissa with the accumulators, p when the lanes take it; without a division those of the unit."""
        c = self._config
        for i, queue in enumerate(queues):
            m.d.comb += queue.factor_pop.eq(popped & step.engine[i] & step.divide)
        none = C(dyadic.NO_DIVISION << MANTISSA_BITS, FACTOR_BITS)
        factor = Signal(c.cores * FACTOR_BITS, reset_less=True)
        m.d.sync += factor.eq(Mux(step.divide, pick(step.engine, [q.factor for q in queues]), none.replicate(c.cores)))
        tokens = [factor.word_select(t, FACTOR_BITS) for t in range(c.cores)]
        exponents = Cat(t[MANTISSA_BITS:] for t in tokens)
        assert self._stage["mantissa"] == 0
        for i in range(self._stage["exponent"]):
            late = Signal(len(exponents), name=f"exponents{i + 1}", reset_less=True)
            m.d.sync += late.eq(exponents)
            exponents = late
        size = FACTOR_BITS - MANTISSA_BITS
        return [t[:MANTISSA_BITS] for t in tokens], [exponents.word_select(t, size) for t in range(c.cores)]

    def _parameters(self, m, step):
        """(name, channel of the phase) -> parameter, at the stage at which the lanes take it."""
        c = self._config
        layout = fields_layout(isa.POST_PARAM_FIELDS)
        bits = 8 * isa.PARAM_BYTES
        groups = c.param_read_bytes // (isa.PARAM_BYTES * c.post_channels)
        stages = {name: self._stage[name] for name in lane_inputs(c)[0]}
        out = {}
        for j in range(c.post_channels):
            entry = pick(
                Cat(step.phase[g::groups].any() for g in range(groups)),
                [self.params.data.word_select(g * c.post_channels + j, bits)[: layout.size] for g in range(groups)],
            )
            for i in range(max(stages.values()) + 1):
                r = Signal(layout, name=f"params{j}_{i}", reset_less=True)
                m.d.sync += r.eq(entry)
                out |= {(name, j): r[name] for name, stage in stages.items() if stage == i}
                entry = r
        return out
