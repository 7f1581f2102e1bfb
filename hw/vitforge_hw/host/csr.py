"""Registers: what each one of arch.registers means."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa, registers
from ..arch.config import AcceleratorConfig
from .axi import AXI4Lite
from .jobs import COUNT_BITS
from .register_file import RegisterFile


class Csr(wiring.Component):
    """AXI4-Lite registers: control, jobs, errors, interrupt, counters, watchdog.

    Parameters
    ----------
    config : identification, job depth, watchdog

    Members
    -------
    bus : In(AXI4Lite())
    enable, soft_reset : Out(1); program_base, program_beats : Out
    clear : In(1), end of a soft reset; started : In(1), clear the counters; core_reset : In(1)
    run, booting : In(1)
    push, push_image, push_result : Out, a job for the queue (never while it is full or in reset)
    job_full, job_free, submitted, completed : In, from the job queue
    image_done : In(1), one cycle per image whose result is in memory
    read_error, write_error, bad_program : In(1), pulses; read_addr, read_resp, write_addr, write_resp : In
    busy, stall : In, one bit per chunk of isa.Chunk: counted in its registers; those of an absent chunk read 0
    progress : In(1), some chunk has finished a row
    active : In(1), some chunk is inside an image's program
    error : Out(1), an error is latched
    interrupt : Out(1), level

    Latency: event to register 1 cycle; RegisterFile for the bus.
    Reference: arch.registers.REGISTERS. The first error wins and stays until soft reset. Counters start when enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        chunks = len(isa.Chunk)
        super().__init__(
            {
                "bus": In(AXI4Lite()),
                "enable": Out(1),
                "soft_reset": Out(1),
                "program_base": Out(64),
                "program_beats": Out(32),
                "clear": In(1),
                "started": In(1),
                "core_reset": In(1),
                "run": In(1),
                "booting": In(1),
                "push": Out(1),
                "push_image": Out(64),
                "push_result": Out(64),
                "job_full": In(1),
                "job_free": In(range(config.job_depth + 1)),
                "submitted": In(COUNT_BITS),
                "completed": In(COUNT_BITS),
                "image_done": In(1),
                "read_error": In(1),
                "read_addr": In(64),
                "read_resp": In(2),
                "write_error": In(1),
                "write_addr": In(64),
                "write_resp": In(2),
                "bad_program": In(1),
                "busy": In(chunks),
                "stall": In(chunks),
                "progress": In(1),
                "active": In(1),
                "error": Out(1),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        m.submodules.file = file = RegisterFile()
        wiring.connect(m, wiring.flipped(self.bus), file.bus)

        def field(register: str, name: str) -> int:
            return next(low for n, low, _, _ in registers.REGISTERS[register].bits if n == name)

        # ---- identification and control
        for name, value in (
            ("cores", c.cores), ("word", c.word), ("masters", c.masters), ("job_depth", c.job_depth),
        ):  # fmt: skip
            _, low, width, _ = next(b for b in registers.REGISTERS["capabilities"].bits if b[0] == name)
            m.d.comb += file.capabilities[low : low + width].eq(C(value, width))
        working = Signal()
        m.d.comb += [
            file.id.eq(registers.IDENT),
            file.version.eq(registers.VERSION),
            file.config_hash.eq(c.hash),
            self.enable.eq(file.control[field("control", "enable")]),
            self.soft_reset.eq(file.control[field("control", "soft_reset")]),
            file.control_load.eq(self.clear),
            file.irq_status_clear.eq(self.clear),
            self.program_base.eq(Cat(file.program_lo, file.program_hi)),
            self.program_beats.eq(file.program_beats),
            working.eq(self.submitted != self.completed),
            file.status[field("status", "busy")].eq(working),
            file.status[field("status", "ready")].eq(self.run),
            file.status[field("status", "error")].eq(self.error),
            file.status[field("status", "active")].eq(self.active),
        ]

        # ---- jobs
        accepted = Signal()
        m.d.comb += [
            accepted.eq(file.job_submit & ~self.job_full & ~self.core_reset),
            self.push.eq(accepted),
            self.push_image.eq(Cat(file.job_image_lo, file.job_image_hi)),
            self.push_result.eq(Cat(file.job_result_lo, file.job_result_hi)),
            file.job_free.eq(self.job_free),
            file.completed.eq(self.completed),
        ]
        for name in ("image", "result"):
            lo, hi = f"job_{name}_lo", f"job_{name}_hi"
            next_base = Signal(64, name=f"next_{name}")
            m.d.comb += [
                next_base.eq(Cat(getattr(file, lo), getattr(file, hi)) + getattr(file, f"job_{name}_stride")),
                getattr(file, f"{lo}_value").eq(next_base[:32]),
                getattr(file, f"{hi}_value").eq(next_base[32:]),
                getattr(file, f"{lo}_load").eq(accepted),
                getattr(file, f"{hi}_load").eq(accepted),
            ]

        # ---- watchdog
        idle_cycles = Signal(c.watchdog_bits + 1)
        expired = Signal()
        with m.If(self.progress | self.image_done | self.core_reset | ~(self.booting | (self.run & working))):
            m.d.sync += idle_cycles.eq(0)
        with m.Elif(~idle_cycles[-1]):
            m.d.sync += idle_cycles.eq(idle_cycles + 1)
        m.d.comb += expired.eq(idle_cycles[-1])

        # ---- errors: the first one stays
        code, addr, resp = Signal(3), Signal(64), Signal(2)
        new_code, new_addr, new_resp = Signal(3), Signal(64), Signal(2)
        with m.If(self.read_error):
            m.d.comb += [new_code.eq(registers.ERROR_READ), new_addr.eq(self.read_addr), new_resp.eq(self.read_resp)]
        with m.Elif(self.write_error):
            m.d.comb += [new_code.eq(registers.ERROR_WRITE), new_addr.eq(self.write_addr)]
            m.d.comb += new_resp.eq(self.write_resp)
        with m.Elif(self.bad_program):
            m.d.comb += [new_code.eq(registers.ERROR_PROGRAM), new_addr.eq(self.program_base)]
        with m.Elif(file.job_submit & ~accepted):
            m.d.comb += [new_code.eq(registers.ERROR_QUEUE_FULL), new_addr.eq(self.push_image)]
        with m.Elif(expired):
            m.d.comb += new_code.eq(registers.ERROR_WATCHDOG)
        latch = Signal()
        m.d.comb += [
            latch.eq((new_code != 0) & ~self.error),
            self.error.eq(code != 0),
            file.error_code.eq(code),
            file.error_addr_lo.eq(addr[:32]),
            file.error_addr_hi.eq(addr[32:]),
            file.error_resp.eq(resp),
        ]
        with m.If(latch):
            m.d.sync += [code.eq(new_code), addr.eq(new_addr), resp.eq(new_resp)]
        with m.If(self.clear):
            m.d.sync += [code.eq(0), addr.eq(0), resp.eq(0)]

        # ---- interrupt: the two registers have the same fields
        events = {"image_done": self.image_done, "error": latch}
        for name, event in events.items():
            m.d.comb += file.irq_status_set[field("irq_status", name)].eq(event)
        m.d.sync += self.interrupt.eq((file.irq_status & file.irq_enable).any())

        # ---- counters
        cycles = Signal(64)
        m.d.comb += [file.cycles_lo.eq(cycles[:32]), file.cycles_hi.eq(cycles[32:])]
        restart = self.started | self.clear
        m.d.sync += cycles.eq(Mux(restart, 0, cycles + self.enable))
        for chunk in c.chunks:
            for name, event in (("busy", self.busy[chunk]), ("stall", self.stall[chunk])):
                count = Signal(32, name=f"{name}_{chunk.name.lower()}")
                m.d.sync += count.eq(Mux(restart, 0, count + event))
                m.d.comb += getattr(file, count.name).eq(count)
        return m
