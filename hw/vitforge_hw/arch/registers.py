"""The AXI4-Lite register map, declared once: CSR RTL, drivers, benches and docs read it."""

import dataclasses
from collections.abc import Iterator

VERSION = 1
IDENT = int.from_bytes(b"VFG1", "little")


@dataclasses.dataclass(frozen=True)
class Register:
    """One 32-bit register; ``access`` is ro, rw, w1c (write 1 to clear) or wo (doorbell)."""

    name: str
    offset: int
    access: str
    doc: str
    bits: tuple[tuple[str, int, int, str], ...] = ()  #: (field, low bit, width, doc)


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
            ("enable", 0, 1, "load the program, then run jobs"),
            ("soft_reset", 1, 1, "1: stop, drain, clear; reads 1 until done"),
        ),
    ),
    Register(
        "status",
        0x014,
        "ro",
        "state",
        (
            ("busy", 0, 1, "jobs are outstanding"),
            ("ready", 1, 1, "program loaded"),
            ("error", 2, 1, "an error is latched"),
            ("active", 3, 1, "a chunk is inside an image's program"),
        ),
    ),
    Register("irq_enable", 0x018, "rw", "interrupt enable", (("image_done", 0, 1, ""), ("error", 1, 1, ""))),
    Register(
        "irq_status",
        0x01C,
        "w1c",
        "interrupt status",
        (("image_done", 0, 1, "an image's result is in memory"), ("error", 1, 1, "")),
    ),
    Register("program_lo", 0x020, "rw", "memory image, byte address (multiple of 4096)"),
    Register("program_hi", 0x024, "rw", "upper half"),
    Register("program_beats", 0x028, "rw", "beats of header and instructions to load"),
    Register("job_image_lo", 0x030, "rw", "next job's image, byte address (multiple of 4096)"),
    Register("job_image_hi", 0x034, "rw", "upper half"),
    Register("job_image_stride", 0x038, "rw", "added to job_image after each submit"),
    Register("job_result_lo", 0x03C, "rw", "next job's result, byte address (multiple of 4096)"),
    Register("job_result_hi", 0x040, "rw", "upper half"),
    Register("job_result_stride", 0x044, "rw", "added to job_result after each submit"),
    Register("job_submit", 0x048, "wo", "any write queues one job; a full queue is an error"),
    Register("job_free", 0x04C, "ro", "free job slots"),
    Register("completed", 0x050, "ro", "images finished since enable"),
    Register("cycles_lo", 0x054, "ro", "cycles since enable"),
    Register("cycles_hi", 0x058, "ro", "upper half"),
    Register(
        "error_code",
        0x060,
        "ro",
        "first latched error: 0 none, 1 read response, 2 write response, 3 job queue full, 4 bad program, 5 watchdog",
    ),
    Register("error_addr_lo", 0x064, "ro", "address of the failing access"),
    Register("error_addr_hi", 0x068, "ro", "upper half"),
    Register("error_resp", 0x06C, "ro", "AXI response of the failing access"),
)
#: per chunk: busy cycles and cycles a row waited for its counters, at 0x100 + 8 * chunk
COUNTER_BASE = 0x100


def _counters() -> Iterator[Register]:
    from .isa import Chunk

    for c in Chunk:
        yield Register(f"busy_{c.name.lower()}", COUNTER_BASE + 8 * c, "ro", f"cycles with a row in {c.name}")
        yield Register(
            f"stall_{c.name.lower()}", COUNTER_BASE + 8 * c + 4, "ro", f"cycles {c.name} waited for a counter"
        )


REGISTERS: dict[str, Register] = {r.name: r for r in (*_TABLE, *_counters())}
ERROR_READ, ERROR_WRITE, ERROR_QUEUE_FULL, ERROR_PROGRAM, ERROR_WATCHDOG = 1, 2, 3, 4, 5
