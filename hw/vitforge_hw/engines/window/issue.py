"""Issue of R-MAC's steps of depthwise convolutions, and what it shares with that of K^T V (outer)."""

from types import SimpleNamespace

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...arch.config import AcceleratorConfig
from ...units.booth import multiply
from ..group_fetch import is_last, op_queue
from ..step_issue import ArrayState
from .buffer import REACH, step_layout
from .fetch import BITS, ROW_BITS, clipped, end_row, is_narrow, top_row, window_part
from .loops import edge, late, prepared

#: most map rows that a row of an instruction waits for or frees
MAP_ROWS = 7
PREPARED = 4  #: cycles from an instruction to its first step


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
    k * k steps for each set (stride 2: config.tap_cycles times as many), no gap between sets, groups and rows;
    PREPARED (4) cycles from an instruction to its first step. A map row counts two cycles after it has ``arrived``.
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
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        ready = prepared(m, queue, PREPARED)
        slot_bits = c.width.bit_length() - 1
        narrow = late(m, "narrow", is_narrow(op))
        sets = late(m, "sets", ((op.blocks + c.width - 1) >> slot_bits)[: BITS["blocks"]])

        # ---- loops, innermost first; what changes with a set or less often has nine cycles to be worked out
        half, dx, dy = Signal(), Signal(BITS["kernel"]), Signal(BITS["kernel"])
        block = Signal(BITS["blocks"])  # set
        group = Signal(BITS["out_groups"] + 1)
        row = Signal(BITS["rows"])
        first, set_first, begins_row = (Signal(name=n, init=1) for n in ("first_tap", "first_set", "begins_row"))
        step = Signal()
        side = late(m, "side", (op.kernel - 1)[: BITS["kernel"]])
        dx_last, dy_last, last = Signal(), Signal(), Signal()
        halved = c.tap_cycles == 2
        half_last = half | ~op.stride if halved else C(1, 1)
        set_last = late(m, "set_last", is_last(block, sets))
        next_group = late(m, "next_group", (group + Mux(narrow, c.width, 1))[: len(group)])
        group_last = late(m, "group_last", next_group >= op.out_groups)
        row_last = late(m, "row_last", is_last(row, op.rows))
        ends_sums, ends_group, ends_row = (Signal(name=f"ends_{n}") for n in ("sums", "group", "row"))
        m.d.comb += [
            dx_last.eq(dx == side),
            dy_last.eq(dy == side),
            last.eq(half_last & dx_last & dy_last),
            ends_sums.eq(step & last),
            ends_group.eq(ends_sums & set_last),
            ends_row.eq(ends_group & group_last),
            queue.r_en.eq(ends_row & row_last),
        ]
        with m.If(step):
            m.d.sync += [half.eq(~half_last) if halved else [], first.eq(last), begins_row.eq(ends_row)]
            with m.If(half_last):
                m.d.sync += dx.eq(Mux(dx_last, 0, dx + 1))
                with m.If(dx_last):
                    m.d.sync += dy.eq(Mux(dy_last, 0, dy + 1))
        with m.If(ends_sums):
            m.d.sync += [block.eq(Mux(set_last, 0, block + 1)), set_first.eq(set_last)]
        with m.If(ends_group):
            m.d.sync += group.eq(Mux(group_last, 0, next_group))
        with m.If(ends_row):
            m.d.sync += row.eq(Mux(row_last, 0, row + 1))

        top, has_data = self._map_rows(m, op, ready, row_last, step & begins_row, ends_row)
        count = self._count(m, op, narrow, group, set_last)
        roomy = late(m, "roomy", self.room >= count)  # the sums before are nine cycles old
        at = dict(top=top, dy=dy, sets=sets, half_last=half_last, dx_last=dx_last, begins=first & set_first)
        self._addresses(m, op, step, ends_sums, ends_group, ends_row, SimpleNamespace(**at))
        last_group, rest = edge(m, op, c)
        m.d.comb += [
            step.eq(self.enable & ready & (~begins_row | has_data) & (~last | (self.drained & roomy))),
            self.valid.eq(step),
            self.first.eq(first),
            self.last.eq(last),
            self.tiles.eq(count),
            self.row_end.eq(ends_row),
            self.ended.eq(queue.r_en),
            self.step.group.eq(Mux(op.stride, Cat(C(0, 1), group), group)),
            self.step.last_group.eq(last_group),
            self.step.rest.eq(rest),
            self.step.sets.eq(sets),
            self.step.narrow.eq(narrow),
            self.step.column.eq(dx - op.kernel[1:] + REACH),
            self.step.stride.eq(op.stride),
            self.step.half.eq(half) if halved else [],
            self.step.pad.eq(op.pad),
        ]
        report(m, self, queue.r_rdy, step, ~begins_row | has_data)
        return m

    def _count(self, m, op, narrow, group, set_last):
        """Tiles of a set."""
        slots = self._config.width
        remaining = late(m, "remaining", (op.out_groups - group)[: BITS["out_groups"]])
        narrow_count = Mux(remaining < slots, remaining, slots)
        of_last = late(m, "of_last", (op.blocks - 1)[: slots.bit_length() - 1] + 1)
        return late(m, "count", Mux(narrow, narrow_count, Mux(set_last, of_last, slots))[: slots.bit_length()])

    def _map_rows(self, m, op, ready, row_last, begins, ends_row):
        """The window's first map row, and whether those are there that are new in it; those of the next row are worked
        out while a row's steps run, which are nine at least."""
        top = Signal(signed(ROW_BITS), reset_less=True)
        end = Signal(BITS["height"] + 1, reset_less=True)  # of the rows before
        wanted = Signal(range(MAP_ROWS + 1), reset_less=True)
        has_data = Signal(reset_less=True)
        this_end = late(m, "this_end", end_row(top, op))
        next_top = late(m, "next_top", (top + op.stride + 1)[:ROW_BITS].as_signed())
        next_end = late(m, "next_end", end_row(next_top, op))
        next_wanted = late(m, "next_wanted", (next_end - this_end)[: len(wanted)])
        unneeded = late(m, "unneeded", (Mux(row_last, this_end, clipped(next_top)) - clipped(top))[: len(wanted)])
        freed = multiply(m, op.window_stride, unneeded, 1, "freed_rows")
        start = top_row(op)
        with m.If(~ready):
            m.d.sync += [top.eq(start), end.eq(clipped(start)), wanted.eq(this_end - end)]
        with m.Elif(ends_row):
            m.d.sync += [top.eq(next_top), end.eq(this_end), wanted.eq(next_wanted)]
        m.d.sync += has_data.eq(Mux(ends_row, self.there >= next_wanted, self.there >= wanted))
        with m.If(begins):
            m.d.comb += self.used.eq(wanted)
        with m.If(ends_row):
            m.d.comb += self.freed.eq(freed[: len(self.freed)])
        return top, has_data

    def _addresses(self, m, op, step, ends_sums, ends_group, ends_row, at):
        """A tap's map row, the step's place in it, its weights."""
        c = self._config
        map_row = Signal(signed(ROW_BITS))
        tap_row = Signal(range(c.window_rows), reset_less=True)
        tap_now = Signal(range(c.window_rows))
        place = Signal(range(c.window_rows))
        weight = Signal(16, reset_less=True)
        weight_now = Signal(16)
        m.d.comb += [
            map_row.eq(at.top + at.dy),
            tap_now.eq(Mux(at.dy.any(), tap_row, self.oldest)),
            weight_now.eq(Mux(at.begins, op.weight_addr, weight)),
            self.weight_addr.eq(weight_now),
            self.step.addr.eq(tap_now + place),
            self.step.row_ok.eq(~map_row[-1] & (map_row < op.height)),
        ]
        with m.If(step):
            below = at.half_last & at.dx_last & ~map_row[-1]  # the next tap's map row is there, too
            m.d.sync += [
                tap_row.eq((tap_now + Mux(below, op.window_stride, 0))[: len(tap_row)]),
                weight.eq((weight_now + at.half_last)[:16]),
            ]
        with m.If(ends_sums):
            skipped = Mux(ends_group & op.stride, at.sets, 0)
            m.d.sync += place.eq(Mux(ends_row, 0, (place + skipped + 1)[: len(place)]))
