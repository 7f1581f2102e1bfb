"""Program memory: instructions of all chunks behind one port, fetched for the sequencers in turn."""

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2

from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..emit import block
from ..interfaces import WeightWrite
from ..memory.ram import Ram

INSTRUCTION_BITS = isa.INSTRUCTION_BYTES * 8


class InstructionFetch(Signature):
    """A sequencer's fetch port, seen from the sequencer: ``valid`` is held with ``index`` until ``done``, one cycle,
    when ``data`` is the 512-bit instruction.

    bits : of ``data``. With fewer than 512 the instruction comes in parts, the lowest first: ``part`` is high for each,
    and ``done`` comes behind the last. A bus to all sequencers is then as narrow as a beat.
    """

    def __init__(self, bits: int = INSTRUCTION_BITS):
        parts = {"part": In(1)} if bits < INSTRUCTION_BITS else {}
        super().__init__({"valid": Out(1), "index": Out(16), "done": In(1), "data": In(bits), **parts})


class ProgramMemory(wiring.Component):
    """``program_rows`` beats; serves one fetch at a time, round robin.

    Members
    -------
    write : In(WeightWrite) of one beat, from the boot DMA
    fetch<n> : In(InstructionFetch(8 * beat_bytes)), one per chunk of the configuration

    Latency: instruction_beats + 4 cycles from an idle memory's request to ``done``.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        members = {"write": In(WeightWrite(config.beat_bytes * 8, 1))}
        members |= {f"fetch{int(n)}": In(InstructionFetch(config.beat_bytes * 8)) for n in config.chunks}
        super().__init__(members)

    def elaborate(self, platform):
        c = self._config
        m = Module()
        bits, beats = c.beat_bytes * 8, c.instruction_beats
        address = ceil_log2(c.program_rows)
        m.submodules.ram = ram = block(Ram(bits, c.program_rows), f"vf_ram_{bits}x{c.program_rows}")
        fetch = [getattr(self, f"fetch{int(n)}") for n in c.chunks]
        n = len(fetch)

        owner = Signal(range(n))
        busy = Signal()
        step = Signal(range(beats + 3))
        part = Signal()
        data = Signal(INSTRUCTION_BITS, reset_less=True, name="data") if beats == 1 else ram.read_data
        wanted = Array(f.valid for f in fetch)
        index = Array(f.index for f in fetch)
        finish = Signal()
        m.d.comb += [
            self.write.ready.eq(1),
            ram.write_enable.eq(self.write.valid & self.write.mask[0]),
            ram.write_addr.eq(self.write.addr[:address]),
            ram.write_data.eq(self.write.data),
            ram.read_enable.eq(busy),
            ram.read_addr.eq((index[owner] * beats + step)[:address]),
            finish.eq(busy & (step == beats + 2)),
        ]
        with m.If(~busy):
            with m.If(wanted[owner]):
                m.d.sync += [busy.eq(1), step.eq(0)]
            with m.Else():
                m.d.sync += owner.eq(Mux(owner == n - 1, 0, owner + 1))
        with m.Else():
            m.d.sync += step.eq(step + 1)
            # a beat arrives two steps after its address
            with m.If((step >= 2) & (step < beats + 2)):
                m.d.sync += data.eq(ram.read_data) if beats == 1 else ()
                m.d.comb += part.eq(1) if beats > 1 else ()
            with m.If(finish):
                m.d.sync += [busy.eq(0), step.eq(0), owner.eq(Mux(owner == n - 1, 0, owner + 1))]
        for i, f in enumerate(fetch):
            m.d.comb += [f.done.eq(finish & (owner == i)), f.data.eq(data)]
            if beats > 1:
                m.d.comb += f.part.eq(part & (owner == i))
        return m
