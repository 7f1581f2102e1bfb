"""Writes an engine's finished tiles where its instructions want them, and reports rows."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..engines.group_fetch import is_last, op_queue
from ..interfaces import DEST_BUFFER, DEST_KSUM, DEST_Z, POST_OP, BufferWrite, KsumWrite, WeightWrite
from ..units.copies import copies
from .op import following, op_part

_BUFFER = ("tiles", "rows", "groups", "skip", "out_addr", "out_stride", "out_wide")
_SUMS = ("dest", "one_bank", "bank", "weight_addr")
assert DEST_BUFFER == 0


class RowWriter(wiring.Component):
    """Finished tiles to one row each, or to a low and a high row; with ``sums`` also to one bank, to Z, to Ksum.

    Z: token 0's values of ``width`` tiles, lane e of tile i at byte e * width + i of a weight row. Ksum: token 0's
    values are a word. Both addresses count from weight_addr through the instruction.

    Parameters
    ----------
    config : AcceleratorConfig
    slots : finished tiles that can wait, a power of two
    sums : the engine's instructions have other destinations than whole rows

    Members
    -------
    op_valid, op_ready, op : tiles, rows, groups, skip, out_addr, out_stride, out_wide of an instruction; with ``sums``
        dest, one_bank, bank, weight_addr
    push, low, high : a finished tile (room is guaranteed by credits)
    freed : a tile's place is free again
    wr : activation buffer; z : weight buffer, ksum_wr : Ksum memory (``sums``)
    done : the last write of an instruction's row was accepted in the cycle before

    Latency/throughput: ``push`` to ``wr.valid`` 2 cycles; one write a cycle, one tile of Z a cycle.
    """

    def __init__(self, config: AcceleratorConfig, slots: int, sums: bool = False):
        self._config, self._slots, self._sums = config, slots, sums
        c = config
        self._op = op_part(*_BUFFER, *_SUMS) if sums else op_part(*_BUFFER)
        members = {
            "op_valid": In(1),
            "op_ready": Out(1),
            "op": In(self._op),
            "push": In(1),
            "low": In(c.row_bytes * 8),
            "high": In(c.row_bytes * 8),
            "freed": Out(1),
            "wr": Out(BufferWrite(c)),
            "done": Out(1),
        }
        if sums:
            members["z"] = Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row))
            members["ksum_wr"] = Out(KsumWrite(c))
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        queue, op = op_queue(m, "ops", self._op, registered=True)
        m.d.comb += [queue.w_data.eq(self.op), queue.w_en.eq(self.op_valid), self.op_ready.eq(queue.w_rdy)]

        fill = Signal(range(self._slots))
        use = Signal(range(self._slots))
        count = Signal(range(self._slots + 1))
        planes = []
        for name, value in (("low", self.low), ("high", self.high)):
            m.submodules[f"{name}_slots"] = slot = memory.Memory(shape=c.row_bytes * 8, depth=self._slots, init=[])
            write, read = slot.write_port(), slot.read_port(domain="comb")
            m.d.comb += [write.en.eq(self.push), write.addr.eq(fill), write.data.eq(value), read.addr.eq(use)]
            planes.append(read.data)
        with m.If(self.push):
            m.d.sync += fill.eq(fill + 1)

        # ---- a tile (or its plane) leaves
        row, tile, group = (Signal(POST_OP.members[f"{name}s"], name=name) for name in ("row", "tile", "group"))
        plane = Signal()
        fresh = Signal(init=1)  # the present group is the instruction's first
        take = Signal()
        held = Signal()  # the last one is not accepted yet
        ends_tile = Signal()
        ends_group = Signal()
        ends_row = Signal()
        row_last = is_last(row, op.rows)
        group_last = group == op.groups
        m.d.comb += [
            take.eq(count.any() & ~held),
            ends_tile.eq(take & (plane | ~op.out_wide)),
            ends_group.eq(ends_tile & is_last(tile, op.tiles)),
            ends_row.eq(ends_group & group_last),
            queue.r_en.eq(ends_row & row_last),
            self.freed.eq(ends_tile),
        ]
        m.d.sync += count.eq((count + self.push)[: len(count)] - ends_tile)
        with m.If(take):
            m.d.sync += plane.eq(~ends_tile)
        with m.If(ends_tile):
            m.d.sync += [use.eq(use + 1), tile.eq(tile + 1)]
        with m.If(ends_group):
            m.d.sync += [tile.eq(0), group.eq(Mux(group_last, 0, group + 1)), fresh.eq(row_last & group_last)]
        with m.If(ends_row):
            m.d.sync += row.eq(Mux(row_last, 0, row + 1))

        # ---- its address
        base = Signal(16, reset_less=True)
        row_start = Signal(16, reset_less=True)
        addr = Signal(16, reset_less=True)
        start = Signal(16)  # first address of the present group
        row_now = Signal(16)
        now = Signal(16)
        to_buffer = ~op.dest.any() if self._sums else 1
        first = op.out_addr if not self._sums else Mux(to_buffer, op.out_addr, op.weight_addr)
        m.d.comb += [
            start.eq(Mux(fresh, first, base)),
            row_now.eq(Mux(group.any(), row_start, start)),
            now.eq(Mux(~(tile.any() | plane) & (fresh | to_buffer), start, addr)),
        ]
        with m.If(ends_group):
            m.d.sync += [
                base.eq(following(start, row_now, op.out_stride, group_last, op.skip)),
                row_start.eq(row_now),
            ]

        # ---- write
        row_end = Signal(reset_less=True)
        out_addr = Signal(16, reset_less=True)
        out = Signal(c.row_bytes * 8, reset_less=True)
        mask = Signal(c.cores, reset_less=True)
        valid = Signal()
        value = Mux(plane, planes[1], planes[0])
        word = value[: c.word * 8]  # of token 0
        step = 1
        anything = valid
        m.d.comb += [self.wr.valid.eq(valid), self.wr.addr.eq(out_addr), self.wr.data.eq(out)]
        waits = valid & ~self.wr.ready
        if self._sums:
            z_valid = Signal()
            ksum_valid = Signal()
            gather = Signal(c.weight_row_bytes * 8, reset_less=True)
            gathered = Signal(range(c.width))
            to_z = op.dest == DEST_Z
            complete = gathered == c.width - 1
            step = ~to_z | complete
            waits |= z_valid & ~self.z.ready
            anything = valid | z_valid | ksum_valid
            slots = [gather.word_select(lane, c.width * 8) for lane in range(c.lanes)]
            with m.If(take & to_z):
                m.d.sync += [
                    gathered.eq(gathered + 1),
                    gather.eq(Cat(Cat(s[8:], word.word_select(lane, 8)) for lane, s in enumerate(slots))),
                ]
            z_next = Signal()
            m.d.comb += z_next.eq(Mux(held, z_valid, take & to_z & complete))
            m.d.sync += z_valid.eq(z_next)
            with m.If(~held):
                m.d.sync += ksum_valid.eq(take & (op.dest == DEST_KSUM))
            # a column's mark chooses its row: a register of each one's own
            marks = [mark for ((mark,),) in (copies(m, 1, f"z{i}_", z_next) for i in range(c.beats_per_weight_row))]
            m.d.comb += [
                self.z.valid.eq(z_valid),
                self.z.addr.eq(out_addr),
                self.z.data.eq(gather),
                self.z.mask.eq(Cat(marks)),
                self.ksum_wr.valid.eq(ksum_valid),
                self.ksum_wr.addr.eq(out_addr),
                self.ksum_wr.data.eq(out[: c.word * 8]),
                self.wr.mask.eq(mask),
            ]
            value = Mux(op.one_bank, word.replicate(c.cores), value)
            banks = Cat(op.bank == i for i in range(c.cores))
            with m.If(take):
                m.d.sync += mask.eq(banks | (~op.one_bank).replicate(c.cores))
        else:
            m.d.comb += self.wr.mask.eq((1 << c.cores) - 1)
        m.d.comb += held.eq(waits)
        with m.If(~held):
            m.d.sync += [valid.eq(take & to_buffer), out.eq(value)]
        with m.If(take):
            m.d.sync += [addr.eq(now + step), out_addr.eq(now), row_end.eq(ends_row)]
        done = Signal()
        m.d.sync += done.eq(anything & ~held & row_end)
        m.d.comb += self.done.eq(done)
        return m
