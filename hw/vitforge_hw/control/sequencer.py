"""The in-order instruction queue of one chunk: fetch, waits, progress counter."""

from amaranth import Array, Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..interfaces import ChunkControl, fields_layout
from ..units.booth import multiply
from .program import INSTRUCTION_BITS, InstructionFetch


class Sequencer(wiring.Component):
    """Runs a chunk's program once per queued image.

    Parameters
    ----------
    chunk : which chunk's op fields are decoded
    w4 : ... with the field that a configuration with w4 has
    fetch_bits : of an instruction that come at once from the program memory

    Members
    -------
    run : program loaded and enabled
    start, count : the chunk's instructions (from the program header)
    submitted : images queued since enable, modulo 2^16
    counters : progress counters of all chunks, 32 bits each, in the order of isa.Chunk
    fetch : program memory
    ctl : the chunk
    counter : this chunk's progress counter
    image_end : one cycle high when an image's program is complete
    busy, stalled : a row is in the chunk; a row waits for a counter
    waiting : number of the wait that a stalled row waits for; WAITS (6) where none does
    running : inside an image's program

    Latency: three cycles per wait of a row when satisfied, plus two per row; all hidden while the chunk works on the
    previous row.
    """

    def __init__(self, chunk: isa.Chunk, w4: bool = False, fetch_bits: int = INSTRUCTION_BITS):
        self._chunk, self._fetch_bits = chunk, fetch_bits
        super().__init__(
            {
                "run": In(1),
                "start": In(16),
                "count": In(16),
                "submitted": In(16),
                "counters": In(32 * len(isa.Chunk)),
                "fetch": Out(InstructionFetch(fetch_bits)),
                "ctl": Out(ChunkControl(chunk, w4)),
                "counter": Out(32),
                "image_end": Out(1),
                "busy": Out(1),
                "stalled": Out(1),
                "waiting": Out(range(isa.WAITS + 1), init=isa.WAITS),
                "running": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ctl = self.ctl
        wait_layout = fields_layout(isa.WAIT_FIELDS)
        image, rows_done, rows_started = Signal(16), Signal(16), Signal(16)
        m.d.comb += [self.counter[:16].eq(rows_done), self.counter[16:].eq(image)]

        # ---- fetch one instruction ahead
        running = self.running
        fetched, issued = Signal(16), Signal(16)
        ahead = Signal(INSTRUCTION_BITS, reset_less=True)
        ahead_valid = Signal()
        m.d.comb += [
            self.fetch.valid.eq(running & ~ahead_valid & (fetched != self.count)),
            self.fetch.index.eq(self.start + fetched),
        ]
        arrives = self.fetch.done if self._fetch_bits == INSTRUCTION_BITS else self.fetch.part
        with m.If(arrives):
            m.d.sync += ahead.eq(Cat(ahead[self._fetch_bits :], self.fetch.data))
        with m.If(self.fetch.done):
            m.d.sync += [ahead_valid.eq(1), fetched.eq(fetched + 1)]

        # ---- the present instruction's waits
        waits = Signal(data.ArrayLayout(wait_layout, isa.WAITS), reset_less=True)
        rows = Signal(isa.ROWS_FIELD.bits, reset_less=True)
        row = Signal(isa.ROWS_FIELD.bits + 1, reset_less=True)  # number of the row, from 1
        number = Signal(range(isa.WAITS + 1), reset_less=True)
        # the wait of `number`, chosen a cycle ahead: it feeds a multiplier, a shifter and the choice of a counter
        wait = Signal(wait_layout, reset_less=True)
        final = Signal(reset_less=True)  # row == rows, a cycle later: row changes two cycles before GO at the latest
        m.d.sync += final.eq(row == rows)
        first, following = waits[0], Array([*(waits[i].as_value() for i in range(1, isa.WAITS)), 0])[number]
        slope = Signal(signed(18), reset_less=True)
        threshold = Signal(32, reset_less=True)
        counter = Signal(32, reset_less=True)
        margin = Signal(32)
        m.d.comb += margin.eq(counter - threshold)
        capped = Signal(signed(18))
        shifted = Signal(signed(18))
        cap = Signal(signed(13))
        m.d.comb += [
            shifted.eq(slope >> wait.s),
            cap.eq(wait.cap),
            capped.eq(shifted),
        ]
        with m.If(shifted > cap):
            m.d.comb += capped.eq(cap)
        counters = Array(self.counters.word_select(i, 32) for i in range(len(isa.Chunk)))

        m.d.comb += ctl.op.payload.as_value().eq(ahead[isa.WAITS * isa.WAIT_BITS :])
        sloped = multiply(m, row, wait.a, 0, "sloped")  # two adders; a DSP block would be the slowest part of its path
        going = Signal()  # in GO, as a register of its own: what begins with a row begins here
        m.d.comb += [ctl.go.valid.eq(going), ctl.go.payload.eq(final)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.run & (self.submitted != image)):
                    m.d.sync += [running.eq(1), fetched.eq(0), issued.eq(0)]
                    m.next = "ISSUE"
            with m.State("ISSUE"):
                m.d.comb += ctl.op.valid.eq(ahead_valid)
                with m.If(issued == self.count):
                    m.next = "DRAIN"
                with m.Elif(ahead_valid & ctl.op.ready):
                    m.d.sync += [
                        waits.eq(ahead[: isa.WAITS * isa.WAIT_BITS]),
                        wait.eq(ahead[: isa.WAIT_BITS]),
                        rows.eq(ctl.op.payload.rows),
                        row.eq(1),
                        number.eq(0),
                        ahead_valid.eq(0),
                        issued.eq(issued + 1),
                    ]
                    m.next = "SLOPE"
            with m.State("SLOPE"):
                m.d.sync += slope.eq(sloped + wait.b)
                with m.If(wait.enable):
                    m.next = "THRESHOLD"
                with m.Else():  # enabled waits come first
                    m.d.sync += going.eq(1)
                    m.next = "GO"
            with m.State("THRESHOLD"):
                m.d.sync += [
                    threshold.eq((image << isa.IMAGE_SHIFT) + wait.base + capped),
                    counter.eq(counters[wait.src]),
                ]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += counter.eq(counters[wait.src])
                with m.If(~margin[-1]):
                    m.d.sync += [number.eq(number + 1), wait.eq(following)]
                    m.next = "SLOPE"
                with m.Else():
                    m.d.comb += [self.stalled.eq(1), self.waiting.eq(number)]
            with m.State("GO"):
                with m.If(ctl.go.ready):
                    m.d.sync += [row.eq(row + 1), number.eq(0), wait.eq(first), rows_started.eq(rows_started + 1)]
                    m.d.sync += going.eq(0)
                    m.next = "SLOPE"
                    with m.If(final):
                        m.next = "ISSUE"
            with m.State("DRAIN"):
                with m.If(rows_started == rows_done):
                    m.d.comb += self.image_end.eq(1)
                    m.d.sync += [running.eq(0), image.eq(image + 1), rows_started.eq(0)]
                    m.next = "IDLE"

        m.d.comb += self.busy.eq(rows_started != rows_done)
        with m.If(self.image_end):
            m.d.sync += rows_done.eq(0)
        with m.Elif(ctl.done):
            m.d.sync += rows_done.eq(rows_done + 1)
        return m
