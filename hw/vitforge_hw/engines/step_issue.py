"""Step issue of an engine: rows, token groups, tiles and steps of its multipliers."""

import enum

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..arch.isa import KSUM_BITS
from ..interfaces import RESULTS
from ..units.divisor_factor import LO_BITS
from .group_fetch import FIELD_BITS, is_last, last_numbers, op_part, op_queue, ring_rows

LATENCY = 3  #: cycles from the issue of a step to its operands (address register, READ_LATENCY)


def word_steps(config: AcceleratorConfig) -> int:
    """H, steps per input word: the multipliers take ``width`` channels a cycle."""
    return config.word // config.width


class ArrayState(enum.IntEnum):
    """What the multipliers do in a cycle."""

    NO_OP = 0  #: no instruction
    STEP = 1
    NO_DATA = 2  #: the next input word is not fetched
    NO_ROOM = 3  #: no place for the tile's result


class StepIssue(wiring.Component):
    """One step a cycle: row, token group, tile, word k, part h; weight rows start over with each token group.

    Grouped layers: after ``gtiles`` tiles (0: never) the next tiles reduce the next ``ksteps`` words. The fetched words
    of a token group must be those that its tiles use: ksteps * ceil(tiles / gtiles). A step waits for its word in the
    group register, a tile's last step for room in the result FIFO (RESULTS credits).

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : rows, groups, tiles, ksteps, gtiles, weight_addr of an instruction; with trio also divide,
        act0, act1
    arrived : one more word in the group register
    freed_valid, freed : words not needed any more, when the last tile that reduces them is issued
    popped : one tile has left the result FIFO
    weight_next : weight_addr a cycle early
    weight_addr, use_addr : weight row and word of the group register
    valid, first, last : the operands of a step are there; it begins, ends a tile
    half : the part of the word that the step takes
    ksum_addr : (trio) Ksum word, with weight_addr: first word + input word of the token group
    four, both : (w4) with ``valid``: the step's weights have 4 bits; its tile and the next one are wanted
    divide, rule, lo : (trio) with ``valid``: the step belongs to a division, its rule and offset of the codes
    state, row_end : what the multipliers do (ArrayState); a row's last step (for monitors)

    Latency/throughput
    ------------------
    A word that arrives in cycle t can be used by a step issued in t + 1; addresses 1 cycle after the issue, operands 3
    (``valid``). One step a cycle, no gap between tiles, token groups, rows and instructions.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        names = ["rows", "groups", "tiles", "ksteps", "gtiles", "weight_addr"]
        division = {}
        two = {}
        if c.w4:
            names += ["w4"]
            two = {"four": Out(1), "both": Out(1)}
        if c.trio:
            names += ["divide", "act0", "act1"]
            division = {"ksum_addr": Out(16), "divide": Out(1), "rule": Out(1), "lo": Out(LO_BITS)}
        self._op = op_part(names)
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(self._op),
                "arrived": In(1),
                "freed_valid": Out(1),
                "freed": Out(FIELD_BITS["ksteps"]),
                "popped": In(1),
                "weight_next": Out(16),
                "weight_addr": Out(16),
                "use_addr": Out(range(ring_rows(c))),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "half": Out(1),
                "state": Out(2),
                "row_end": Out(1),
                **division,
                **two,
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_step_issue_{ring_rows(c)}x{word_steps(c)}{'_divide' if c.trio else ''}{'_w4' if c.w4 else ''}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        depth = ring_rows(c)
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [
            queue.w_data.eq(last_numbers(self.op, "tiles", "rows")),
            queue.w_en.eq(self.op_valid),
            self.op_ready.eq(queue.w_rdy),
        ]

        # ---- loops, innermost first
        step = Signal()
        half = Signal()
        k = Signal(FIELD_BITS["ksteps"])
        tile = Signal(FIELD_BITS["tiles"])
        group = Signal(FIELD_BITS["groups"])
        row = Signal(FIELD_BITS["rows"])
        half_last = half if word_steps(c) == 2 else 1
        k_last, tile_last, group_last, row_last = (Signal(name=f"{n}_last") for n in ("k", "tile", "group", "row"))
        m.d.comb += [
            k_last.eq(is_last(k, op.ksteps)),
            *(() if c.w4 else (tile_last.eq(tile == op.tiles),)),
            group_last.eq(group == op.groups),
            row_last.eq(row == op.rows),
        ]
        one_left = tile_last
        if c.w4:  # two tiles a pass, the last one of an odd number alone
            one_left = Signal()
            m.d.comb += one_left.eq(tile == op.tiles)
            m.d.comb += tile_last.eq(one_left | op.w4 & (tile + 1 == op.tiles))
        ends_word, ends_tile, ends_group, ends_row = (
            Signal(name=f"ends_{n}") for n in ("word", "tile", "group", "row")
        )
        m.d.comb += [
            ends_word.eq(step & half_last),
            ends_tile.eq(ends_word & k_last),
            ends_group.eq(ends_tile & tile_last),
            ends_row.eq(ends_group & group_last),
            queue.r_en.eq(ends_row & row_last),
        ]
        if word_steps(c) == 2:
            with m.If(step):
                m.d.sync += half.eq(~half)
        for index, ends, last in (
            (k, ends_word, k_last),
            (tile, ends_tile, tile_last),
            (group, ends_group, group_last),
            (row, ends_row, row_last),
        ):
            count = 1 + op.w4 if c.w4 and index is tile else 1
            with m.If(ends):
                m.d.sync += index.eq(Mux(last, 0, index + count))

        # ---- input words: a tile that comes first to its words waits for them, the last one frees them
        shared = Signal(FIELD_BITS["gtiles"])  # tiles that have reduced the present words
        again = Signal()  # some tile has
        words = Signal(range(depth + 1))  # arrived and not yet used
        credits = Signal(range(RESULTS + 1), init=RESULTS)
        ends_input = Signal()
        room, full, ends = credits.any(), ~credits.any(), ends_tile
        if c.w4:  # two results in the cycles behind a tile's last step
            both, behind = Signal(name="both_tiles"), Signal()
            m.d.comb += both.eq(op.w4 & ~one_left)
            m.d.sync += behind.eq(ends_tile & both)
            room = credits.any() & ~behind & (~both | credits[1:].any())
            full, ends = ~room, ends_tile + (ends_tile & both)
        m.d.comb += [
            ends_input.eq(ends_tile & (tile_last | (op.gtiles.any() & is_last(shared, op.gtiles)))),
            step.eq(queue.r_rdy & (again | words.any()) & (~(k_last & half_last) | room)),
            self.freed_valid.eq(ends_input),
            self.freed.eq(op.ksteps),
        ]
        with m.If(ends_tile):
            m.d.sync += [again.eq(~ends_input), shared.eq(Mux(ends_input, 0, shared + 1))]
        m.d.sync += [
            words.eq((words + self.arrived)[: len(words)] - (ends_word & ~again)),
            credits.eq((credits + self.popped)[: len(credits)] - ends),
        ]
        waiting = Mux(k_last & half_last & full, ArrayState.NO_ROOM, ArrayState.NO_DATA)
        m.d.comb += [
            self.state.eq(Mux(step, ArrayState.STEP, Mux(queue.r_rdy, waiting, ArrayState.NO_OP))),
            self.row_end.eq(ends_row),
        ]

        # ---- addresses
        weight = Signal(16, reset_less=True)
        weight_now = Signal(16)
        begins_group = ~(tile.any() | k.any() | half)
        m.d.comb += weight_now.eq(Mux(begins_group, op.weight_addr, weight))
        with m.If(step):
            m.d.sync += weight.eq(weight_now + 1)
        start = Signal(range(depth))  # the tile's words in the ring
        with m.If(ends_input):
            m.d.sync += start.eq(start + op.ksteps[: len(start)])
        weight_addr = Signal(16, reset_less=True)
        use_addr = Signal(range(depth), reset_less=True)
        m.d.sync += [weight_addr.eq(weight_now), use_addr.eq(start + k[: len(start)])]
        m.d.comb += [self.weight_next.eq(weight_now), self.weight_addr.eq(weight_addr), self.use_addr.eq(use_addr)]

        # ---- with the operands
        flags = {"valid": step, "first": ~(k.any() | half), "last": k_last & half_last}
        if word_steps(c) == 2:
            flags |= {"half": half}
        if c.w4:
            flags |= {"four": op.w4, "both": both}
        if c.trio:
            within = Signal(FIELD_BITS["in_words"])  # the tile's words in the token group
            with m.If(ends_input):
                m.d.sync += within.eq(Mux(tile_last, 0, within + op.ksteps))
            ksum_addr = Signal(16, reset_less=True)
            m.d.sync += ksum_addr.eq(op.act1[:KSUM_BITS] + within + k)
            m.d.comb += self.ksum_addr.eq(ksum_addr)
            flags |= {"divide": op.divide, "rule": op.act1[KSUM_BITS], "lo": op.act0[:LO_BITS]}
        for name, value in flags.items():
            port = getattr(self, name)
            for i in range(LATENCY):
                r = Signal(len(port), name=f"{name}{i + 1}", reset_less=name != "valid")
                m.d.sync += r.eq(value)
                value = r
            m.d.comb += port.eq(value)
        return m
