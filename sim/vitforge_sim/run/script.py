"""Commands of the AXI4-Lite script that drives a top-level simulation (hdl/axil_script.v plays it)."""

import abc
import dataclasses
from collections.abc import Sequence

MAX_COMMANDS = 4096


@dataclasses.dataclass(frozen=True)
class Command(abc.ABC):
    """Base class; every command answers one event (see topbench.Event)."""

    @abc.abstractmethod
    def words(self) -> tuple[int, int, int, int]:
        """op, addr, data, mask."""


@dataclasses.dataclass(frozen=True)
class Write(Command):
    """Writes register `addr` (byte address, 12 bits); the event's value is `data`."""

    addr: int
    data: int

    def words(self):
        return 1, self.addr, self.data, 0


@dataclasses.dataclass(frozen=True)
class Read(Command):
    """Reads register `addr`; the event's value is what it holds."""

    addr: int

    def words(self):
        return 2, self.addr, 0, 0


@dataclasses.dataclass(frozen=True)
class Poll(Command):
    """Reads register `addr` until (value & mask) == data; with `or_interrupt` or until the interrupt line is high."""

    addr: int
    data: int
    mask: int = 0xFFFFFFFF
    or_interrupt: bool = False

    def words(self):
        return 7 if self.or_interrupt else 3, self.addr, self.data, self.mask


@dataclasses.dataclass(frozen=True)
class WaitInterrupt(Command):
    """Waits until the interrupt line is at `level`."""

    level: int = 1

    def words(self):
        return 4, 0, self.level, 0


@dataclasses.dataclass(frozen=True)
class Wait(Command):
    """Waits `cycles` clock cycles."""

    cycles: int

    def words(self):
        return 5, 0, self.cycles, 0


@dataclasses.dataclass(frozen=True)
class Reset(Command):
    """Holds aresetn low for `cycles` clock cycles (DRAM keeps its contents). Every run starts with eight by itself."""

    cycles: int = 8

    def words(self):
        return 6, 0, self.cycles, 0


def encode(commands: Sequence[Command]) -> str:
    """Text for $readmemh, END appended. Raises ValueError for too many commands or a value out of range."""
    if len(commands) >= MAX_COMMANDS:
        raise ValueError(f"script must have fewer than {MAX_COMMANDS} commands, not {len(commands)}")
    lines = []
    for number, command in enumerate(commands):
        op, addr, data, mask = command.words()
        if not 0 <= addr < 4096 or addr % 4:
            raise ValueError(f"script command {number}: address must be a multiple of 4 below 4096, not {addr}")
        if not (0 <= data < 1 << 32 and 0 <= mask < 1 << 32):
            raise ValueError(f"script command {number}: data and mask must be 32-bit, not {data} and {mask}")
        lines.append(f"{op:08x} {addr:08x} {data:08x} {mask:08x}")
    lines.append("00000000 00000000 00000000 00000000")
    return "\n".join(lines) + "\n"
