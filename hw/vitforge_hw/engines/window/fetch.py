"""Fetch of R-MAC's window buffer: map rows of depthwise convolutions, keys and values of heads."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ...arch import isa
from ...arch.config import AcceleratorConfig
from ...interfaces import BufferRead, fields_layout
from ...units.booth import multiply
from ...units.copies import copies
from ...units.pair import Pair
from ..group_fetch import is_last, op_queue
from .buffer import write_members

ROW_BITS = 11  #: signed numbers of map rows, those outside the map included
WINDOW_OP = fields_layout((isa.ROWS_FIELD, *isa.WINDOW_FIELDS))
BITS = {f.name: f.bits for f in (isa.ROWS_FIELD, *isa.WINDOW_FIELDS)}


def window_part(names) -> data.StructLayout:
    """Some fields of an instruction that uses the window buffer, with the widths of arch.isa."""
    return fields_layout(tuple(f for f in (isa.ROWS_FIELD, *isa.WINDOW_FIELDS) if f.name in names))


def top_row(op):
    """First map row of the window of output row ``first``; negative above the map."""
    row = Mux(op.stride, Cat(C(0, 1), op.first), Cat(op.first, C(0, 1)))
    return (row - op.kernel[1:])[:ROW_BITS].as_signed()


def end_row(top, op):
    """Map rows below this one are in the window that begins at ``top``."""
    beyond = (top + op.kernel)[:ROW_BITS].as_signed()
    return Mux(beyond < op.height, beyond, op.height)[: BITS["height"] + 1]


def is_narrow(op):
    """Slots are groups of a map row, not channel blocks."""
    return (op.kind == isa.DEPTHWISE) & (op.blocks == 1) & ~op.stride


def clipped(row):
    """max(row, 0), unsigned."""
    return Mux(row[-1], 0, row.as_unsigned())[: BITS["height"] + 1]


class WindowFetch(wiring.Component):
    """Reads map rows into the window buffer, a ring of window rows.

    Depthwise: the ``go`` of output row y permits the map rows up to min(height - 1, y * stride + k // 2) that the
    instruction has not read. Word b of group g lies in slot b % slots of a row that begins with the group, or, narrow
    (blocks = 1, stride 1), in slot g % slots. K^T V: a ``go`` permits all groups of one head, k words and then v words
    of a group in one window row.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : fields of an instruction
    go_valid, go_ready, go_last : one more row may be read; it is the instruction's last
    rd : activation buffer
    freed_valid, freed : that many window rows, the oldest ones, are not needed any more
    arrived : one more map row can be used from the next cycle on
    write, write_addr, write_slot ; write_data, a cycle later : to the window buffer (write_members)

    Latency/throughput
    ------------------
    First request 9 cycles after an instruction is there and 3 after its ``go``; one a cycle, no gap between map rows of
    two words and more. With pool_words 2 a request takes the next word of the pixel, too, where the first one's row is
    even and both slots lie in one window row.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        self._op = window_part(
            ["kind", "in_addr", "in_stride", "in_groups", "height", "blocks", "kernel", "stride", "first", "v_addr"]
        )
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(self._op),
                "go_valid": In(1),
                "go_ready": Out(1),
                "go_last": In(1),
                "rd": Out(BufferRead(c, pair=True)),
                "freed_valid": In(1),
                "freed": In(range(c.window_rows + 1)),
                "arrived": Out(1),
            }
            | write_members(c)
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_window_fetch_{c.cores}x{c.width}x{c.word}x{c.window_rows}" + "_pairs" * (c.pool_words == 2)

    def elaborate(self, platform):
        m = Module()
        take = Signal()
        pending, following = self._rows(m, take)
        self._requests(m, pending, following, take)
        return m

    def _rows(self, m, take):
        """Instructions and their rows: what each ``go`` lets the fetch read, one ahead of the requests."""
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]
        outer = op.kind == isa.KEY_VALUE

        # ---- a new instruction: the address of its first map row, in five steps
        prepared = Signal(5)
        top = Signal(signed(ROW_BITS), reset_less=True)
        end = Signal(BITS["height"] + 1, reset_less=True)  # map rows before this one are read
        first_row = Signal(BITS["height"] + 1, reset_less=True)
        groups = multiply(m, first_row, op.in_groups, 2, "row_groups")[:16]
        offset = multiply(m, groups, op.in_stride, 2, "group_words")[:16]
        head = Signal(16, reset_less=True)  # words of the heads before
        begun = Signal()
        pending = Signal()
        went = Signal()
        m.d.comb += [
            self.go_ready.eq(prepared[-1] & ~pending),
            went.eq(self.go_valid & self.go_ready),
            queue.r_en.eq(went & self.go_last),
        ]
        m.d.sync += [
            prepared.eq(Mux(queue.r_en, 0, Cat(queue.r_rdy, prepared[:-1]))),
        ]
        start = top_row(op)
        with m.If(~prepared[0]):
            m.d.sync += [
                top.eq(start),
                end.eq(clipped(start)),
                first_row.eq(Mux(outer, 0, clipped(start))),
                head.eq(0),
                begun.eq(0),
            ]

        # ---- a row
        layout = data.StructLayout(
            {
                "rows": BITS["height"] + 1,  # of the map
                "fresh": 1,  # they begin at ``k`` and ``v``, else behind those before
                "k": 16,
                "v": 16,
                "in_stride": BITS["in_stride"],
                "blocks": BITS["blocks"],
                "outer": 1,
                "last_group": BITS["in_groups"],
                "narrow": 1,
            }
        )
        following = Signal(layout, reset_less=True)
        next_end = end_row(top, op)
        with m.If(went):
            m.d.sync += [
                pending.eq(1),
                begun.eq(1),
                top.eq((top + op.stride + 1)[:ROW_BITS].as_signed()),
                end.eq(next_end),
                head.eq((head + op.blocks)[:16]),
                following.rows.eq(Mux(outer, op.height, (next_end - end)[: len(end)])),
                following.fresh.eq(outer | ~begun),
                following.k.eq((op.in_addr + Mux(outer, head, offset))[:16]),
                following.v.eq((op.v_addr + head)[:16]),
                following.in_stride.eq(op.in_stride),
                following.blocks.eq(op.blocks),
                following.outer.eq(outer),
                following.last_group.eq((op.in_groups - 1)[: BITS["in_groups"]]),
                following.narrow.eq(is_narrow(op)),
            ]
        with m.Elif(take):
            m.d.sync += pending.eq(0)
        return pending, following

    def _requests(self, m, pending, following, take):
        """Words of the present row, and their places in the window buffer."""
        c, rd = self._config, self.rd
        now = Signal(following.shape(), reset_less=True)
        active = Signal()
        word = Signal(BITS["blocks"])
        values = Signal()  # v words of the group
        group = Signal(BITS["in_groups"])
        final = Signal(reset_less=True)  # the present map row is the last
        addr, group_k, group_v = (Signal(16, name=n, reset_less=True) for n in ("addr", "group_k", "group_v"))
        slot = Signal(range(c.width))
        tail = Signal(range(c.window_rows))
        space = Signal(range(c.window_rows + 1), init=c.window_rows)

        # two requests wait, so that nothing here depends on the buffer's arbitration
        two = c.pool_words == 2
        place = data.StructLayout(
            {"addr": range(c.window_rows), "slot": range(c.width), "ends_row": 1} | ({"pair": 1} if two else {})
        )
        request = data.StructLayout({"addr": 16, "place": place})
        m.submodules.requests = requests = Pair(request.size)
        new, asked = Signal(request), Signal(request)
        accepted = Signal()
        opens = Signal()
        closes = Signal()
        ends_part, ends_group, ends_row, ends = (
            Signal(name=n) for n in ("ends_part", "ends_group", "ends_row", "ends")
        )
        next_k = Signal(16)
        next_v = Signal(16)
        last_word, last_slot = is_last(word, now.blocks), slot == c.width - 1
        pair = Signal()
        if two:
            m.d.comb += [
                pair.eq(~addr[0] & ~last_word & ~last_slot),
                new.place.pair.eq(pair),
                rd.pair.eq(asked.place.pair),
            ]
            last_word = Mux(pair, is_last((word + 1)[: len(word)], now.blocks), last_word)
            last_slot = Mux(pair, slot == c.width - 2, last_slot)
        m.d.comb += [
            opens.eq(slot == 0),
            accepted.eq(active & (~opens | space.any()) & requests.w_rdy),
            new.addr.eq(addr),
            new.place.addr.eq(tail),
            new.place.slot.eq(slot),
            new.place.ends_row.eq(ends_row),
            requests.w_en.eq(accepted),
            requests.w_data.eq(new),
            asked.eq(requests.r_data),
            rd.valid.eq(requests.r_rdy),
            rd.addr.eq(asked.addr),
            requests.r_en.eq(rd.ready),
            ends_part.eq(last_word),
            ends_group.eq(ends_part & (~now.outer | values)),
            ends_row.eq(ends_group & (group == now.last_group)),
            ends.eq(ends_row & final),
            closes.eq(last_slot | Mux(now.narrow, ends_row, ends_group)),
            take.eq(pending & (~active | (accepted & ends))),
            next_k.eq((group_k + now.in_stride)[:16]),
            next_v.eq((group_v + now.in_stride)[:16]),
        ]
        with m.If(accepted):
            m.d.sync += [
                word.eq(Mux(ends_part, 0, word + 1 + pair)),
                addr.eq(Mux(ends_group, next_k, Mux(ends_part, group_v, (addr + 1 + pair)[:16]))),
                slot.eq(Mux(closes, 0, slot + 1 + pair)),
                tail.eq((tail + closes)[: len(tail)]),
            ]
            with m.If(ends_part):
                m.d.sync += values.eq(~ends_group)
            with m.If(ends_group):
                m.d.sync += [group.eq(Mux(ends_row, 0, group + 1)), group_k.eq(next_k), group_v.eq(next_v)]
            with m.If(ends_row):
                m.d.sync += [now.rows.eq(now.rows - 1), final.eq(now.rows == 2)]
            with m.If(ends):
                m.d.sync += active.eq(0)
        with m.If(take):
            m.d.sync += [now.eq(following), final.eq(following.rows == 1), active.eq(following.rows.any())]
            with m.If(following.fresh):
                m.d.sync += [addr.eq(following.k), group_k.eq(following.k), group_v.eq(following.v)]
        more = Signal(len(space))
        with m.If(self.freed_valid):
            m.d.comb += more.eq(self.freed)
        m.d.sync += space.eq((space + more)[: len(space)] - (accepted & opens))

        # ---- data
        places = [Signal(place, name=f"place{i}", reset_less=True) for i in range(2)]
        m.d.sync += [places[0].eq(asked.place), places[1].eq(places[0]), self.write_data.eq(rd.data)]
        if two:  # the first word of an odd slot, the second one of an even slot are for the odd slots
            m.d.comb += self.write_pair.eq(places[1].pair)
            bits = c.word * 8
            for core, (odd,) in enumerate(copies(m, c.cores, "odd", places[0].slot[0])):
                words = [row.word_select(core, bits) for row in (rd.data, rd.second)]
                for to, at in ((self.write_data, odd), (self.write_odd, ~odd)):
                    m.d.sync += to.word_select(core, bits).eq(Mux(at, words[1], words[0]))
        m.d.comb += [
            self.arrived.eq(rd.data_valid & places[1].ends_row),
            self.write.eq(rd.data_valid),
            self.write_addr.eq(places[1].addr),
            self.write_slot.eq(places[1].slot),
        ]
