"""SOFTMAX chunk: score rows to 4-bit codes and row factors in the code ring."""

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..arch import arith
from ..arch.config import AcceleratorConfig
from ..arch.isa import Chunk
from ..arch.latency import CYCLES
from ..emit import block
from ..interfaces import READ_LATENCY, BufferRead, ChunkControl, op_layout
from .code_ring import CodePush, max_words, word_bits
from .softmax_lane import SoftmaxLane, delay, store_bits


class State(enum.Enum, shape=2):
    IDLE = 0
    KEYS = 1  #: one key of every token a cycle
    GAP = 2  #: between the passes of the log2 rule


class Softmax(wiring.Component):
    """Rows of scores to codes: a row is ``cores`` query tokens, one lane each.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ctl : In(ChunkControl(Chunk.SOFTMAX))
    rd : Out(BufferRead(config)), scores; bytes of keys beyond the row are ignored
    codes : Out(CodePush(config)), the code ring
    code_valid, code_word : every word written to the ring (monitor)
    log_sum_valid, log_sum : L of each token, 12 bits signed, after the first pass of the log2 rule (monitor)
    busy : a row is in work

    Latency/throughput: with B = ceil(keys / word), passes = 1 (maxrel) or 2 (log2):

    - from ``go`` to ``done`` of a single row, ports ready: B + passes * keys + (passes - 1) * GAP + LATENCY cycles;
    - sustained: one row every passes * keys + (passes - 1) * GAP cycles, also across instructions, if that is at
      least B + LOAD (the first key of a row is B + LOAD cycles after its ``go``).

    Two rows are held: the next one is loaded meanwhile, and a ``go`` is taken from the cycle after the last key of the
    row before the present one. A row starts only when the ring has room for the whole entry.

    Reference: arith.softmax_codes, arith.code_weight, arith.row_factor
    """

    GAP = SoftmaxLane.CODE_GAP
    #: from go to the first key, beyond B
    LOAD = READ_LATENCY + SoftmaxLane.LOAD_LATENCY
    LATENCY = LOAD - 1 + SoftmaxLane.FACTOR_LATENCY
    assert (GAP, LOAD, LATENCY) == (CYCLES.sm_gap, CYCLES.sm_load, CYCLES.sm_latency)

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "ctl": In(ChunkControl(Chunk.SOFTMAX)),
                "rd": Out(BufferRead(config)),
                "codes": Out(CodePush(config)),
                "code_valid": Out(1),
                "code_word": Out(word_bits(config)),
                "log_sum_valid": Out(1),
                "log_sum": Out(12 * config.cores),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        self._row = data.StructLayout({"keys": 10, "words": range(max_words(c) + 1), "rule": 1, "c": 10, "sc": 4})
        lanes = []
        for i in range(c.cores):
            lane = block(SoftmaxLane(c), f"vf_softmax_lane_{c.word}_{c.max_tokens}")
            m.submodules[f"lane{i}"] = lane
            lanes.append(lane)

        taken = Signal(2)  # halves of the score store with a row that is being loaded or waits for its last key
        ready = Signal(2)  # the row is loaded
        rows = [Signal(self._row, name=f"row{i}") for i in range(2)]
        self._load(m, lanes, rows, taken, ready)
        self._keys(m, lanes, Array(rows), taken, ready)

        in_work = Signal(6)
        begin = Signal()
        m.d.comb += [begin.eq(self.ctl.go.valid & self.ctl.go.ready), self.busy.eq(in_work != 0)]
        with m.If(begin & ~self.ctl.done):
            m.d.sync += in_work.eq(in_work + 1)
        with m.Elif(~begin & self.ctl.done):
            m.d.sync += in_work.eq(in_work - 1)
        return m

    def _load(self, m: Module, lanes, rows, taken, ready):
        """Instruction and go to reads; their data to one half of the lanes' stores."""
        c, ctl, rd = self.config, self.ctl, self.rd
        op = Signal(op_layout(Chunk.SOFTMAX))
        op_valid = Signal()
        row_addr = Signal(16)
        bank = Signal()

        active = Signal()
        addr = Signal(16)
        left = Signal(10)
        first = Signal()
        step = Signal(store_bits(c))

        m.d.comb += ctl.op.ready.eq(~op_valid)
        with m.If(ctl.op.valid & ctl.op.ready):
            m.d.sync += [op.eq(ctl.op.payload), op_valid.eq(1), row_addr.eq(ctl.op.payload.in_addr)]

        m.d.comb += ctl.go.ready.eq(op_valid & ~active & ~Mux(bank, taken[1], taken[0]))
        words = (op.keys + (c.attend_keys - 1)) >> (c.attend_keys.bit_length() - 1)
        with m.If(ctl.go.valid & ctl.go.ready):
            m.d.sync += [
                active.eq(1),
                addr.eq(row_addr),
                row_addr.eq(row_addr + op.in_stride),
                left.eq(op.keys),
                first.eq(1),
                step.eq(0),
                op_valid.eq(~ctl.go.payload),
            ]
            for i, row in enumerate(rows):
                with m.If(bank == i):
                    m.d.sync += [
                        taken[i].eq(1),
                        row.keys.eq(op.keys),
                        row.words.eq(words),
                        row.rule.eq(op.rule),
                        row.c.eq(op.c),
                        row.sc.eq(op.sc),
                    ]

        m.d.comb += [rd.valid.eq(active), rd.addr.eq(addr)]
        accepted, last = Signal(), Signal()
        m.d.comb += [accepted.eq(rd.valid & rd.ready), last.eq(left <= c.word)]
        with m.If(accepted):
            m.d.sync += [addr.eq(addr + 1), left.eq(left - c.word), first.eq(0), step.eq(step + 1)]
            with m.If(last):
                m.d.sync += [active.eq(0), bank.eq(~bank)]

        # what is known about the word follows its read
        n = READ_LATENCY
        mask = Signal(c.word, reset_less=True)
        m.d.sync += mask.eq(Cat(left > i for i in range(c.word)))
        loaded = Signal(n)
        m.d.sync += loaded.eq(Cat(accepted, loaded)[:n])
        load_bank = delay(m, bank, n, "load_bank")
        load_last = delay(m, last, n, "load_last")
        load_first = delay(m, first, n, "load_first")
        load_addr = delay(m, step, n, "load_addr")
        load_mask = delay(m, mask, n - 1, "load_mask")
        for i, lane in enumerate(lanes):
            m.d.comb += [
                lane.load_valid.eq(loaded[-1]),
                lane.load_first.eq(load_first),
                lane.load_bank.eq(load_bank),
                lane.load_addr.eq(load_addr),
                lane.load_mask.eq(load_mask),
                lane.load_data.eq(rd.data.word_select(i, 8 * c.word)),
            ]
        for i in range(2):
            with m.If(loaded[-1] & load_last & (load_bank == i)):
                m.d.sync += ready[i].eq(1)

    def _keys(self, m: Module, lanes, rows: Array, taken, ready):
        """Key after key of the loaded rows; codes and factors to the ring."""
        c, codes = self.config, self.codes
        n_keys = c.attend_keys
        state = Signal(State)
        bank = Signal()  # half of the row in work, or of the next one in IDLE
        row = Signal(self._row)
        following = Signal(self._row)
        second = Signal()  # pass that gives codes
        left = Signal(10)
        first, last = Signal(), Signal()
        addr = Signal(store_bits(c))
        channel = Signal(range(c.word))
        slot = Signal(range(n_keys))
        gap = Signal(range(self.GAP))

        next_bank = Signal()
        loaded = ready & taken
        finish, start, restart = Signal(), Signal(), Signal()
        expected, expected_before = Signal(), Signal()  # next_bank, known before the row's last key
        room, fits = Signal(), Signal()  # for the row in that half, a cycle ago; still for the same one
        m.d.comb += [
            last.eq(left == 1),
            finish.eq((state == State.KEYS) & last & second),
            next_bank.eq(bank ^ finish),
            following.eq(rows[next_bank]),
            expected.eq(bank ^ ((state == State.KEYS) & second)),
            codes.need.eq(Mux(expected, rows[1].words, rows[0].words)),
            start.eq(((state == State.IDLE) | finish) & Mux(next_bank, loaded[1], loaded[0]) & fits),
            fits.eq(room & (expected == expected_before)),
            codes.start.eq(start),
            restart.eq((state == State.GAP) & (gap == 0)),
        ]
        m.d.sync += [room.eq(codes.room & ~start), expected_before.eq(expected)]
        with m.Switch(state):
            with m.Case(State.KEYS):
                m.d.sync += [
                    left.eq(left - 1),
                    first.eq(0),
                    channel.eq(channel + 1),
                    addr.eq(addr + (channel == c.word - 1)),
                    slot.eq(slot + 1),
                ]
                with m.If(last):
                    m.d.sync += [state.eq(Mux(second, State.IDLE, State.GAP)), gap.eq(self.GAP - 1)]
            with m.Case(State.GAP):
                m.d.sync += gap.eq(gap - 1)
        with m.If(finish):
            m.d.sync += bank.eq(next_bank)
            for i in range(2):
                with m.If(bank == i):
                    m.d.sync += [taken[i].eq(0), ready[i].eq(0)]
        with m.If(start | restart):
            m.d.sync += [state.eq(State.KEYS), first.eq(1), addr.eq(0), channel.eq(0), slot.eq(0)]
        with m.If(restart):
            m.d.sync += [second.eq(1), left.eq(row.keys)]
        with m.If(start):
            m.d.sync += [
                row.eq(following),
                second.eq(following.rule == arith.RULE_MAXREL),
                left.eq(following.keys),
            ]

        valid = Signal()
        m.d.comb += valid.eq(state == State.KEYS)
        for lane in lanes:
            m.d.comb += [
                lane.key_valid.eq(valid),
                lane.key_first.eq(first),
                lane.key_sum.eq(~second),
                lane.key_rule.eq(row.rule),
                lane.key_bank.eq(bank),
                lane.key_addr.eq(addr),
                lane.key_channel.eq(channel),
                lane.c.eq(row.c),
                lane.sc.eq(row.sc),
            ]

        # the key's path through the lanes
        ends = Signal(SoftmaxLane.FACTOR_LATENCY)  # the row's last key
        coded = Signal(SoftmaxLane.CODE_LATENCY)
        summed = Signal(SoftmaxLane.LOG_LATENCY)
        m.d.sync += [
            ends.eq(Cat(finish, ends)[:-1]),
            coded.eq(Cat(valid & second, coded)[:-1]),
            summed.eq(Cat(valid & last & ~second, summed)[:-1]),
        ]
        word = [Signal(4 * c.cores, name=f"code{i}", reset_less=True) for i in range(n_keys)]
        coded_slot = delay(m, slot, SoftmaxLane.CODE_LATENCY, "code_slot")
        word_valid = Signal()
        m.d.sync += word_valid.eq(coded[-1] & (ends[SoftmaxLane.CODE_LATENCY - 1] | (coded_slot == n_keys - 1)))
        for i, w in enumerate(word):
            with m.If(coded[-1]):
                with m.If(coded_slot == i):
                    m.d.sync += w.eq(Cat(lane.code for lane in lanes))
                with m.Elif(coded_slot == 0):
                    m.d.sync += w.eq(Const(-1, 4 * c.cores))  # keys beyond the row: code 15
        m.d.comb += [
            codes.valid.eq(word_valid),
            codes.word.eq(Cat(word)),
            codes.commit.eq(ends[-1]),
            codes.words.eq(delay(m, row.words, SoftmaxLane.FACTOR_LATENCY, "words")),
            codes.mant.eq(Cat(lane.mant for lane in lanes)),
            codes.p.eq(Cat(lane.p for lane in lanes)),
            self.ctl.done.eq(ends[-1]),
            self.code_valid.eq(word_valid),
            self.code_word.eq(Cat(word)),
            self.log_sum_valid.eq(summed[-1]),
            self.log_sum.eq(Cat(lane.log_sum for lane in lanes)),
        ]
