"""Registers: what each one of arch.registers means."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa, registers
from ..arch.build_hash import build_hash
from ..arch.config import AcceleratorConfig
from ..arch.memmap import BASE_ALIGNMENT
from ..arch.registers import field
from .axi import AXI4Lite
from .counters import Counters
from .error_log import ErrorLog
from .job_status import STATUS
from .jobs import COUNT_BITS
from .register_file import RegisterFile
from .watchdog import Watchdog

ATTRIBUTES = 16  #: bits of axi_attributes


class Csr(wiring.Component):
    """AXI4-Lite registers: control, jobs, errors, interrupt, counters, watchdog.

    Parameters
    ----------
    config : identification, job depth, watchdog

    Members
    -------
    bus : In(AXI4Lite())
    enable, soft_reset : Out(1); program_base, program_beats, attributes : Out
    clear : In(1), end of a soft reset; started : In(1), clear the counters; stopping : In(1), jobs are refused
    base : In(64), the program that was enabled
    run, booting : In(1)
    push, push_image, push_result : Out, a job for the queue (never while it is full or would be dropped)
    job_full, job_free, submitted, completed : In, from the job queue; working : Out(1), jobs are outstanding
    image_done : In(1), one cycle per image whose result is in memory
    done_count, done : In, from JobStatus; done_pop : Out(1)
    read_error, write_error : In(1), pulses; read_addr, read_resp, write_addr, write_resp : In
    bad_program, bad_build, bad_checksum, misaligned : In(1), pulses: the program is refused
    stray : In(1), pulse: an AXI answer was dropped
    damaged : In(2), pulses: weights or parameters, constants have a wrong signature
    hangs : Out(1), pulse: the watchdog has expired while jobs run
    busy, stall : In, one bit per chunk of isa.Chunk: counted in its registers; those of an absent chunk read 0
    progress : In(1), some chunk has finished a row; moved : In(1), some AXI beat or response came or went
    active : In(1), some chunk is inside an image's program
    error : Out(1), an error is latched
    interrupt : Out(1), level

    Latency: event to register 1 cycle; RegisterFile for the bus.
    Reference: arch.registers.REGISTERS. Counters start when enabled.
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
                "attributes": Out(ATTRIBUTES, init=registers.REGISTERS["axi_attributes"].reset),
                "clear": In(1),
                "started": In(1),
                "stopping": In(1),
                "base": In(64),
                "run": In(1),
                "booting": In(1),
                "push": Out(1),
                "push_image": Out(64),
                "push_result": Out(64),
                "job_full": In(1),
                "job_free": In(range(config.job_depth + 1)),
                "submitted": In(COUNT_BITS),
                "completed": In(COUNT_BITS),
                "working": Out(1),
                "image_done": In(1),
                "done_count": In(range(2 * config.job_depth + 1)),
                "done": In(STATUS),
                "done_pop": Out(1),
                "read_error": In(1),
                "read_addr": In(64),
                "read_resp": In(2),
                "write_error": In(1),
                "write_addr": In(64),
                "write_resp": In(2),
                "bad_program": In(1),
                "bad_build": In(1),
                "bad_checksum": In(1),
                "misaligned": In(1),
                "damaged": In(2),
                "stray": In(1),
                "hangs": Out(1),
                "busy": In(chunks),
                "stall": In(chunks),
                "progress": In(1),
                "moved": In(1),
                "active": In(1),
                "error": Out(1),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        resets = {"watchdog": registers.reset_value("watchdog", self._config)}
        m.submodules.file = file = RegisterFile(resets=resets)
        m.submodules.log = log = ErrorLog()
        wiring.connect(m, wiring.flipped(self.bus), file.bus)
        self._control(m, file)
        self._jobs(m, file, log)
        self._errors(m, file, log)
        self._counters(m, file)
        return m

    def _control(self, m: Module, file):
        """Identification, control, status, settings."""
        c = self._config
        for name in ("cores", "word", "masters", "job_depth"):
            low, width = field("capabilities", name)
            m.d.comb += file.capabilities[low : low + width].eq(C(getattr(c, name), width))
        m.d.comb += [
            file.id.eq(registers.IDENT),
            file.version.eq(registers.VERSION),
            file.config_hash.eq(c.hash),
            file.build_hash.eq(build_hash(c)),
            self.enable.eq(file.control[field("control", "enable")[0]]),
            self.soft_reset.eq(file.control[field("control", "soft_reset")[0]]),
            file.control_load.eq(self.clear),
            file.irq_status_clear.eq(self.clear),
            file.errors_clear.eq(self.clear),
            self.program_base.eq(Cat(file.program_lo, file.program_hi)),
            self.program_beats.eq(file.program_beats),
            self.working.eq(self.submitted != self.completed),
        ]
        for name, value in (
            ("busy", self.working), ("ready", self.run), ("error", self.error), ("active", self.active),
            ("stopping", self.stopping),
        ):  # fmt: skip
            m.d.comb += file.status[field("status", name)[0]].eq(value)
        with m.If(self.started):
            m.d.sync += self.attributes.eq(file.axi_attributes)

    def _jobs(self, m: Module, file, log):
        """Submits, and what becomes of jobs."""
        m.d.comb += [
            self.push_image.eq(Cat(file.job_image_lo, file.job_image_hi)),
            self.push_result.eq(Cat(file.job_result_lo, file.job_result_hi)),
            file.job_free.eq(self.job_free),
            file.job_number.eq(self.submitted),
            file.completed.eq(self.completed),
            file.done_count.eq(self.done_count),
            file.done_job.eq(self.done.job),
            file.done_errors.eq(self.done.errors),
            file.done_cycles.eq(self.done.cycles),
            self.done_pop.eq(file.done_pop),
        ]
        strides = (file.job_image_stride, file.job_result_stride)
        # a cycle late: two writes of the bus lie two cycles apart
        odd = Signal(4)
        addresses = (self.push_image, self.push_result, *strides)
        m.d.sync += odd.eq(Cat((value & (BASE_ALIGNMENT - 1)).any() for value in addresses))
        submit = Signal()
        m.d.sync += submit.eq(file.job_submit)
        with m.If(submit):
            with m.If(self.stopping):
                m.d.comb += [log.stopped_error.eq(1), log.stopped_addr.eq(self.push_image)]
            with m.Elif(odd.any()):
                m.d.comb += log.alignment_error.eq(1)
                for number, value in reversed(list(enumerate((self.push_image, self.push_result, *strides)))):
                    with m.If(odd[number]):
                        m.d.comb += [log.alignment_addr.eq(value), log.alignment_resp.eq(number)]
            with m.Elif(self.job_full):
                m.d.comb += [log.queue_full_error.eq(1), log.queue_full_addr.eq(self.push_image)]
            with m.Else():
                m.d.comb += self.push.eq(1)
        with m.If(self.misaligned):
            m.d.comb += [log.alignment_error.eq(1), log.alignment_addr.eq(self.base), log.alignment_resp.eq(0)]
        for name, stride in zip(("image", "result"), strides, strict=True):
            lo, hi = f"job_{name}_lo", f"job_{name}_hi"
            next_base = Signal(64, name=f"next_{name}")
            m.d.comb += [
                next_base.eq(Cat(getattr(file, lo), getattr(file, hi)) + stride),
                getattr(file, f"{lo}_value").eq(next_base[:32]),
                getattr(file, f"{hi}_value").eq(next_base[32:]),
                getattr(file, f"{lo}_load").eq(self.push),
                getattr(file, f"{hi}_load").eq(self.push),
            ]

    def _errors(self, m: Module, file, log):
        """Error log, watchdog, interrupt."""
        m.submodules.standstill = watchdog = Watchdog()  # a register has the name watchdog
        stopping_before, expired = Signal(), Signal()
        m.d.sync += [stopping_before.eq(self.stopping), expired.eq(watchdog.expired)]
        m.d.comb += [
            watchdog.period.eq(file.watchdog),
            watchdog.active.eq(self.booting | self.stopping | (self.run & self.working)),
            watchdog.progress.eq(
                self.progress & self.run | self.image_done
                | self.moved & (self.booting | self.stopping) | (self.stopping ^ stopping_before)
            ),
            self.hangs.eq(expired & self.run),
            log.watchdog_error.eq(expired & ~self.stopping),
            log.drain_error.eq(expired & self.stopping),
            log.read_error.eq(self.read_error),
            log.read_addr.eq(self.read_addr),
            log.read_resp.eq(self.read_resp),
            log.write_error.eq(self.write_error),
            log.write_addr.eq(self.write_addr),
            log.write_resp.eq(self.write_resp),
            log.program_error.eq(self.bad_program),
            log.program_addr.eq(self.base),
            log.build_error.eq(self.bad_build),
            log.build_addr.eq(self.base),
            log.checksum_error.eq(self.bad_checksum | self.damaged.any()),
            log.checksum_addr.eq(self.base),
            log.checksum_resp.eq(Mux(self.bad_checksum, 0, Mux(self.damaged[0], 1, 2))),
            log.stray_error.eq(self.stray),
            log.pending.eq(file.errors),
            file.errors_set.eq(log.set),
            self.error.eq(file.errors.any()),
            file.error_code.eq(log.code),
            file.error_addr_lo.eq(log.addr[:32]),
            file.error_addr_hi.eq(log.addr[32:]),
            file.error_resp.eq(log.resp),
        ]  # fmt: skip
        for name, event in {"image_done": self.image_done, "error": log.happened}.items():
            m.d.comb += file.irq_status_set[field("irq_status", name)[0]].eq(event)
        m.d.sync += self.interrupt.eq((file.irq_status & file.irq_enable).any())

    def _counters(self, m: Module, file):
        """Cycles, and busy and stall cycles of each chunk."""
        m.submodules.counters = counters = Counters()
        # all a cycle later: each has hundreds of loads
        events = Signal.like(counters.events)
        m.d.sync += [
            counters.restart.eq(self.started | self.clear),
            counters.snapshot.eq(file.snapshot),
            counters.events.eq(events),
        ]
        m.d.comb += [
            counters.select.eq(file.counter),
            events[0].eq(self.enable),
            file.counter_value.eq(counters.value),
            file.hold.eq(counters.snapshot | counters.busy),
        ]
        for chunk in self._config.chunks:
            for stall, event in ((False, self.busy[chunk]), (True, self.stall[chunk])):
                m.d.comb += events[registers.counter_slot(chunk, stall)].eq(event)
