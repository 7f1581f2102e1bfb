"""Issue of R-MAC's steps of K^T V: outer products."""

from amaranth import C, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ...arch.config import AcceleratorConfig
from ..group_fetch import op_queue
from ..step_issue import word_steps
from .buffer import REACH
from .fetch import BITS, window_part
from .issue import issue_members, report
from .loops import EDGE, edge, late, loops, prepared


class OuterIssue(wiring.Component):
    """One group a cycle: head, v block, k block, part of the k word, map row, group.

    The first pass of a head waits for each of its map rows, a pass's last group as TapIssue's last tap.

    Parameters, members
    -------------------
    As TapIssue.

    Latency/throughput
    ------------------
    blocks * blocks * H passes of in_groups * height steps a head, no gap; at least ``width`` cycles a pass. EDGE (3)
    cycles from an instruction to its first step.
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
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        last_group, rest = edge(m, op, c)
        ready = prepared(m, queue, EDGE)

        group = Signal(BITS["in_groups"])
        map_row = Signal(BITS["height"])
        part = Signal()
        kb = Signal(range(c.width))
        vb = Signal(range(c.width))
        row = Signal(BITS["rows"])
        place = Signal(range(c.window_rows))
        step = Signal()
        blocks = late(m, "words", (op.blocks - 1)[: len(kb)])
        over, ends = loops(m, step, ready, [
            ("group", group, last_group),
            ("map_row", map_row, late(m, "map_rows", (op.height - 1)[: BITS["height"]])),
            ("part", part, C(word_steps(c) - 1, 1)),
            ("k", kb, blocks),
            ("v", vb, blocks),
            ("row", row, late(m, "heads", (op.rows - 1)[: BITS["rows"]])),
        ])  # fmt: skip
        last = over["group"] & over["map_row"]
        names = ("first_group", "begins_map_row", "first_pass")
        first, begins_map_row, first_pass = (Signal(name=n, init=1) for n in names)
        has_data = Signal()
        roomy = late(m, "roomy", self.room >= c.width)  # the sums before are ``width`` cycles old
        waits = begins_map_row & first_pass
        m.d.comb += [
            has_data.eq(~waits | self.there.any()),
            step.eq(self.enable & ready & has_data & (~last | (self.drained & roomy))),
            queue.r_en.eq(ends["row"]),
            self.used.eq(step & waits),
        ]
        with m.If(step):
            m.d.sync += [place.eq(Mux(last, 0, place + 1)), first.eq(last), begins_map_row.eq(over["group"])]
        with m.If(ends["map_row"]):
            m.d.sync += first_pass.eq(ends["v"])
        with m.If(ends["v"]):
            m.d.comb += self.freed.eq(place + 1)
        m.d.comb += [
            self.valid.eq(step),
            self.first.eq(first),
            self.last.eq(last),
            self.tiles.eq(c.width),
            self.row_end.eq(ends["v"]),
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
