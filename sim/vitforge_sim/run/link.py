"""A running simulation as a driver sees a board: registers, memory with a cache before it, an interrupt, a clock.

Every register access goes through the AXI4-Lite port of the generated Verilog, every byte of program, images and
results through its AXI4 masters. Buffers are copies of the processor's own: what is not flushed the accelerator does
not see, what is not invalidated the processor does not. Time is the simulation's: it stands still between accesses.
"""

import os
import select
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from vitforge_hw.arch.memmap import BASE_ALIGNMENT

from . import toolchain
from .topbench import BenchProgram, MemorySettings, SimulationError, SimulationHang

_END, _WRITE, _READ, _INTERRUPT, _WAIT, _RESET, _POKE, _PEEK, _ERROR, _HOLD = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10
PATIENCE = 120.0  #: seconds until a simulation that does not answer is given up


class Link:
    """A simulation that waits for commands; a context manager."""

    def __init__(self, bench: BenchProgram, settings: MemorySettings | None = None):
        self.bench, self.cycle = bench, 0
        self._folder = tempfile.TemporaryDirectory(prefix="vitforge-link-")
        place = Path(self._folder.name)
        for name in ("commands", "answers"):
            os.mkfifo(place / name)
        arguments = ["+commands=commands", "+answers=answers", *(settings or MemorySettings()).plusargs()]
        self._log = open(place / "simulation.log", "w+")
        self._process = subprocess.Popen(
            [*bench.program.command, *arguments], cwd=place, env=toolchain.environment(bench.program.simulator),
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        # opened for both directions, so that opening waits for nobody
        self._in, self._out = (open(os.open(place / n, os.O_RDWR), "r+b", buffering=0) for n in ("commands", "answers"))

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> str:
        """End the simulation; its output, with the protocol violations that the memory saw."""
        if self._process.poll() is None:
            self._in.write(struct.pack(">5I", _END, 0, 0, 0, 0))
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._in.close()
        self._out.close()
        if not self._log.closed:
            self._log.seek(0)
            self.log = self._log.read()
            self._log.close()
            self._folder.cleanup()
        return self.log

    def _take(self, count: int) -> bytes:
        found, end = b"", time.monotonic() + PATIENCE
        while len(found) < count:
            if select.select([self._out], [], [], 1.0)[0]:
                found += self._out.read(count - len(found))
            elif self._process.poll() is not None:
                raise SimulationError(f"{self.bench.program.simulator} ended early:\n{self.close()[-2000:]}")
            elif time.monotonic() > end:
                self._process.kill()
                raise SimulationHang(f"{self.bench.program.simulator} did not answer in {PATIENCE:g} s")
        return found

    def command(self, op: int, addr: int = 0, data: int = 0, more: int = 0, follows: bytes = b"") -> tuple[int, int]:
        """(value, AXI response) of one command."""
        words = struct.pack(">5I", op, addr, data, more & 0xFFFFFFFF, more >> 32)
        self._in.write(words + follows)
        value, response, self.cycle, _ = struct.unpack("<4I", self._take(16))
        return value, response

    # ---- the processor's port
    def read(self, offset: int) -> int:
        """A register."""
        value, response = self.command(_READ, offset)
        if response:
            raise SimulationError(f"register {offset:#x}: AXI response must be 0, not {response}")
        return value

    def write(self, offset: int, value: int) -> None:
        """Set a register."""
        if self.command(_WRITE, offset, value)[1]:
            raise SimulationError(f"register {offset:#x}: AXI response must be 0")

    def interrupt(self, cycles: int) -> bool:
        """Wait for the interrupt, at most so many cycles."""
        return bool(self.command(_INTERRUPT, data=max(1, min(cycles, 0xFFFFFFFF)))[0])

    def wait(self, cycles: int) -> None:
        """Let time pass."""
        self.command(_WAIT, data=max(1, cycles))

    def reset(self, cycles: int = 8) -> None:
        """aresetn low."""
        self.command(_RESET, data=cycles)

    # ---- the memory
    def poke(self, address: int, data: bytes) -> None:
        """Write DRAM; address and length multiples of 16."""
        assert address % 16 == len(data) % 16 == 0
        words = np.frombuffer(data, np.uint8).reshape(-1, 16)[:, ::-1].tobytes()
        for at in range(0, len(words), 1 << 14):  # a pipe holds 64 KiB
            piece = words[at : at + (1 << 14)]
            self.command(_POKE, (address + at) // 16, len(piece) // 16, follows=piece)

    def peek(self, address: int, count: int) -> bytes:
        """Read DRAM; multiples of 16."""
        assert address % 16 == count % 16 == 0
        self.command(_PEEK, address // 16, count // 16)
        return self._take(count)

    def fault(self, address: int, beats: int, response: int = 2) -> None:
        """The next ``beats`` beats of the 16 bytes at ``address`` are answered with this response (0 beats: none)."""
        self.command(_ERROR, beats, response, address)

    def hold(self, cycles: int) -> None:
        """For so many cycles the memory takes and answers nothing."""
        self.command(_HOLD, data=cycles)


class Buffer(np.ndarray):
    """The processor's copy of a piece of DRAM: uint8, with PYNQ's names."""

    device_address: int
    link: Link

    def flush(self) -> None:
        """To DRAM."""
        self.link.poke(self.device_address, self.tobytes())

    def invalidate(self) -> None:
        """From DRAM."""
        self[:] = np.frombuffer(self.link.peek(self.device_address, self.size), np.uint8)


class Memory:
    """Buffers one behind the other, 0xA5 until somebody writes."""

    def __init__(self, link: Link, base: int = BASE_ALIGNMENT):
        self.link, self._next = link, base

    def allocate(self, count: int) -> Buffer:
        """``count`` bytes at a multiple of 4096."""
        buffer = np.full(-(-count // 16) * 16, 0xA5, np.uint8).view(Buffer)
        buffer.device_address, buffer.link = self._next, self.link
        self._next += -(-count // BASE_ALIGNMENT) * BASE_ALIGNMENT
        if self._next > self.link.bench.memory_bytes:
            raise ValueError(f"memory: {count} bytes more than the {self.link.bench.memory_bytes} that there are")
        buffer.flush()
        return buffer


class System:
    """The simulation's time and interrupt, and a clock as a Zynq has it: a source divided by an integer."""

    SOURCE_MHZ = 1500.0

    def __init__(self, link: Link):
        self.link, self._divisor, self._seconds, self._cycle = link, 15, 0.0, link.cycle

    def now(self) -> float:
        """Seconds at the frequencies that were set."""
        self._seconds += (self.link.cycle - self._cycle) / self.get_clock() / 1e6
        self._cycle = self.link.cycle
        return self._seconds

    def wait(self, seconds: float) -> None:
        """Until the interrupt is high, at most so long."""
        self.link.interrupt(int(seconds * self.get_clock() * 1e6))

    def set_clock(self, mhz: float) -> None:
        """The nearest frequency that the divider gives."""
        self.now()
        self._divisor = max(1, min(63, round(self.SOURCE_MHZ / mhz)))

    def get_clock(self) -> float:
        """MHz."""
        return self.SOURCE_MHZ / self._divisor
