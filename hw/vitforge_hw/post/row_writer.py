"""Writes an engine's finished tiles where its instructions want them, and reports rows."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import AcceleratorConfig
from ..engines.group_fetch import last_numbers, op_queue
from ..interfaces import DEST_BUFFER, DEST_KSUM, DEST_Z, POST_OP, BufferWrite, KsumWrite, WeightWrite
from ..units.copies import copies
from ..units.pair import Pair
from .op import following, op_part
from .planes import PARTS, planes

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
    freed : a tile's place is free again, since a cycle
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
        m.d.comb += [
            queue.w_data.eq(last_numbers(self.op, "tiles", "rows")),
            queue.w_en.eq(self.op_valid),
            self.op_ready.eq(queue.w_rdy),
        ]

        # ---- a tile (or its plane) gets its place; two may wait, so that nothing here depends on the memories
        place = {"addr": 16, "ends_tile": 1, "ends_row": 1}
        if self._sums:
            place |= {"to_buffer": 1, "dest": len(op.dest), "piece": range(c.width), "one_bank": 1, "mask": c.cores}
        place = data.StructLayout(place)
        m.submodules.places = places = Pair(place.size)
        row, tile, group = (Signal(POST_OP.members[f"{name}s"], name=name) for name in ("row", "tile", "group"))
        plane = Signal()
        fresh = Signal(init=1)  # the present group is the instruction's first
        take = Signal()
        names = ("plane", "tile", "group", "row")
        last_plane, last_tile, last_group, last_row = (Signal(name=f"last_{n}") for n in names)
        ends_tile = Signal()
        ends_group = Signal()
        ends_row = Signal()
        row_last = row == op.rows
        group_last = group == op.groups
        m.d.comb += [
            last_plane.eq(plane | ~op.out_wide),
            last_tile.eq(last_plane & (tile == op.tiles)),
            last_group.eq(last_tile & group_last),
            last_row.eq(last_group & row_last),
            ends_tile.eq(take & last_plane),
            ends_group.eq(take & last_tile),
            ends_row.eq(take & last_group),
            queue.r_en.eq(take & last_row),
        ]
        # a tile waits and there is room for its place: known a cycle ahead
        count = Signal(range(self._slots + 1))
        pushed = (count + self.push)[: len(count)]
        m.d.sync += [
            count.eq(pushed - ends_tile),
            take.eq(Mux(ends_tile, pushed[1:].any(), pushed.any()) & places.w_next),
        ]
        with m.If(take):
            m.d.sync += plane.eq(~ends_tile)
        with m.If(ends_tile):
            m.d.sync += tile.eq(tile + 1)
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

        step = 1
        new, leaving = Signal(place), data.View(place, places.r_data)
        if self._sums:
            to_z = op.dest == DEST_Z
            piece = Signal(range(c.width))
            step = ~to_z | (piece == c.width - 1)
            with m.If(take & to_z):
                m.d.sync += piece.eq(piece + 1)
            banks = Cat(op.bank == i for i in range(c.cores))
            m.d.comb += [
                new.to_buffer.eq(to_buffer),
                new.dest.eq(op.dest),
                new.piece.eq(piece),
                new.one_bank.eq(op.one_bank),
                new.mask.eq(banks | (~op.one_bank).replicate(c.cores)),
            ]
        with m.If(take):
            m.d.sync += addr.eq(now + step)
        m.d.comb += [
            new.addr.eq(now),
            new.ends_tile.eq(ends_tile),
            new.ends_row.eq(ends_row),
            places.w_en.eq(take),
            places.w_data.eq(new),
        ]

        # ---- it leaves
        leaves, freed, next_plane, plane_now = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            places.r_en.eq(leaves),
            freed.eq(leaves & leaving.ends_tile),
            next_plane.eq(Mux(leaves, ~leaving.ends_tile, plane_now)),
        ]
        m.d.sync += [plane_now.eq(next_plane), self.freed.eq(freed)]
        rows = {"low": (self.push, self.low), "high": (self.push, self.high)}
        parts = zip(*planes(m, "slots", self._slots, rows, self.push, freed), strict=True)
        chosen = copies(m, PARTS, "plane", next_plane)
        value = Cat(Mux(plane, high, low) for (plane,), (low, high) in zip(chosen, parts, strict=True))
        done = Signal()
        accepted = self.wr.valid & self.wr.ready
        m.d.comb += [self.wr.addr.eq(leaving.addr), self.done.eq(done)]
        if self._sums:
            word = value[: c.word * 8]  # of token 0
            m.d.comb += [
                self.wr.mask.eq(leaving.mask),
                self.wr.data.eq(Mux(leaving.one_bank, word.replicate(c.cores), value)),
            ]
            ends = self._elsewhere(m, places.r_rdy, leaving, word, accepted, leaves)
        else:
            m.d.comb += [
                self.wr.valid.eq(places.r_rdy),
                self.wr.mask.eq((1 << c.cores) - 1),
                self.wr.data.eq(value),
                leaves.eq(accepted),
            ]
            ends = accepted & leaving.ends_row
        m.d.sync += done.eq(ends)
        return m

    def _elsewhere(self, m, there, leaving, word, accepted, leaves):
        """Buffer, Z and Ksum one behind the other; a row ends."""
        c = self._config
        gather = Signal(c.weight_row_bytes * 8, reset_less=True)
        addr = Signal(16, reset_less=True)
        row_end = Signal(reset_less=True)
        valid, next_valid, gathers = Signal(name="z_valid"), Signal(name="z_next"), Signal()
        m.d.comb += [
            self.wr.valid.eq(there & leaving.to_buffer & ~valid),
            gathers.eq(there & (leaving.dest == DEST_Z) & (~valid | self.z.ready)),
            self.ksum_wr.valid.eq(there & (leaving.dest == DEST_KSUM) & ~valid),
            leaves.eq(accepted | gathers | self.ksum_wr.valid),
            next_valid.eq(gathers & (leaving.piece == c.width - 1) | valid & ~self.z.ready),
        ]
        m.d.sync += valid.eq(next_valid)
        with m.If(gathers):
            m.d.sync += [addr.eq(leaving.addr), row_end.eq(leaving.ends_row)]
            with m.Switch(leaving.piece):
                for i in range(c.width):
                    with m.Case(i):
                        m.d.sync += [
                            gather.word_select(lane * c.width + i, 8).eq(word.word_select(lane, 8))
                            for lane in range(c.lanes)
                        ]
        # a column's mark chooses its row: a register of each one's own
        marks = [mark for ((mark,),) in (copies(m, 1, f"z{i}_", next_valid) for i in range(c.beats_per_weight_row))]
        m.d.comb += [
            self.z.valid.eq(valid),
            self.z.addr.eq(addr),
            self.z.data.eq(gather),
            self.z.mask.eq(Cat(marks)),
            self.ksum_wr.addr.eq(leaving.addr),
            self.ksum_wr.data.eq(word),
        ]
        return (accepted | self.ksum_wr.valid) & leaving.ends_row | valid & self.z.ready & row_end
