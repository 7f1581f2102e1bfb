"""Issue of R-MAC's self-accumulating steps: taps of depthwise convolutions, outer products of K^T V."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...arch.config import AcceleratorConfig
from ...units.booth import multiply
from ..group_fetch import is_last, op_queue
from ..step_issue import ArrayState, word_steps
from .buffer import REACH, step_layout
from .fetch import BITS, ROW_BITS, clipped, end_row, is_narrow, top_row, window_part

#: most map rows that a row of an instruction waits for or frees
MAP_ROWS = 7


def issue_members(config: AcceleratorConfig, results: int) -> dict:
    """Ports that both issue units have; see TapIssue."""
    c = config
    return {
        "op_valid": In(1),
        "op_ready": Out(1),
        "enable": In(1),
        "there": In(range(c.window_rows + 1)),
        "oldest": In(range(c.window_rows)),
        "drained": In(1),
        "room": In(range(results + 1)),
        "used": Out(range(MAP_ROWS + 1)),
        "freed": Out(range(c.window_rows + 1)),
        "valid": Out(1),
        "first": Out(1),
        "last": Out(1),
        "tiles": Out(range(c.width + 1)),
        "step": Out(step_layout(c)),
        "weight_addr": Out(16),
        "state": Out(2),
        "row_end": Out(1),
        "ended": Out(1),
    }


def edge(m: Module, op, config: AcceleratorConfig):
    """Number of a map row's last group and the mask of its pixels."""
    last = Signal(BITS["in_groups"])
    before = multiply(m, last, C(config.cores, config.cores.bit_length()), 0, "pixels_before")
    pixels = (op.width - before[: BITS["width"]])[: BITS["width"]]
    m.d.comb += last.eq(op.in_groups - 1)
    return last, Cat(pixels > core for core in range(config.cores))


def report(m: Module, unit, rdy, step, has_data):
    """``state`` as ArrayState."""
    stopped = Mux(has_data, ArrayState.NO_ROOM, ArrayState.NO_DATA)
    m.d.comb += unit.state.eq(Mux(step, ArrayState.STEP, Mux(rdy, stopped, ArrayState.NO_OP)))


class TapIssue(wiring.Component):
    """One tap a cycle: row, group (narrow: ``width`` groups), set of ``width`` slots, kernel row, column, half.

    A row's first tap waits for the map rows that are new in its window, a step's last tap until the shadow copy can
    take the sums, with room for their tiles.

    Parameters
    ----------
    config : AcceleratorConfig
    results : tiles that the result FIFO holds

    Members
    -------
    op_valid, op_ready, op : an instruction
    enable : the multipliers are there for the instruction
    there : map rows in the window buffer that no row has waited for; ``used`` leave this number
    oldest : first window row in use; ``freed`` rows are not needed any more (from the next cycle on)
    drained, room : the shadow copy takes new sums behind this step; places in the result FIFO
    valid, first, last, tiles : a step, it begins, ends the sums of that many tiles
    step, weight_addr : what it reads
    state, row_end, ended : what the multipliers do; a row's, an instruction's last step

    Latency/throughput
    ------------------
    k * k steps for each set (2 k * k at stride 2), no gap between sets, groups and rows; 2 cycles from an instruction.
    """

    def __init__(self, config: AcceleratorConfig, results: int):
        self._config, self._results = config, results
        names = ["rows", "in_groups", "width", "height", "blocks", "weight_addr", "out_groups"]
        names += ["kind", "kernel", "stride", "pad", "first", "window_stride"]
        self._op = window_part(names)
        super().__init__(issue_members(config, results) | {"op": In(self._op)})

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_tap_issue_{c.cores}x{c.width}x{c.window_rows}_{self._results}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        slots = c.width
        slot_bits = slots.bit_length() - 1
        queue, op = op_queue(m, "ops", self._op)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        last_group, rest = edge(m, op, c)
        narrow = Signal()
        sets = Signal(BITS["blocks"])
        m.d.comb += [narrow.eq(is_narrow(op)), sets.eq((op.blocks + slots - 1) >> slot_bits)]

        # ---- loops, innermost first
        ready = Signal()
        half = Signal()
        dx = Signal(BITS["kernel"])
        dy = Signal(BITS["kernel"])
        block = Signal(BITS["blocks"])  # set
        group = Signal(BITS["out_groups"] + 1)
        row = Signal(BITS["rows"])
        step = Signal()
        half_last = half | ~op.stride
        dx_last, dy_last, set_last, group_last, row_last = (
            Signal(name=f"{n}_last") for n in ("dx", "dy", "set", "group", "row")
        )
        first, last = ~(half | dx.any() | dy.any()), half_last & dx_last & dy_last
        next_group = Signal(len(group) + 1)
        m.d.comb += [
            dx_last.eq(is_last(dx, op.kernel)),
            dy_last.eq(is_last(dy, op.kernel)),
            set_last.eq(is_last(block, sets)),
            next_group.eq(group + Mux(narrow, slots, 1)),
            group_last.eq(next_group >= op.out_groups),
            row_last.eq(is_last(row, op.rows)),
        ]
        ends_sums, ends_group, ends_row = (Signal(name=f"ends_{n}") for n in ("sums", "group", "row"))
        m.d.comb += [
            ends_sums.eq(step & last),
            ends_group.eq(ends_sums & set_last),
            ends_row.eq(ends_group & group_last),
            queue.r_en.eq(ends_row & row_last),
        ]
        with m.If(step):
            m.d.sync += half.eq(~half_last)
            with m.If(half_last):
                m.d.sync += dx.eq(Mux(dx_last, 0, dx + 1))
                with m.If(dx_last):
                    m.d.sync += dy.eq(Mux(dy_last, 0, dy + 1))
        with m.If(ends_sums):
            m.d.sync += block.eq(Mux(set_last, 0, block + 1))
        with m.If(ends_group):
            m.d.sync += group.eq(Mux(group_last, 0, next_group))
        with m.If(ends_row):
            m.d.sync += row.eq(Mux(row_last, 0, row + 1))

        # ---- map rows
        top = Signal(signed(ROW_BITS), reset_less=True)
        end = Signal(BITS["height"] + 1, reset_less=True)
        start, next_end = top_row(op), end_row(top, op)
        next_top = (top + op.stride + 1)[:ROW_BITS].as_signed()
        with m.If(~ready):
            m.d.sync += [top.eq(start), end.eq(clipped(start))]
        with m.Elif(ends_row):
            m.d.sync += [top.eq(next_top), end.eq(next_end)]
        m.d.sync += ready.eq(queue.r_rdy & ~queue.r_en)
        begins_row = Signal()
        wanted = Signal(range(MAP_ROWS + 1))
        unneeded = Signal(range(MAP_ROWS + 1))
        has_data = Signal()
        m.d.comb += [
            begins_row.eq(first & ~(block.any() | group.any())),
            wanted.eq(next_end - end),
            unneeded.eq(Mux(row_last, next_end, clipped(next_top)) - clipped(top)),
            has_data.eq(~begins_row | (self.there >= wanted)),
        ]
        freed = multiply(m, op.window_stride, unneeded, 0, "freed_rows")
        with m.If(step & begins_row):
            m.d.comb += self.used.eq(wanted)
        with m.If(ends_row):
            m.d.comb += self.freed.eq(freed[: len(self.freed)])

        # ---- addresses: a tap's map row, and the step's place in it
        map_row = Signal(signed(ROW_BITS))
        tap_row = Signal(range(c.window_rows), reset_less=True)
        tap_now = Signal(range(c.window_rows))
        place = Signal(range(c.window_rows))
        weight = Signal(16, reset_less=True)
        weight_now = Signal(16)
        m.d.comb += [
            map_row.eq(top + dy),
            tap_now.eq(Mux(dy.any(), tap_row, self.oldest)),
            weight_now.eq(Mux(first & ~block.any(), op.weight_addr, weight)),
            self.weight_addr.eq(weight_now),
        ]
        with m.If(step):
            m.d.sync += [
                tap_row.eq((tap_now + Mux(half_last & dx_last & ~map_row[-1], op.window_stride, 0))[: len(tap_row)]),
                weight.eq((weight_now + half_last)[:16]),
            ]
        with m.If(ends_sums):
            skipped = Mux(ends_group & op.stride, sets, 0)
            m.d.sync += place.eq(Mux(ends_row, 0, (place + skipped + 1)[: len(place)]))

        # ---- the step
        count = Signal(range(slots + 1))
        remaining = Signal(BITS["out_groups"])
        m.d.comb += remaining.eq(op.out_groups - group)
        with m.If(narrow):
            m.d.comb += count.eq(Mux(remaining < slots, remaining, slots))
        with m.Else():
            m.d.comb += count.eq(Mux(set_last, (op.blocks - 1)[:slot_bits] + 1, slots))
        column = Signal(range(2 * REACH + 1))
        m.d.comb += [
            column.eq(dx - op.kernel[1:] + REACH),
            step.eq(self.enable & ready & has_data & (~last | (self.drained & (self.room >= count)))),
            self.valid.eq(step),
            self.first.eq(~(dx.any() | dy.any()) & ~half),
            self.last.eq(last),
            self.tiles.eq(count),
            self.row_end.eq(ends_row),
            self.ended.eq(queue.r_en),
            self.step.addr.eq(tap_now + place),
            self.step.row_ok.eq(~map_row[-1] & (map_row < op.height)),
            self.step.group.eq(Mux(op.stride, Cat(C(0, 1), group), group)),
            self.step.last_group.eq(last_group),
            self.step.rest.eq(rest),
            self.step.sets.eq(sets),
            self.step.narrow.eq(narrow),
            self.step.column.eq(column),
            self.step.stride.eq(op.stride),
            self.step.half.eq(half),
            self.step.pad.eq(op.pad),
        ]
        report(m, self, queue.r_rdy, step, has_data)
        return m


class OuterIssue(wiring.Component):
    """One group a cycle: head, v block, k block, part of the k word, map row, group.

    The first pass of a head waits for each of its map rows, a pass's last group as TapIssue's last tap.

    Parameters, members
    -------------------
    As TapIssue.

    Latency/throughput
    ------------------
    blocks * blocks * H passes of in_groups * height steps a head, no gap; at least ``width`` cycles a pass.
    """

    def __init__(self, config: AcceleratorConfig, results: int):
        self._config, self._results = config, results
        self._op = window_part(["rows", "in_groups", "width", "height", "blocks"])
        super().__init__(issue_members(config, results) | {"op": In(self._op)})

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_outer_issue_{c.cores}x{c.word}x{c.width}x{c.window_rows}_{self._results}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        queue, op = op_queue(m, "ops", self._op)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        last_group, rest = edge(m, op, c)

        group = Signal(BITS["in_groups"])
        map_row = Signal(BITS["height"])
        part = Signal()
        kb = Signal(range(c.width))
        vb = Signal(range(c.width))
        row = Signal(BITS["rows"])
        place = Signal(range(c.window_rows))
        step = Signal()
        ends = {}
        on = step
        for name, counter, final in (
            ("map_row", group, group == last_group),
            ("pass", map_row, is_last(map_row, op.height)),
            ("word", part, part == word_steps(c) - 1),
            ("v", kb, kb == (op.blocks - 1)[: len(kb)]),
            ("head", vb, vb == (op.blocks - 1)[: len(vb)]),
            ("op", row, is_last(row, op.rows)),
        ):
            over = Signal(name=f"{name}_last")
            m.d.comb += over.eq(final)
            with m.If(on):
                m.d.sync += counter.eq(Mux(over, 0, counter + 1))
            ends[name] = Signal(name=f"ends_{name}")
            m.d.comb += ends[name].eq(on & over)
            on = ends[name]
        last = Signal()
        waits = Signal()
        has_data = Signal()
        m.d.comb += [
            last.eq((group == last_group) & is_last(map_row, op.height)),
            waits.eq(~(group.any() | part | kb.any() | vb.any())),
            has_data.eq(~waits | self.there.any()),
            step.eq(self.enable & queue.r_rdy & has_data & (~last | (self.drained & (self.room >= c.width)))),
            queue.r_en.eq(ends["op"]),
            self.used.eq(step & waits),
        ]
        with m.If(step):
            m.d.sync += place.eq(Mux(last, 0, place + 1))
        with m.If(ends["head"]):
            m.d.comb += self.freed.eq(place + 1)
        m.d.comb += [
            self.valid.eq(step),
            self.first.eq(~(group.any() | map_row.any())),
            self.last.eq(last),
            self.tiles.eq(c.width),
            self.row_end.eq(ends["head"]),
            self.ended.eq(queue.r_en),
            self.step.addr.eq(self.oldest + place),
            self.step.row_ok.eq(1),
            self.step.group.eq(group),
            self.step.last_group.eq(last_group),
            self.step.rest.eq(rest),
            self.step.column.eq(REACH),
            self.step.k_slot.eq(kb),
            self.step.v_slot.eq(op.blocks + vb),
            self.step.part.eq(part),
        ]
        report(m, self, queue.r_rdy, step, has_data)
        return m
