"""Enable, program load, stop, drain, reset: the life of the machine."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch import isa
from ..arch.build_hash import build_hash
from ..arch.config import AcceleratorConfig
from ..arch.memmap import BASE_ALIGNMENT
from ..interfaces import fields_layout
from .read_engine import BEATS_BITS

RESET_CYCLES = 8  #: longer than any on-chip read is under way


def header_members() -> dict:
    """Start and count of each chunk's instructions, named as in isa.HEADER_FIELDS."""
    return {f.name: Out(f.bits) for f in isa.HEADER_FIELDS if f.name.endswith(("_start", "_count"))}


class Boot(wiring.Component):
    """Loads the program when enabled, lets jobs run, and takes the machine down without breaking AXI transfers.

    Enabling takes over base and length of the program, loads it, and checks magic, hashes, checksum, and that every
    chunk's instructions lie within what was loaded (a truncated program does not run), an absent chunk having none.
    Clearing enable, or soft reset, stops new bursts, waits until everything outstanding has come back, and holds
    ``core_reset`` for RESET_CYCLES.

    Parameters
    ----------
    config : hash, size of the program memory

    Members
    -------
    enable, soft_reset : In(1), control register
    program_base, program_beats : In(64), In(32), registers; base : Out(64), as it was when enabled
    load : Out(stream(20)), to the weight DMA; loaded : In(1), its pulse; damaged : In(1), with it: wrong checksum
    program_valid, program_addr, program_data : In, the program memory's accepted writes (the header is taken from them)
    read_error : In(1), pulse; a program that was loaded with one does not run
    idle : In(1), no AXI transfer is outstanding
    stop : Out(1), start no further AXI burst
    stopping : Out(1), the machine was told to stop and is not down yet: a job that enters now would be dropped
    core_reset : Out(1), reset of sequencers, chunks, buffers' control, FIFOs and job queue
    clear : Out(1), one cycle at the end of a soft reset: clear enable, soft_reset, errors, counters
    started : Out(1), one cycle when enabled: clear the counters
    bad_program, bad_build, bad_checksum, misaligned : Out(1), one cycle: the program is refused
    run : Out(1), program loaded and enabled
    booting : Out(1), the program is being loaded
    <chunk>_start, <chunk>_count : Out(16), from the header

    Latency: drained to reset 1 cycle, RESET_CYCLES cycles of reset.
    Reference: isa.HEADER_FIELDS.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "enable": In(1),
                "soft_reset": In(1),
                "program_base": In(64),
                "program_beats": In(32),
                "base": Out(64),
                "load": Out(stream.Signature(BEATS_BITS)),
                "loaded": In(1),
                "damaged": In(1),
                "program_valid": In(1),
                "program_addr": In(16),
                "program_data": In(config.beat_bytes * 8),
                "read_error": In(1),
                "idle": In(1),
                "stop": Out(1),
                "stopping": Out(1),
                "core_reset": Out(1),
                "clear": Out(1),
                "started": Out(1),
                "bad_program": Out(1),
                "bad_build": Out(1),
                "bad_checksum": Out(1),
                "misaligned": Out(1),
                "run": Out(1),
                "booting": Out(1),
            }
            | header_members()
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        header = Signal(fields_layout(isa.HEADER_FIELDS))
        raw = header.as_value()
        beat = c.beat_bytes * 8
        for i in range(c.instruction_beats):
            with m.If(self.program_valid & (self.program_addr == i)):
                low, high = i * beat, min((i + 1) * beat, len(raw))
                if low < high:
                    m.d.sync += raw[low:high].eq(self.program_data[: high - low])
        for name in header_members():
            m.d.comb += getattr(self, name).eq(getattr(header, name))

        # every chunk's instructions lie in what was loaded, an absent chunk has none; registered, as the header is
        # complete before CHECK
        complete = Signal()
        beats = Signal(32)  # as base
        instructions = beats >> exact_log2(c.instruction_beats)
        fits = []
        for chunk in isa.Chunk:
            start, count = (getattr(self, f"{chunk.name.lower()}_{what}") for what in ("start", "count"))
            fits.append(start + count <= instructions if chunk in c.chunks else count == 0)
        m.d.sync += complete.eq(Cat(fits).all())

        broken, damaged = Signal(), Signal()
        with m.If(self.read_error):
            m.d.sync += broken.eq(1)
        leave, stop, reset = Signal(), Signal(), Signal()
        was_off = Signal(init=1)
        settled = Signal(2)  # cycles of ``stop``
        m.d.sync += [self.stop.eq(stop), self.core_reset.eq(reset), settled.eq(Cat(stop, settled[:1]))]
        count = Signal(range(RESET_CYCLES))
        m.d.comb += [leave.eq(self.soft_reset | ~self.enable), self.load.payload.eq(beats[:BEATS_BITS])]
        with m.FSM() as fsm:
            m.d.comb += self.stopping.eq(self.stop | self.core_reset | self.soft_reset | (leave & ~was_off))
            m.d.sync += was_off.eq(fsm.ongoing("OFF"))
            with m.State("OFF"):
                with m.If(self.soft_reset):
                    m.next = "DRAIN"
                with m.Elif(self.enable):
                    m.d.comb += self.started.eq(1)
                    m.d.sync += [broken.eq(0), self.base.eq(self.program_base), beats.eq(self.program_beats)]
                    m.next = "START"
            with m.State("START"):
                with m.If((self.base & (BASE_ALIGNMENT - 1)).any()):
                    m.d.comb += self.misaligned.eq(1)
                    m.next = "FAILED"
                # larger than the memory, or without a header
                with m.Elif((beats > c.program_rows) | (beats < c.instruction_beats)):
                    m.d.comb += self.bad_program.eq(1)
                    m.next = "FAILED"
                with m.Else():
                    m.d.comb += self.booting.eq(1)
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += [self.load.valid.eq(1), self.booting.eq(1)]
                with m.If(self.load.ready):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.booting.eq(1)
                with m.If(leave):
                    m.next = "DRAIN"
                with m.Elif(self.loaded):
                    m.d.sync += damaged.eq(self.damaged)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "FAILED"
                with m.If(broken):
                    pass  # the read error has been reported
                with m.Elif(header.magic != isa.MAGIC):
                    m.d.comb += self.bad_program.eq(1)
                with m.Elif((header.config_hash != c.hash) | (header.build_hash != build_hash(c))):
                    m.d.comb += self.bad_build.eq(1)
                with m.Elif(damaged):
                    m.d.comb += self.bad_checksum.eq(1)
                with m.Elif(~complete):
                    m.d.comb += self.bad_program.eq(1)
                with m.Else():
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.run.eq(~leave)
                with m.If(leave):
                    m.next = "DRAIN"
            with m.State("FAILED"):
                with m.If(leave):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += stop.eq(1)
                m.d.sync += count.eq(0)
                # what was offered before ``stop`` is seen in ``idle`` by now
                with m.If(self.idle & Cat(settled).all()):
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += [stop.eq(1), reset.eq(1)]
                m.d.sync += count.eq(count + 1)
                with m.If(count == RESET_CYCLES - 1):
                    m.d.comb += self.clear.eq(self.soft_reset)
                    m.next = "OFF"
        return m
