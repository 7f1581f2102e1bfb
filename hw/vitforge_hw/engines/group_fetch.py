"""Group register of an engine: reads a token group's words once, keeps them for all tiles that use them."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..arch.latency import CYCLES
from ..emit import block
from ..interfaces import BufferRead, fields_layout
from ..memory.ram import Ram

OP_QUEUE = 8  #: instructions between the chunk's stages
GROUP_BITS = 14  #: signed group numbers
#: widths of the engines' instruction fields
FIELD_BITS = {f.name: f.bits for f in (isa.ROWS_FIELD, *isa.OP_FIELDS[isa.Chunk.MAT])}


def op_part(names) -> data.StructLayout:
    """Some fields of an engine's instruction, in the order and with the widths of arch.isa."""
    return fields_layout(tuple(f for f in (isa.ROWS_FIELD, *isa.OP_FIELDS[isa.Chunk.MAT]) if f.name in names))


def ring_rows(config: AcceleratorConfig) -> int:
    """Depth of the group register: token groups of the longest reduction, rounded up to a power of two."""
    return 1 << ceil_log2(CYCLES.mat_fetch_rows * config.max_k // config.word)


def is_last(index, count):
    """index == count - 1, in index's width."""
    return index == (count - 1)[: len(count)]


def last_numbers(op, *counts: str):
    """``op`` on its way into a queue, with the numbers of the last in place of ``counts``: no subtraction behind it."""
    return Cat((op[name] - 1)[: len(op[name])] if name in counts else op[name] for name, _ in op.shape())


def op_queue(m: Module, name: str, layout: data.Layout, depth: int = OP_QUEUE, registered: bool = False):
    """A small instruction FIFO; returns it and a view of its first entry: ``registered``, one cycle later."""
    queue = (fifo.SyncFIFOBuffered if registered else fifo.SyncFIFO)(width=layout.size, depth=depth)
    m.submodules[name] = queue
    return queue, data.View(layout, queue.r_data)


class GroupFetch(wiring.Component):
    """Reads the words of all token groups of a row for each ``go`` into a ring, applies ReLU, masks tokens.

    The words of a group are used for its tiles and then freed; the ring holds at least two groups of the longest
    reduction, so the fetch of later groups, also of the next rows and instructions, overlaps the computation.
    A row has ``groups + 1`` groups of ``in_words`` (0: ``ksteps``) words; with ``skip`` the next row begins a row
    further on.

    Parameters
    ----------
    config : AcceleratorConfig
    rotate : ``rd`` is the rotator's port and ``in_offset`` a field of ``op``; otherwise every token reads itself

    Members
    -------
    op_valid, op_ready, op : the input fields of an instruction; ``relu`` with trio only, masking (``in_first``,
        ``in_tokens``, 0: nothing is masked) with attention only
    go_valid, go_ready, go_last : one more row may be read; it is the instruction's last
    rd : activation buffer; ``addr`` always lies in the tensor's pool (a group before the first one is not addressed:
        all its tokens are masked; without masking ``in_offset`` must be 0)
    arrived : one word of a row can be used from the next cycle on
    freed_valid, freed : that many words are not needed any more
    use_addr, use_data : read port of the ring for the multipliers, READ_LATENCY (2) cycles

    Latency/throughput
    ------------------
    First read request 3 cycles after ``go`` is taken, then one a cycle without gaps between groups, rows and
    instructions; ``arrived`` in the cycle of the data, 2 cycles after the accepted request. The next ``go`` is taken
    when the row's last group but one is being read.
    """

    def __init__(self, config: AcceleratorConfig, rotate: bool = True):
        self._config, self._rotate = config, rotate
        c = config
        given = ["ksteps", "in_words", "groups", "skip", "in_addr", "in_stride"]
        entry = {
            "words": FIELD_BITS["in_words"],
            "groups": FIELD_BITS["groups"],
            "skip": 1,
            "base": 16,
            "stride": FIELD_BITS["in_stride"],
        }
        group = {"words": FIELD_BITS["in_words"], "addr": 16}  # what the requests of a group need
        if c.trio:
            given += ["relu"]
            entry |= {"relu": 1}
            group |= {"relu": 1}
        if rotate:
            given += ["in_offset"]
            entry |= {"offset": range(c.cores), "upper": c.cores}  # upper: banks below the offset
            group |= {"addr_upper": 16, "offset": range(c.cores), "upper": c.cores}
        if c.attention:
            given += ["in_first", "in_tokens"]
            entry |= {
                "number": signed(GROUP_BITS),  # of the group in ``base``; may be negative
                "masked": 1,
                "whole": signed(GROUP_BITS),  # groups without a token beyond the tensor
                "rest": c.cores,  # banks of the tensor's tokens in the group behind those
            }
            group |= {"mask": c.cores}
        self._entry, self._group = data.StructLayout(entry), data.StructLayout(group)
        rows = ring_rows(c)
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(op_part(given)),
                "go_valid": In(1),
                "go_ready": Out(1),
                "go_last": In(1),
                "rd": Out(BufferRead(c, rotate=rotate)),
                "arrived": Out(1),
                "freed_valid": In(1),
                "freed": In(FIELD_BITS["ksteps"]),
                "use_addr": In(range(rows)),
                "use_data": Out(c.row_bytes * 8),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        variant = "".join(
            text for on, text in ((self._rotate, "_rotate"), (c.attention, "_mask"), (c.trio, "_relu")) if on
        )
        return f"vf_group_fetch_{c.cores}x{c.word}_{ring_rows(c)}{variant}"

    def elaborate(self, platform):
        m = Module()
        queue, op = self._instructions(m)
        take = Signal()  # the next group becomes the present one
        pending, following = self._groups(m, queue, op, take)
        current = self._requests(m, pending, following, take)
        self._ring(m, current)
        return m

    def _instructions(self, m):
        """Queue of instructions, with the first group's address and number worked out on the way in."""
        c = self._config
        queue, op = op_queue(m, "ops", self._entry, registered=True)
        given = self.op
        entry = Signal(self._entry)
        m.d.comb += [
            entry.words.eq(Mux(given.in_words.any(), given.in_words, given.ksteps)),
            entry.groups.eq(given.groups),
            entry.skip.eq(given.skip),
            entry.stride.eq(given.in_stride),
            queue.w_data.eq(entry),
            queue.w_en.eq(self.op_valid),
            self.op_ready.eq(queue.w_rdy),
        ]
        if c.trio:
            m.d.comb += entry.relu.eq(given.relu)
        base, number = given.in_addr, given.in_first if c.attention else None
        if self._rotate:
            moved_groups = Signal(signed(GROUP_BITS))  # floor(in_offset / cores)
            moved_rows = Signal(16)  # the same in buffer rows
            with m.Switch(given.in_offset.as_unsigned()):
                for offset in range(-8, 8):
                    with m.Case(offset & 15):
                        groups, banks = divmod(offset, c.cores)
                        m.d.comb += [
                            moved_groups.eq(groups),
                            moved_rows.eq(self._times(given.in_stride, groups)),
                            entry.offset.eq(banks),
                            entry.upper.eq((1 << banks) - 1),
                        ]
            base = base + moved_rows
            number = number + moved_groups.as_unsigned() if c.attention else None
        m.d.comb += entry.base.eq(base)
        if c.attention:  # cores is a power of two
            core_bits = ceil_log2(c.cores)
            with m.Switch(given.in_tokens[:core_bits]):
                for tokens in range(c.cores):
                    with m.Case(tokens):
                        m.d.comb += entry.rest.eq((1 << tokens) - 1)
            m.d.comb += [
                entry.masked.eq(given.in_tokens.any()),
                entry.number.eq(number),
                entry.whole.eq(given.in_tokens >> core_bits),
            ]
        return queue, op

    def _groups(self, m, queue, op, take):
        """The groups behind the one that is being read: (one is there, the next one)."""
        c = self._config
        # two may wait, so that whether a ``go`` is taken does not depend on the activation buffer
        m.submodules.waiting = waiting = fifo.SyncFIFO(width=self._group.size, depth=2)
        following = Signal(self._group)
        walked = Signal()  # the present group, with its mask still to be worked out
        walking = Signal()  # a row has its go and further groups
        left = Signal(FIELD_BITS["groups"], reset_less=True)  # of them, behind the next
        row_last = Signal(reset_less=True)
        fresh = Signal(init=1)  # the next go is the first one of its instruction
        room = Signal()
        made = Signal()
        group_last = Signal()
        done = Signal()
        m.d.comb += [
            room.eq(~walked | waiting.w_rdy),
            waiting.w_en.eq(walked),
            waiting.w_data.eq(following),
            waiting.r_en.eq(take),
            made.eq(room & queue.r_rdy & (walking | self.go_valid)),
            self.go_ready.eq(room & queue.r_rdy & ~walking),
            group_last.eq(~Mux(walking, left, op.groups).any()),
            done.eq(group_last & Mux(walking, row_last, self.go_last)),
            queue.r_en.eq(made & done),
        ]
        with m.If(made):
            m.d.sync += [
                walked.eq(1),
                walking.eq(~group_last),
                left.eq(Mux(walking, left, op.groups) - 1),
                fresh.eq(done),
            ]
            with m.If(~walking):
                m.d.sync += row_last.eq(self.go_last)
        with m.Elif(waiting.w_rdy):
            m.d.sync += walked.eq(0)

        def late(name, value):
            """``value`` of the group that has been walked to."""
            r = Signal(value.shape(), name=f"walked_{name}", reset_less=True)
            with m.If(made):
                m.d.sync += r.eq(value)
            return r

        def walk(name, first, step):
            """Value of the present group; it grows by ``step`` a group, and by twice that through a skipped row."""
            shape = first.shape()
            now = Signal(shape, name=name)
            after = Signal(shape, name=f"{name}_after")
            group = Signal(shape, name=f"{name}_group", reset_less=True)  # the row's next group
            row = Signal(shape, name=f"{name}_row", reset_less=True)  # the next row, when all groups are counted
            m.d.comb += [
                now.eq(Mux(walking, group, Mux(fresh, first, row))),
                after.eq(now.as_unsigned() + step),
            ]
            counted = Mux(walking, row, now).as_unsigned()
            with m.If(made):
                m.d.sync += [group.eq(after), row.eq(counted + Mux(op.skip, step << 1, step))]
            return now, after

        base, upper = (late(n, v) for n, v in zip(("base", "upper"), walk("base", op.base, op.stride), strict=True))
        address = base
        turn, bank = (late("offset", op.offset), late("bank", op.upper)) if self._rotate else (None, None)
        if c.attention:
            number, next_number = walk("number", op.number, Const(1, 1))
            number, next_number = late("number", number), late("next", next_number.as_signed())
            whole, rest, masked = late("whole", op.whole), late("rest", op.rest), late("masked", op.masked)
            # banks with tokens of the tensor, in the group and in the next one
            here, there = (
                Mux(g[-1], 0, Mux(g < whole, (1 << c.cores) - 1, rest & (g == whole).replicate(c.cores)))
                for g in (number, next_number)
            )
            mask = here
            if self._rotate:
                banks = Signal(c.cores)
                m.d.comb += banks.eq(here & ~bank | there & bank)
                mask = (Cat(banks, banks) >> turn)[: c.cores]
                # a group before the first lies outside the tensor, perhaps in another pool
                address = Mux(number[-1] & masked, upper, base)
            m.d.comb += following.mask.eq(mask | (~masked).replicate(c.cores))
        m.d.comb += [following.words.eq(late("words", op.words)), following.addr.eq(address)]
        if c.trio:
            m.d.comb += following.relu.eq(late("relu", op.relu))
        if self._rotate:
            m.d.comb += [following.addr_upper.eq(upper), following.offset.eq(turn), following.upper.eq(bank)]
        return waiting.r_rdy, data.View(self._group, waiting.r_data)

    def _requests(self, m, pending, following, take):
        """Requests of the present group: one word of the ring is reserved for each."""
        rows = ring_rows(self._config)
        current = Signal(self._group, reset_less=True)
        active = Signal()
        k = Signal(FIELD_BITS["in_words"], reset_less=True)
        space = Signal(range(rows + 1), init=rows)
        asks = Signal()  # a register in front of the buffer's arbitration
        accepted = Signal()
        last = Signal()
        rd = self.rd
        m.d.comb += [
            rd.valid.eq(asks),
            rd.addr.eq(current.addr),
            accepted.eq(rd.valid & rd.ready),
            last.eq(is_last(k, current.words)),
            take.eq(pending & (~active | (accepted & last))),
        ]
        if self._rotate:
            m.d.comb += [
                rd.addr_upper.eq(current.addr_upper),
                rd.offset.eq(current.offset),
                rd.upper.eq(current.upper),
            ]
        with m.If(take):
            m.d.sync += [active.eq(1), current.eq(following), k.eq(0)]
        with m.Elif(accepted):
            m.d.sync += [active.eq(~last), k.eq(k + 1), current.addr.eq(current.addr + 1)]
            if self._rotate:
                m.d.sync += current.addr_upper.eq(current.addr_upper + 1)
        more = Signal(len(space))
        with m.If(self.freed_valid):
            m.d.sync += more.eq(self.freed)
        with m.Else():
            m.d.sync += more.eq(0)
        m.d.sync += [
            space.eq((space + more)[: len(space)] - accepted),
            asks.eq((take | (active & ~(accepted & last))) & Mux(accepted, space[1:].any(), space.any())),
        ]
        return current

    def _ring(self, m, current):
        """Data, two cycles behind their request: masked, clipped at 0, then into the ring."""
        c, rd = self._config, self.rd
        word, rows = c.word * 8, ring_rows(c)

        def late(name, value):
            for i in (1, 2):
                r = Signal(value.shape(), name=f"{name}{i}", reset_less=True)
                m.d.sync += r.eq(value)
                value = r
            return value

        words = [rd.data.word_select(i, word) for i in range(c.cores)]
        if c.attention:
            mask = late("mask", current.mask)
            words = [w & mask[i].replicate(word) for i, w in enumerate(words)]
        if c.trio:
            relu = late("relu", current.relu)
            words = [
                Cat(byte & ~(byte[-1] & relu).replicate(8) for byte in (w[i : i + 8] for i in range(0, word, 8)))
                for w in words
            ]
        incoming = Signal(c.row_bytes * 8, reset_less=True)
        write = Signal()
        m.d.sync += [incoming.eq(Cat(words)), write.eq(rd.data_valid)]
        m.d.comb += self.arrived.eq(rd.data_valid)
        place = Signal(range(rows))
        with m.If(write):
            m.d.sync += place.eq(place + 1)
        m.submodules.ring = ring = block(Ram(c.row_bytes * 8, rows, always=True), f"vf_ring_{c.row_bytes * 8}x{rows}")
        m.d.comb += [
            ring.write_enable.eq(write),
            ring.write_addr.eq(place),
            ring.write_data.eq(incoming),
            ring.read_addr.eq(self.use_addr),
            self.use_data.eq(ring.read_data),
        ]

    def _times(self, stride, groups: int):
        """stride * groups in 16 bits, for the few groups that in_offset can reach."""
        total = None
        for bit in range(abs(groups).bit_length()):
            if abs(groups) >> bit & 1:
                term = Cat(Const(0, bit), stride)[:16]
                total = term if total is None else (total + term)[:16]
        if total is None:
            return 0
        return -total if groups < 0 else total
