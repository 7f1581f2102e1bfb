"""Group register of the MAT chunk: reads a group's words once, keeps them for all tiles of the row."""

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import BufferRead
from ..memory.ram import Ram

OP_QUEUE = 8  #: instructions between the chunk's stages
GROUP_BITS = 14  #: signed group numbers
OP_FIELDS = ("ksteps", "in_addr", "in_stride", "in_offset", "in_first", "in_tokens")


def ring_rows(config: AcceleratorConfig) -> int:
    """Depth of the group register: two rows of the longest reduction, rounded up to a power of two."""
    return 1 << ceil_log2(2 * config.max_k // config.word)


def is_last(index, count):
    """index == count - 1, in index's width."""
    return index == (count - 1)[: len(count)]


def op_queue(m: Module, name: str, layout: data.Layout, depth: int = OP_QUEUE) -> tuple[fifo.SyncFIFO, data.View]:
    """A small instruction FIFO; returns it and a view of its first entry."""
    queue = fifo.SyncFIFO(width=layout.size, depth=depth)
    m.submodules[name] = queue
    return queue, data.View(layout, queue.r_data)


class GroupFetch(wiring.Component):
    """Reads ``ksteps`` buffer rows for each ``go`` into a ring of words, masks tokens outside the tensor.

    The rows of a group are used for all its tiles and then freed; the ring holds at least two of the longest, so the
    fetch of later rows, also of the next instructions, overlaps the computation.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    op_valid, op_ready, op : the input fields of an instruction, in order of OP_FIELDS
    go_valid, go_ready, go_last : one more row may be read; it is the instruction's last
    rd : activation buffer with rotator; ``addr`` always lies in the tensor's pool (a group before the first one is not
        addressed: all its tokens are masked)
    arrived : one word of a row can be used from the next cycle on
    freed_valid, freed : that many words are not needed any more
    use_addr, use_data : read port of the ring for the PE array, READ_LATENCY (2) cycles

    Latency/throughput
    ------------------
    First read request 2 cycles after ``go`` is taken, then one a cycle without gaps between rows and instructions;
    ``arrived`` in the cycle of the data, 2 cycles after the accepted request.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        self._op = data.StructLayout(
            {
                "ksteps": 9,
                "base": 16,
                "stride": 16,
                "offset": range(c.cores),
                "upper": c.cores,  # banks below the offset
                "group": signed(GROUP_BITS),  # number of the group in ``base``; may be negative
                "whole": signed(GROUP_BITS),  # groups without a token beyond the tensor
                "rest": c.cores,  # banks of the tensor's tokens in the group behind those
            }
        )
        rows = ring_rows(c)
        super().__init__(
            {
                "op_valid": In(1),
                "op_ready": Out(1),
                "op": In(
                    data.StructLayout(
                        {
                            "ksteps": 9,
                            "in_addr": 16,
                            "in_stride": 16,
                            "in_offset": signed(4),
                            "in_first": GROUP_BITS,
                            "in_tokens": 12,
                        }
                    )
                ),
                "go_valid": In(1),
                "go_ready": Out(1),
                "go_last": In(1),
                "rd": Out(BufferRead(c, rotate=True)),
                "arrived": Out(1),
                "freed_valid": In(1),
                "freed": In(9),
                "use_addr": In(range(rows)),
                "use_data": Out(c.row_bytes * 8),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        rows = ring_rows(c)
        core_bits = ceil_log2(c.cores)

        # ---- instructions, with the first row's address and token worked out on the way in
        queue, op = op_queue(m, "ops", self._op)
        given = self.op
        entry = Signal(self._op)
        moved_rows = Signal(16)  # floor(in_offset / cores) groups, in buffer rows
        moved_groups = Signal(signed(GROUP_BITS))
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
        with m.Switch(given.in_tokens[:core_bits]):
            for tokens in range(c.cores):
                with m.Case(tokens):
                    m.d.comb += entry.rest.eq((1 << tokens) - 1)
        m.d.comb += [
            entry.ksteps.eq(given.ksteps),
            entry.base.eq(given.in_addr + moved_rows),
            entry.stride.eq(given.in_stride),
            entry.group.eq(given.in_first + moved_groups.as_unsigned()),
            entry.whole.eq(given.in_tokens >> core_bits),
            queue.w_data.eq(entry),
            queue.w_en.eq(self.op_valid),
            self.op_ready.eq(queue.w_rdy),
        ]

        # ---- the next row: taken with go, one ahead of the row being read
        fresh = Signal(init=1)  # the next go is the first one of its instruction
        base = Signal(16, reset_less=True)
        group = Signal(signed(GROUP_BITS), reset_less=True)
        row_base = Signal(16)
        row_group = Signal(signed(GROUP_BITS))
        next_group = Signal(signed(GROUP_BITS))
        pending = Signal()
        take = Signal()
        m.d.comb += [
            row_base.eq(Mux(fresh, op.base, base)),
            row_group.eq(Mux(fresh, op.group, group)),
            next_group.eq(row_group.as_unsigned() + 1),
        ]
        row = data.StructLayout(
            {
                "ksteps": 9,
                "addr": 16,
                "addr_upper": 16,
                "offset": range(c.cores),
                "upper": unsigned(c.cores),
                "mask": unsigned(c.cores),
            }
        )
        following = Signal(row, reset_less=True)
        current = Signal(row, reset_less=True)
        m.d.comb += self.go_ready.eq(queue.r_rdy & (~pending | take))
        went = self.go_valid & self.go_ready
        upper = Signal(16)
        m.d.comb += upper.eq(row_base + op.stride)
        # banks with tokens of the tensor, in the row's group and in the next one
        here, there = (
            Mux(g[-1], 0, Mux(g < op.whole, (1 << c.cores) - 1, op.rest & (g == op.whole).replicate(c.cores)))
            for g in (row_group, next_group)
        )
        banks = Signal(c.cores)
        m.d.comb += banks.eq(here & ~op.upper | there & op.upper)
        m.d.comb += queue.r_en.eq(went & self.go_last)
        with m.If(went):
            m.d.sync += [
                pending.eq(1),
                fresh.eq(self.go_last),
                base.eq(upper),
                group.eq(next_group),
                following.ksteps.eq(op.ksteps),
                # a group before the first lies outside the tensor, perhaps in another pool
                following.addr.eq(Mux(row_group[-1], upper, row_base)),
                following.addr_upper.eq(upper),
                following.offset.eq(op.offset),
                following.upper.eq(op.upper),
                following.mask.eq(Cat(banks, banks) >> op.offset),
            ]
        with m.Elif(take):
            m.d.sync += pending.eq(0)

        # ---- requests: one word of the ring is reserved for each
        active = Signal()
        k = Signal(9, reset_less=True)
        space = Signal(range(rows + 1), init=rows)
        accepted = Signal()
        last = Signal()
        rd = self.rd
        m.d.comb += [
            rd.valid.eq(active & space.any()),
            rd.addr.eq(current.addr),
            rd.addr_upper.eq(current.addr_upper),
            rd.offset.eq(current.offset),
            rd.upper.eq(current.upper),
            accepted.eq(rd.valid & rd.ready),
            last.eq(is_last(k, current.ksteps)),
            take.eq(pending & (~active | (accepted & last))),
        ]
        with m.If(take):
            m.d.sync += [active.eq(1), current.eq(following), k.eq(0)]
        with m.Elif(accepted):
            m.d.sync += [
                active.eq(~last),
                k.eq(k + 1),
                current.addr.eq(current.addr + 1),
                current.addr_upper.eq(current.addr_upper + 1),
            ]
        more = Signal(len(space))
        with m.If(self.freed_valid):
            m.d.comb += more.eq(self.freed)
        m.d.sync += space.eq((space + more)[: len(space)] - accepted)

        # ---- data: masked, then into the ring
        masks = [Signal(c.cores, name=f"mask{i}", reset_less=True) for i in range(2)]
        m.d.sync += [masks[0].eq(current.mask), masks[1].eq(masks[0])]
        word = c.word * 8
        incoming = Signal(c.row_bytes * 8, reset_less=True)
        write = Signal()
        m.d.sync += [
            incoming.eq(Cat(rd.data.word_select(i, word) & masks[1][i].replicate(word) for i in range(c.cores))),
            write.eq(rd.data_valid),
        ]
        m.d.comb += self.arrived.eq(rd.data_valid)
        place = Signal(range(rows))
        with m.If(write):
            m.d.sync += place.eq(place + 1)
        m.submodules.ring = ring = block(Ram(c.row_bytes * 8, rows), f"vf_ram_{c.row_bytes * 8}x{rows}")
        m.d.comb += [
            ring.write_enable.eq(write),
            ring.write_addr.eq(place),
            ring.write_data.eq(incoming),
            ring.read_enable.eq(1),
            ring.read_addr.eq(self.use_addr),
            self.use_data.eq(ring.read_data),
        ]
        return m

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
