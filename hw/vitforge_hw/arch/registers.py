"""The AXI4-Lite register map, declared once: CSR RTL, drivers, benches and docs read it.

How a driver uses it. Once: write program, watchdog, axi_attributes; set control.enable; wait for status.ready. For each
job: write job_image and job_result (or let the strides advance them), remember job_number, write job_submit while
job_free is not 0. On an interrupt: clear irq_status, then while done_count is not 0 read done_job, done_errors,
done_cycles and write done_pop. A job whose done_errors is not 0 has no valid result; run it again. Errors are cleared
by writing 1 to their bits in errors; jobs go on. When status shows no progress (errors.watchdog): control.soft_reset,
wait until control reads 0. If errors.drain appears, the memory does not answer: only aresetn helps then.
"""

import dataclasses
import enum
from collections.abc import Iterator

from .config import AcceleratorConfig
from .isa import Chunk

VERSION = 2
IDENT = int.from_bytes(b"VFG1", "little")


class Error(enum.IntEnum):
    """What register ``error_code`` names, and the bit of each in ``errors`` and ``done_errors``."""

    NONE = 0
    READ = 1
    WRITE = 2
    QUEUE_FULL = 3
    PROGRAM = 4
    WATCHDOG = 5
    ALIGNMENT = 6
    CHECKSUM = 7
    BUILD = 8
    STOPPED = 9
    STRAY = 10
    DRAIN = 11


#: cause, and what ``error_addr`` and ``error_resp`` hold (0 where nothing is said)
ERROR_DOCS: dict[Error, str] = {
    Error.READ: "a read was answered with an AXI error; address and response of the first bad beat",
    Error.WRITE: "a write was answered with an AXI error; address of the burst, response",
    Error.QUEUE_FULL: "a submit while job_free is 0: refused; address of its image",
    Error.PROGRAM: "no program, or one that does not fit what was loaded: does not run; its address",
    Error.WATCHDOG: "no progress for watchdog cycles while jobs run or the program loads",
    Error.ALIGNMENT: "a base or stride is no multiple of 4096: submit or program refused; the value; response 0 image "
    "base, 1 result base, 2 image stride, 3 result stride; the program: 0 and its address",
    Error.CHECKSUM: "loaded data differ from what was compiled; the memory image; response 0 program (does not run), 1 "
    "weights or parameters, 2 constants",
    Error.BUILD: "the program was compiled for another configuration or generator: does not run; its address",
    Error.STOPPED: "a submit while the machine stops (enable cleared, or soft reset): refused; address of its image",
    Error.STRAY: "an answer came that nobody waits for (of reads before aresetn): dropped",
    Error.DRAIN: "what is outstanding did not come back within watchdog cycles after a stop; it is still waited for",
}


@dataclasses.dataclass(frozen=True)
class Register:
    """One 32-bit register; ``access`` is ro, rw, w1c (write 1 to clear) or wo (doorbell: a write of its lowest byte).

    reset: value after aresetn (of config-dependent ones see :func:`reset_value`); sticky: bits of an rw register that
    the bus only sets, the hardware clears them.
    """

    name: str
    offset: int
    access: str
    doc: str
    bits: tuple[tuple[str, int, int, str], ...] = ()  #: (field, low bit, width, doc)
    reset: int = 0
    sticky: int = 0


_ERROR_BITS = tuple((e.name.lower(), int(e), 1, ERROR_DOCS[e].split(":")[0].split(";")[0]) for e in Error if e)
_SOFT_RESET = "1: stop, wait for AXI, clear all but the settings; runs to its end, reads 1 until then; then enable is 0"
_ALIGNED = "byte address (multiple of 4096)"
_TABLE = (
    Register("id", 0x000, "ro", "'VFG1'"),
    Register("version", 0x004, "ro", "register map version"),
    Register("config_hash", 0x008, "ro", "AcceleratorConfig.hash; must match the program's"),
    Register(
        "capabilities",
        0x00C,
        "ro",
        "shape",
        (("cores", 0, 8, ""), ("word", 8, 8, ""), ("masters", 16, 4, ""), ("job_depth", 20, 8, "")),
    ),
    Register(
        "control",
        0x010,
        "rw",
        "control",
        (
            ("enable", 0, 1, "load the program, then run jobs; cleared: stop, wait for AXI, drop the queued jobs"),
            ("soft_reset", 1, 1, _SOFT_RESET),
        ),
        sticky=0b10,
    ),
    Register(
        "status",
        0x014,
        "ro",
        "state",
        (
            ("busy", 0, 1, "jobs are outstanding"),
            ("ready", 1, 1, "program loaded"),
            ("error", 2, 1, "some bit of errors is set"),
            ("active", 3, 1, "a chunk is inside an image's program"),
            ("stopping", 4, 1, "waits for AXI after enable was cleared or soft reset; submits are refused"),
        ),
    ),
    Register(
        "irq_enable",
        0x018,
        "rw",
        "interrupt enable",
        (("image_done", 0, 1, ""), ("error", 1, 1, "")),
    ),
    Register(
        "irq_status",
        0x01C,
        "w1c",
        "interrupt status",
        (("image_done", 0, 1, "an image's result is in memory"), ("error", 1, 1, "an error happened; each sets it")),
    ),
    Register("program_lo", 0x020, "rw", f"memory image, {_ALIGNED}; taken over when enable is set"),
    Register("program_hi", 0x024, "rw", "upper half"),
    Register("program_beats", 0x028, "rw", "beats of header and instructions to load; taken over when enable is set"),
    Register("build_hash", 0x02C, "ro", "configuration, instruction set and generator; must match the program's"),
    Register("job_image_lo", 0x030, "rw", f"next job's image, {_ALIGNED}"),
    Register("job_image_hi", 0x034, "rw", "upper half"),
    Register("job_image_stride", 0x038, "rw", "added to job_image after each submit (multiple of 4096)"),
    Register("job_result_lo", 0x03C, "rw", f"next job's result, {_ALIGNED}"),
    Register("job_result_hi", 0x040, "rw", "upper half"),
    Register("job_result_stride", 0x044, "rw", "added to job_result after each submit (multiple of 4096)"),
    Register("job_submit", 0x048, "wo", "any write queues one job; a refused one is an error and changes nothing"),
    Register("job_free", 0x04C, "ro", "free job slots"),
    Register("completed", 0x050, "ro", "images finished since the queue was empty of all (enable, stop, reset)"),
    Register("job_number", 0x054, "ro", "number of the next job that is submitted; from 0, as completed"),
    Register("snapshot", 0x058, "wo", "any write takes all counters from 0x200 on at one moment; reads give that one"),
    Register(
        "error_code",
        0x060,
        "ro",
        "the first error since its bit in errors was last clear: 0 none, "
        + ", ".join(f"{int(e)} {e.name.lower()}" for e in Error if e),
    ),
    Register("error_addr_lo", 0x064, "ro", "that error's address"),
    Register("error_addr_hi", 0x068, "ro", "upper half"),
    Register("error_resp", 0x06C, "ro", "that error's AXI response or detail"),
    Register("errors", 0x070, "w1c", "errors that happened; clearing the bit of error_code frees it", _ERROR_BITS),
    Register("watchdog", 0x074, "rw", "cycles without progress that are an error; 0: never. First 2^watchdog_bits"),
    Register(
        "axi_attributes",
        0x078,
        "rw",
        "attributes of the masters' bursts, taken over when enable is set",
        (
            ("arcache", 0, 4, ""),
            ("arprot", 4, 3, ""),
            ("aruser", 7, 1, ""),
            ("awcache", 8, 4, ""),
            ("awprot", 12, 3, ""),
            ("awuser", 15, 1, ""),
        ),
        reset=0x0303,
    ),
    Register(
        "done_count", 0x080, "ro", "finished jobs whose status waits here; of more than 2 job_depth the oldest go"
    ),
    Register("done_job", 0x084, "ro", "oldest of them: number of the job"),
    Register("done_errors", 0x088, "ro", "oldest: its errors", _ERROR_BITS),
    Register("done_cycles", 0x08C, "ro", "oldest: cycles since the job before it, or since there was work; saturates"),
    Register("done_pop", 0x090, "wo", "any write takes the oldest away"),
)
#: counters of 64 bits as ``snapshot`` took them, at 0x200 + 8 * slot: slot 0 cycles, then busy and stall of each chunk
COUNTER_BASE, COUNTER_SLOTS = 0x200, 32


def counter_slot(chunk: Chunk, stall: bool = False) -> int:
    """Number of a chunk's busy or stall counter."""
    return 1 + 2 * chunk + stall


def _counters() -> Iterator[Register]:
    docs = {"cycles": (0, "cycles since enable")}
    for c in Chunk:
        docs[f"busy_{c.name.lower()}"] = counter_slot(c), f"cycles with a row in {c.name}"
        docs[f"stall_{c.name.lower()}"] = counter_slot(c, True), f"cycles {c.name} waited for a counter"
    for name, (slot, doc) in docs.items():
        yield Register(f"{name}_lo", COUNTER_BASE + 8 * slot, "ro", doc)
        yield Register(f"{name}_hi", COUNTER_BASE + 8 * slot + 4, "ro", "upper half")


REGISTERS: dict[str, Register] = {r.name: r for r in (*_TABLE, *_counters())}


def reset_value(name: str, config: AcceleratorConfig) -> int:
    """What an rw register holds after aresetn."""
    return 1 << config.watchdog_bits if name == "watchdog" else REGISTERS[name].reset


def field(register: str, name: str) -> tuple[int, int]:
    """(low bit, width) of a register's field."""
    return next((low, width) for n, low, width, _ in REGISTERS[register].bits if n == name)
