"""The board's controller: a frame from the serial port becomes a job, its result a frame.

Request: 0xA5, the image's bytes as the accelerator reads them (`vitforge pack`), their sum modulo 2^16. Reply: 0x5A,
status, errors (4 bytes), cycles (4 bytes), the result's bytes (`vitforge unpack`), the sum of all these after 0x5A.
Numbers are little-endian. status: bit 0 the request's sum was wrong (it did not run); errors: register ``done_errors``,
or ``errors`` where the program did not load. After an error the accelerator is reset and loaded again for the next
request. Bytes outside a frame are skipped, an unfinished one is dropped after 2^20 cycles without a byte.
"""

import dataclasses

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch.registers import REGISTERS, Error, field
from vitforge_hw.host.axi import AXI4Lite

REQUEST, REPLY = 0xA5, 0x5A
BAD_SUM = 1  #: bit of the reply's status
HEAD_BYTES = 9  #: status, errors, cycles
TIMEOUT_BITS = 20
_ALL = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a build's data lie in the board's memory: bases and sizes in bytes, whole rows of 16."""

    image_base: int
    image_bytes: int
    result_base: int
    result_bytes: int
    program_beats: int

    def __post_init__(self):
        for name in ("image_bytes", "result_bytes"):
            if getattr(self, name) % 16:
                raise ValueError(f"{name} must be whole rows of 16 bytes, not {getattr(self, name)}")


class Registers(wiring.Component):
    """One access to the accelerator's registers at a time.

    Members
    -------
    start : In(1), held until ``done``; write, offset, value : In
    done : Out(1), for one cycle; data : Out(32), what was read, with ``done``
    bus : Out(AXI4Lite())
    """

    def __init__(self):
        super().__init__(
            {"start": In(1), "write": In(1), "offset": In(12), "value": In(32), "done": Out(1), "data": Out(32)}
            | {"bus": Out(AXI4Lite())}
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.d.comb += [
            bus.awaddr.eq(self.offset),
            bus.araddr.eq(self.offset),
            bus.wdata.eq(self.value),
            bus.wstrb.eq(0xF),
            self.data.eq(bus.rdata),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    bus.awvalid.eq(self.write), bus.wvalid.eq(self.write), bus.arvalid.eq(~self.write),
                ]  # fmt: skip
                m.next = "WAIT"
            with m.State("WAIT"):
                for channel in ("aw", "w", "ar"):
                    with m.If(getattr(bus, f"{channel}ready")):
                        m.d.sync += getattr(bus, f"{channel}valid").eq(0)
                m.d.comb += [bus.bready.eq(1), bus.rready.eq(1)]
                with m.If(bus.bvalid | bus.rvalid):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m


class Control(wiring.Component):
    """Frames to jobs.

    Parameters
    ----------
    layout : of the memory

    Members
    -------
    byte, valid : In(8), In(1), received; reply : Out(stream of 8 bits)
    bus : Out(AXI4Lite())
    write, write_row, write_data, read, read_row, read_data : the memory's own port
    busy, failed : Out(1), between a request's first byte and its reply's last; the last job had an error
    """

    def __init__(self, layout: Layout, rows: int):
        self._layout = layout
        super().__init__(
            {"byte": In(8), "valid": In(1), "reply": Out(stream.Signature(8)), "bus": Out(AXI4Lite())}
            | {"write": Out(1), "write_row": Out(range(rows)), "write_data": Out(128)}
            | {"read": Out(1), "read_row": Out(range(rows)), "read_data": In(128)}
            | {"busy": Out(1), "failed": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        layout = self._layout
        m.submodules.registers = registers = Registers()
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        status, errors, cycles = Signal(8), Signal(32), Signal(32)
        total = Signal(16)  # sum of the frame's bytes
        row = Signal(128)  # what was received, and what is sent
        loaded = Signal()  # program is in, machine enabled
        quiet = Signal(TIMEOUT_BITS)  # cycles without a byte
        count = Signal(range(layout.image_bytes + 1))
        left, last = Signal(5), Signal(range(layout.result_bytes // 16 + 2))
        m.d.comb += [
            self.write_data.eq(row),
            self.write_row.eq(layout.image_base // 16 + (count - 1 >> 4)),
            self.read_row.eq(layout.result_base // 16 + last),
        ]

        def access(name: str, register: str, value: int | None, then: str):
            """A state of one register access; the body of the returned context runs when it is done."""
            with m.State(name):
                m.d.comb += [
                    registers.start.eq(1),
                    registers.write.eq(value is not None),
                    registers.offset.eq(REGISTERS[register].offset),
                    registers.value.eq(value or 0),
                ]
                with m.If(registers.done):
                    m.next = then
                    if name in answers:
                        answers[name]()

        def writes(name: str, values: list[tuple[str, int]], then: str):
            """States ``name``, ``name``.1, ...: one write each."""
            names = [name, *(f"{name}.{i}" for i in range(1, len(values))), then]
            for here, following, (register, value) in zip(names, names[1:], values):
                access(here, register, value, following)

        def keep(signal):
            return lambda: m.d.sync.__iadd__(signal.eq(registers.data))

        bit = lambda register, name: registers.data[field(register, name)[0]]  # noqa: E731

        def ready():
            with m.If(bit("status", "ready")):
                m.d.sync += loaded.eq(1)
                m.next = "JOB"

        def refused():
            m.d.sync += errors.eq(registers.data)
            with m.If(registers.data != 0):
                m.next = "RESET"

        def finished():
            with m.If(registers.data != 0):
                m.next = "ERRORS"

        def hung():
            m.d.sync += errors.eq(registers.data)
            with m.If(registers.data[Error.WATCHDOG]):
                m.next = "RESET"

        def clean():
            with m.If(registers.data != 0):
                m.next = "STOPPING"

        def judged():
            with m.If(errors != 0):
                m.next = "RESET"

        answers = {
            "READY": ready,
            "REFUSED": refused,
            "DONE": finished,
            "HUNG": hung,
            "ERRORS": keep(errors),
            "CYCLES": keep(cycles),
            "STOPPING": clean,
            "CLEAR": judged,
        }
        m.d.sync += quiet.eq(quiet + 1)
        with m.If(self.valid):
            m.d.sync += quiet.eq(0)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [count.eq(0), total.eq(0), status.eq(0), errors.eq(0), cycles.eq(0), last.eq(0)]
                with m.If(self.valid & (self.byte == REQUEST)):
                    m.next = "IMAGE"
            # ---- request
            with m.State("IMAGE"):
                m.d.comb += self.write.eq((count[:4] == 0) & (count != 0))
                with m.If(self.valid):
                    m.d.sync += [row.eq(Cat(row[8:], self.byte)), count.eq(count + 1), total.eq(total + self.byte)]
                with m.Elif(quiet.all()):
                    m.next = "IDLE"
                with m.If(count == layout.image_bytes):
                    m.next = "LOW"
            for name, then, part in (("LOW", "HIGH", total[:8]), ("HIGH", "CHECKED", total[8:])):
                with m.State(name):
                    with m.If(self.valid):
                        with m.If(self.byte != part):
                            m.d.sync += status[0].eq(1)
                        m.next = then
                    with m.Elif(quiet.all()):
                        m.next = "IDLE"
            with m.State("CHECKED"):
                m.next = "LOAD"
                with m.If(loaded):
                    m.next = "JOB"
                with m.If(status != 0):
                    m.next = "HEAD"
            # ---- load
            base = [
                ("program_lo", 0), ("program_hi", 0), ("program_beats", layout.program_beats),
                ("job_image_lo", layout.image_base), ("job_image_hi", 0), ("job_image_stride", 0),
                ("job_result_lo", layout.result_base), ("job_result_hi", 0), ("job_result_stride", 0), ("control", 1),
            ]  # fmt: skip
            writes("LOAD", base, "READY")
            access("READY", "status", None, "REFUSED")
            access("REFUSED", "errors", None, "READY")
            # ---- run
            access("JOB", "job_submit", 1, "DONE")
            access("DONE", "done_count", None, "HUNG")
            access("HUNG", "errors", None, "DONE")
            access("ERRORS", "done_errors", None, "CYCLES")
            access("CYCLES", "done_cycles", None, "POP")
            access("POP", "done_pop", 1, "CLEAR")
            access("CLEAR", "errors", _ALL, "HEAD")
            # ---- recover
            access("RESET", "control", 2, "STOPPING")
            access("STOPPING", "control", None, "FORGET")
            with m.State("FORGET"):
                m.d.sync += loaded.eq(0)
                m.next = "FORGIVE"
            access("FORGIVE", "errors", _ALL, "HEAD")
            # ---- reply
            with m.State("HEAD"):
                m.d.sync += self.failed.eq(errors != 0)
                m.d.comb += [self.reply.payload.eq(REPLY), self.reply.valid.eq(1)]
                with m.If(self.reply.ready):
                    m.d.sync += [row.eq(Cat(status, errors, cycles)), left.eq(HEAD_BYTES), total.eq(0)]
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.reply.payload.eq(row[:8]), self.reply.valid.eq(1)]
                with m.If(self.reply.ready):
                    m.d.sync += [row.eq(row >> 8), left.eq(left - 1), total.eq(total + row[:8])]
                    with m.If(left == 1):
                        m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += self.read.eq(1)
                m.d.sync += last.eq(last + 1)
                m.next = "FETCH"
                with m.If(last == layout.result_bytes // 16):
                    m.d.sync += [row.eq(total), left.eq(2)]
                    m.next = "SEND"
                with m.If(last > layout.result_bytes // 16):
                    m.next = "IDLE"
            with m.State("FETCH"):
                m.next = "FETCHING"
            with m.State("FETCHING"):
                m.next = "FETCHED"
            with m.State("FETCHED"):
                m.d.sync += [row.eq(self.read_data), left.eq(16)]
                m.next = "SEND"
        return m
