"""DMA chunks: weights and parameters in, images in, results out."""

from amaranth import Array, Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.checksum import BITS
from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import BufferRead, BufferWrite, ChunkControl, WeightWrite, op_layout
from ..units.pair import Pair
from .axi import DATA_BITS, WRITE_BURST, burst_limit
from .column import Column
from .read_engine import BEATS_BITS, REQUEST, REQUEST_DEPTH, beat_layout
from .signature import Signature

DEST_PROGRAM = 3  #: the program memory, at boot; instructions use isa.DEST_*


def _accept_op(m: Module, ctl, op: Signal) -> tuple[Signal, Signal]:
    """Hold one instruction in ``op`` until its last row has started: (held, row starts in this cycle)."""
    held, start = Signal(), Signal()
    m.d.comb += [ctl.op.ready.eq(~held), start.eq(ctl.go.valid & ctl.go.ready)]
    with m.If(ctl.op.valid & ctl.op.ready):
        m.d.sync += [op.eq(ctl.op.payload), held.eq(1)]
    with m.Elif(start & ctl.go.payload):
        m.d.sync += held.eq(0)
    return held, start


def _check(m: Module, dma, config: AcceleratorConfig, accepted, ends, checksum, skip=0) -> Signal:
    """Signature over the accepted beats up to ``ends``; returned: a cycle later, it is not ``checksum``."""
    m.submodules.signature = signature = Signature(config.beat_bytes * 8)
    first, ended, skipped, wanted = Signal(init=1), Signal(), Signal(), Signal(BITS)
    with m.If(accepted):
        m.d.sync += first.eq(ends)
    m.d.sync += [ended.eq(ends), skipped.eq(skip), wanted.eq(checksum)]
    m.d.comb += [
        signature.valid.eq(accepted),
        signature.data.eq(dma.beat.payload.data),
        signature.first.eq(first),
    ]
    return ended & ~skipped & (signature.value != wanted)


class WeightDma(wiring.Component):
    """Pieces of the memory image to weight buffer and parameter memories; at boot the program.

    A row is one piece. Up to REQUEST_DEPTH pieces are requested ahead of the data, so that the latency of DRAM shows
    only in front of the first one. With ``rows`` > 1 the pieces follow each other in source and destination.

    Parameters
    ----------
    config : row and beat sizes

    Members
    -------
    reset : In(1)
    ctl : In(ChunkControl(WEIGHT_DMA)); ``done`` one cycle after a piece's last write was accepted
    boot : In(stream(20)), load that many beats from beat 0 into the program memory; only while no instruction runs
    boot_done : Out(1), one cycle when the program is written
    damaged : Out(1), one cycle, with the last ``done`` of an instruction, or with ``boot_done``: its data, or the
        program, do not have the signature that they should have
    base : In(64), the memory image
    request, beat : to and from the read engine's queue 0
    weights : Out(WeightWrite), whole rows: beat i of a piece goes to row dest_addr + i // beats_per_weight_row, column
        i % beats_per_weight_row
    params, ln_params, program : Out(WeightWrite) of one beat; beat i goes to address dest_addr + i
    busy : Out(1), pieces are under way

    Latency: go to request 0 cycles, last beat of a row to write 1 cycle; throughput: one beat a cycle, no gap between
    pieces, also where a row waits for every second cycle of its memory.
    Reference: isa.OP_FIELDS[WEIGHT_DMA].
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        beat_bits = c.beat_bytes * 8
        super().__init__(
            {
                "reset": In(1),
                "ctl": In(ChunkControl(isa.Chunk.WEIGHT_DMA)),
                "boot": In(stream.Signature(BEATS_BITS)),
                "boot_done": Out(1),
                "damaged": Out(1),
                "base": In(64),
                "request": Out(stream.Signature(REQUEST)),
                "beat": In(stream.Signature(beat_layout(c))),
                "weights": Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row)),
                "params": Out(WeightWrite(beat_bits, 1)),
                "ln_params": Out(WeightWrite(beat_bits, 1)),
                "program": Out(WeightWrite(beat_bits, 1)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        op = Signal(op_layout(isa.Chunk.WEIGHT_DMA))
        held, start = _accept_op(m, self.ctl, op)
        columns = c.beats_per_weight_row

        # ---- requests and where their data go
        target = data.StructLayout({"addr": 16, "dest": 2, "ends": 1, "checksum": BITS})
        m.submodules.targets = targets = SyncFIFO(width=target.size, depth=REQUEST_DEPTH)
        new, payload = Signal(target), self.request.payload
        m.d.comb += [
            payload.base.eq(self.base),
            self.request.valid.eq((self.boot.valid | (self.ctl.go.valid & held)) & targets.w_rdy),
            self.boot.ready.eq(self.request.ready & targets.w_rdy),
            self.ctl.go.ready.eq(held & ~self.boot.valid & self.request.ready & targets.w_rdy),
            targets.w_en.eq(self.request.valid & self.request.ready),
            targets.w_data.eq(new.as_value()),
        ]
        with m.If(self.boot.valid):
            m.d.comb += [payload.beat.eq(0), payload.beats.eq(self.boot.payload), new.addr.eq(0)]
            m.d.comb += [new.dest.eq(DEST_PROGRAM), new.ends.eq(1)]  # and checksum 0
        with m.Else():
            m.d.comb += [payload.beat.eq(op.source), payload.beats.eq(op.beats), new.addr.eq(op.dest_addr)]
            m.d.comb += [new.dest.eq(op.dest), new.ends.eq(self.ctl.go.payload), new.checksum.eq(op.checksum)]
        with m.If(start):  # the next row's piece follows
            m.d.sync += op.source.eq(op.source + op.beats)
            whole_rows = op.beats >> (columns.bit_length() - 1)
            m.d.sync += op.dest_addr.eq(op.dest_addr + Mux(op.dest == isa.DEST_WEIGHTS, whole_rows, op.beats))

        # ---- gather beats, the newest enters at the top: whole rows of the weight buffer, single beats of the others
        now, active = Signal(target), Signal()
        column = Signal(range(max(columns, 2)))
        is_row, ends, written, accepted = Signal(), Signal(), Signal(), Signal()
        full = Signal()  # a row waits for its memory
        at = Signal(data.StructLayout({"addr": 16, "dest": 2, "last": 1, "ends": 1}))
        m.d.comb += [
            is_row.eq((now.dest != isa.DEST_WEIGHTS) | (column == columns - 1) | self.beat.payload.last),
            self.beat.ready.eq(active & (~is_row | ~full | written)),
            accepted.eq(self.beat.valid & self.beat.ready),
            ends.eq(self.beat.payload.last & now.ends),
            targets.r_en.eq(~active | (accepted & self.beat.payload.last)),
        ]
        with m.If(written):
            m.d.sync += full.eq(0)
        with m.If(accepted):
            with m.If(is_row):
                m.d.sync += [full.eq(1), column.eq(0), now.addr.eq(now.addr + 1)]
                m.d.sync += [at.addr.eq(now.addr), at.dest.eq(now.dest), at.last.eq(self.beat.payload.last)]
                m.d.sync += at.ends.eq(ends)
            with m.Else():
                m.d.sync += column.eq(column + 1)
        with m.If(targets.r_en):
            m.d.sync += [now.as_value().eq(targets.r_data), active.eq(targets.r_rdy), column.eq(0)]

        enters, row = self.beat.payload.data, []
        for i in reversed(range(columns)):
            last = i == columns - 1
            made = block(Column(c.beat_bytes * 8, last), f"vf_row_column_{c.beat_bytes * 8}" + "_last" * last)
            m.submodules[f"column{i}"] = made
            m.d.comb += [
                made.enters.eq(enters),
                made.valid.eq(self.beat.valid & active),
                made.is_row.eq(is_row),
                made.free.eq(~full | written),
            ]
            enters, row = made.whole, [made.row, *row]
        row = Cat(*row)

        # ---- writes
        ports = (self.weights, self.params, self.ln_params, self.program)
        for dest, port in enumerate(ports):
            m.d.comb += [
                port.valid.eq(full & (at.dest == dest)),
                port.addr.eq(at.addr),
                port.data.eq(row[-len(port.data) :]),
                port.mask.eq(~0),
            ]
        m.d.comb += written.eq(Cat(port.valid & port.ready for port in ports).any())
        wrong, found = _check(m, self, c, accepted, accepted & ends, now.checksum), Signal()
        m.d.sync += [
            self.ctl.done.eq(written & at.last & (at.dest != DEST_PROGRAM)),
            self.boot_done.eq(written & at.last & (at.dest == DEST_PROGRAM)),
            found.eq((found | wrong) & ~written),
            self.damaged.eq((found | wrong) & written & at.ends),
        ]
        m.d.comb += self.busy.eq(active | targets.r_rdy | full | self.ctl.done | self.boot_done)
        return ResetInserter(self.reset)(m)


class ImageDma(wiring.Component):
    """Images and constant tensors to the activation buffer: ``beats`` beats a row (group), whole buffer rows.

    Beats are gathered until a buffer row is complete, which is then written once with every bank's mask bit set. In
    DRAM a row is padded to ``beats_per_row`` whole beats; the padding is dropped.

    Parameters
    ----------
    config : row and beat sizes

    Members
    -------
    reset : In(1)
    ctl : In(ChunkControl(IMAGE_DMA)); row r reads ``beats`` (whole buffer rows) from source + r * beats and
        fills the rows behind those of row r - 1; ``done`` one cycle after the row's last buffer write was accepted
    base, job_base : In(64), the memory image and the present job's image; read while a row starts
    request, beat : to and from the read engine's queue 1
    image_wr : Out(BufferWrite)
    damaged : Out(1), one cycle after the last beat of an instruction: a constant does not have its signature
    busy : Out(1), rows are under way

    Latency: go to request 0 cycles, last beat to write 1 cycle; throughput: one beat a cycle.
    Reference: isa.OP_FIELDS[IMAGE_DMA].
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "reset": In(1),
                "ctl": In(ChunkControl(isa.Chunk.IMAGE_DMA)),
                "base": In(64),
                "job_base": In(64),
                "request": Out(stream.Signature(REQUEST)),
                "beat": In(stream.Signature(beat_layout(config))),
                "image_wr": Out(BufferWrite(config)),
                "damaged": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        op = Signal(op_layout(isa.Chunk.IMAGE_DMA))
        held, start = _accept_op(m, self.ctl, op)
        per_row = c.beats_per_row

        # ---- requests and the first buffer row of each instruction: later rows follow
        target = data.StructLayout({"addr": 16, "first": 1, "ends": 1, "job": 1, "checksum": BITS})
        m.submodules.targets = targets = SyncFIFO(width=target.size, depth=REQUEST_DEPTH)
        new, now = Signal(target), data.View(target, targets.r_data)
        first = Signal(init=1)
        payload = self.request.payload
        m.d.comb += [
            payload.base.eq(Mux(op.job, self.job_base, self.base)),
            payload.beat.eq(op.source),
            payload.beats.eq(op.beats),
            self.request.valid.eq(self.ctl.go.valid & held & targets.w_rdy),
            self.ctl.go.ready.eq(held & self.request.ready & targets.w_rdy),
            targets.w_en.eq(start),
            targets.w_data.eq(new.as_value()),
            new.addr.eq(op.out_addr),
            new.first.eq(first),
            new.ends.eq(self.ctl.go.payload),
            new.job.eq(op.job),
            new.checksum.eq(op.checksum),
        ]
        with m.If(start):
            m.d.sync += [op.source.eq(op.source + op.beats), first.eq(self.ctl.go.payload)]

        # ---- gather beats: the newest enters at the top
        addr, active = Signal(16), Signal()
        present = Signal(target)  # what the arriving beats belong to
        column = Signal(range(max(per_row, 2)))
        write, accepted = self.image_wr, Signal()
        row = Signal((per_row - 1) * c.beat_bytes * 8)
        complete = Cat(row, self.beat.payload.data)
        # whole rows; a beat is taken whatever the buffer's arbitration says in the cycle
        place = data.StructLayout({"addr": 16, "last": 1})
        m.submodules.rows = rows = SyncFIFO(width=len(write.data), depth=2)
        m.submodules.places = places = Pair(place.size)  # control in registers: the row's select has many loads
        new, out = Signal(place), data.View(place, places.r_data)
        m.d.comb += [
            self.beat.ready.eq(active & places.w_rdy),
            accepted.eq(self.beat.valid & self.beat.ready),
            targets.r_en.eq(~active | (accepted & self.beat.payload.last)),
            new.addr.eq(addr),
            new.last.eq(self.beat.payload.last),
            rows.w_data.eq(complete[: len(write.data)]),
            places.w_data.eq(new.as_value()),
            *(queue.w_en.eq(accepted & (column == per_row - 1)) for queue in (rows, places)),
            write.valid.eq(places.r_rdy),
            write.mask.eq(~0),
            write.data.eq(rows.r_data),
            write.addr.eq(out.addr),
            *(queue.r_en.eq(write.ready) for queue in (rows, places)),
        ]
        with m.If(accepted):
            if per_row > 1:
                m.d.sync += row.eq(complete[c.beat_bytes * 8 :])
            with m.If(column == per_row - 1):
                m.d.sync += [column.eq(0), addr.eq(addr + 1)]
            with m.Else():
                m.d.sync += column.eq(column + 1)
        with m.If(targets.r_en):
            m.d.sync += [active.eq(targets.r_rdy), present.as_value().eq(targets.r_data)]
            with m.If(targets.r_rdy & now.first):
                m.d.sync += addr.eq(now.addr)
        ends = accepted & self.beat.payload.last & present.ends
        m.d.comb += self.damaged.eq(_check(m, self, c, accepted, ends, present.checksum, present.job))
        m.d.sync += self.ctl.done.eq(write.valid & write.ready & out.last)
        m.d.comb += self.busy.eq(active | targets.r_rdy | write.valid | self.ctl.done)
        return ResetInserter(self.reset)(m)


class ResultDma(wiring.Component):
    """The words of bank ``bank`` of ``count`` buffer rows to DRAM, packed to 16 bytes (an odd 8-byte word: zeros).

    Parameters
    ----------
    config : word and row sizes, longest burst

    Members
    -------
    reset : In(1)
    ctl : In(ChunkControl(RESULT_DMA)); ``done`` when all write responses of the row have come. With ``rows`` > 1 the
        buffer rows and the 16-byte units follow each other
    base : In(64), the present job's result; read while bursts are issued
    result_rd : Out(BufferRead)
    burst, beat : to the write master; a burst is issued when all its beats wait in the FIFO
    written : In(1), a burst's response has come
    busy : Out(1), a row is under way

    Latency: row asked for to beat 4 cycles; bursts of up to 16 beats, one at a time.
    Reference: isa.OP_FIELDS[RESULT_DMA].
    """

    FIFO_BEATS = 32

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "reset": In(1),
                "ctl": In(ChunkControl(isa.Chunk.RESULT_DMA)),
                "base": In(64),
                "result_rd": Out(BufferRead(config)),
                "burst": Out(stream.Signature(WRITE_BURST)),
                "beat": Out(stream.Signature(DATA_BITS)),
                "written": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        op = Signal(op_layout(isa.Chunk.RESULT_DMA))
        held, start = _accept_op(m, self.ctl, op)
        word = c.word * 8
        per_beat = DATA_BITS // word
        limit = burst_limit(c)
        active = Signal()
        m.d.comb += self.ctl.go.ready.eq(held & ~active)

        # ---- read rows while the FIFO has room for their words
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=DATA_BITS, depth=self.FIFO_BEATS)
        read = self.result_rd
        addr, reads_left, words_left = Signal(16), Signal(13), Signal(13)
        room = Signal(range(self.FIFO_BEATS * per_beat + 1))  # words
        popped = fifo.r_rdy & fifo.r_en
        m.submodules.requests = requests = Pair(len(addr))  # nothing here depends on the buffer's arbitration
        asks = Signal()
        m.d.comb += [
            asks.eq(active & reads_left.any() & room.any() & requests.w_rdy),
            requests.w_en.eq(asks),
            requests.w_data.eq(addr),
            read.valid.eq(requests.r_rdy),
            read.addr.eq(requests.r_data),
            requests.r_en.eq(read.ready),
        ]
        with m.If(asks):
            m.d.sync += [addr.eq(addr + 1), reads_left.eq(reads_left - 1)]
        m.d.sync += room.eq(room - asks + Mux(popped, per_beat, 0))

        # ---- pack one word (16 bytes) or two words of 8 bytes; a last lower word goes out with zeros above
        lower = Signal(DATA_BITS // 2)
        part = Signal(range(max(per_beat, 2)))
        banks = [read.data.word_select(b, word) for b in range(c.cores)]
        bank, arrived = Signal(4), Signal(word)
        m.d.comb += arrived.eq(Array(banks)[bank])
        complete = Signal()
        packed = arrived if per_beat == 1 else Mux(part, Cat(lower, arrived), arrived)
        m.d.comb += [
            complete.eq((part == per_beat - 1) | (words_left == 1)),
            fifo.w_data.eq(packed),
            fifo.w_en.eq(read.data_valid & active & complete),
        ]
        with m.If(read.data_valid & active):
            m.d.sync += [words_left.eq(words_left - 1), part.eq(Mux(complete, 0, part + 1))]
            m.d.sync += lower.eq(arrived[: DATA_BITS // 2])

        # ---- bursts: aligned to runs of 256 bytes, so never across 4 KiB
        unit, units_left = Signal(20), Signal(13)
        to_end, length = Signal(5), Signal(5)
        waiting, offered = Signal(), Signal()  # offered: the FIFO holds the burst, a cycle later
        m.d.comb += [
            to_end.eq(limit - (unit & (limit - 1))),
            length.eq(Mux(units_left < to_end, units_left[:5], to_end)),
            self.burst.payload.addr.eq(self.base + (unit << 4)),
            self.burst.payload.len.eq(length - 1),
            self.burst.valid.eq(offered),
            self.beat.payload.eq(fifo.r_data),
            self.beat.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.beat.ready),
        ]
        m.d.sync += offered.eq(active & ~waiting & units_left.any() & (fifo.level >= length))
        with m.If(self.burst.valid & self.burst.ready):
            m.d.sync += [unit.eq(unit + length), units_left.eq(units_left - length), waiting.eq(1), offered.eq(0)]
        with m.If(self.written):
            m.d.sync += waiting.eq(0)
        ended = Signal()
        m.d.comb += ended.eq(active & self.written & ~units_left.any())
        m.d.sync += self.ctl.done.eq(ended)

        with m.If(start):
            units = (op.count + (per_beat - 1)) >> (per_beat.bit_length() - 1)
            m.d.sync += [
                active.eq(1),
                addr.eq(op.in_addr),
                reads_left.eq(op.count),
                words_left.eq(op.count),
                bank.eq(op.bank),
                unit.eq(op.offset),
                units_left.eq(units),
                room.eq(self.FIFO_BEATS * per_beat),
                part.eq(0),
                op.in_addr.eq(op.in_addr + op.count),
                op.offset.eq(op.offset + units),
            ]
        with m.If(ended):
            m.d.sync += active.eq(0)
        m.d.comb += self.busy.eq(active | self.ctl.done)
        return ResetInserter(self.reset)(m)
