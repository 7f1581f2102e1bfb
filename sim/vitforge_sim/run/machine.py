"""A compiled model on the simulated accelerator, driven register by register: for tests of faults and resets.

`accelerator.run_accelerator` runs images the one way a driver should; here the script is free.
"""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.registers import REGISTERS

from . import script
from .topbench import BenchProgram, BenchResult, MemorySettings, run_bench

ENABLE, SOFT_RESET = 1, 2  #: control
BUSY, READY, ERROR, ACTIVE, STOPPING = 1, 2, 4, 8, 16  #: status
IMAGE_DONE, FAILED = 1, 2  #: irq_enable, irq_status
EMPTY = np.frombuffer(bytes.fromhex("efbeadde"), np.uint8)  #: what the memory model holds where nobody wrote


class Script(list):
    """Commands by register names; what was read is found by its label. Steps return the script."""

    def __init__(self):
        super().__init__()
        self.labels: dict[str, int] = {}

    def write(self, name: str, value: int) -> "Script":
        self.append(script.Write(REGISTERS[name].offset, value))
        return self

    def write64(self, name: str, value: int) -> "Script":
        return self.write(f"{name}_lo", value & 0xFFFFFFFF).write(f"{name}_hi", value >> 32)

    def read(self, name: str, label: str = "") -> "Script":
        """Read a register; its value is ``Outcome.values[label]`` (default: the register's name; labels are unique)."""
        assert (label or name) not in self.labels, label or name
        self.labels[label or name] = len(self)
        self.append(script.Read(REGISTERS[name].offset))
        return self

    def poll(self, name: str, value: int, mask: int = 0xFFFFFFFF) -> "Script":
        self.append(script.Poll(REGISTERS[name].offset, value, mask))
        return self

    def wait(self, cycles: int) -> "Script":
        self.append(script.Wait(cycles))
        return self

    def interrupt(self, level: int = 1) -> "Script":
        self.append(script.WaitInterrupt(level))
        return self

    def reset(self, cycles: int = 8) -> "Script":
        """aresetn low; DRAM keeps its contents."""
        self.append(script.Reset(cycles))
        return self

    def soft_reset(self) -> "Script":
        return self.write("control", SOFT_RESET).poll("control", 0)

    def disable(self) -> "Script":
        """Clear enable and wait until the machine is down."""
        return self.write("control", 0).poll("status", 0, STOPPING)

    def error(self, label: str) -> "Script":
        """Read code, address and response of the latched error: labels label.code, .lo, .hi, .resp."""
        for name, part in (("code", "code"), ("addr_lo", "lo"), ("addr_hi", "hi"), ("resp", "resp")):
            self.read(f"error_{name}", f"{label}.{part}")
        return self


@dataclasses.dataclass
class Outcome:
    """values: by label; results: (slots, result bytes); bench: the run itself."""

    values: dict[str, int]
    results: np.ndarray
    bench: BenchResult

    def error(self, label: str) -> tuple[int, int, int]:
        """(code, address, response) as ``Script.error`` read them."""
        v = self.values
        return v[f"{label}.code"], v[f"{label}.lo"] | v[f"{label}.hi"] << 32, v[f"{label}.resp"]

    def untouched(self, slot: int) -> bool:
        """Nobody has written the slot's result."""
        row = self.results[slot]
        return np.array_equal(row, np.resize(EMPTY, row.size))


class Machine:
    """DRAM with programs, images and result slots around a built bench.

    Parameters
    ----------
    bench : from accelerator.build_accelerator
    programs : memory images; program_beats : of the first one
    images : DRAM bytes of each image, equal lengths
    result_bytes, slots : room for results

    Members
    -------
    base : address of DRAM
    program, image, result : base addresses by number; ``*_stride`` between neighbours
    """

    def __init__(
        self, bench: BenchProgram, programs: Sequence[bytes], program_beats: int, images: Sequence[bytes],
        result_bytes: int, slots: int,
    ):  # fmt: skip
        unit = memmap.BASE_ALIGNMENT
        at = 0
        self.bench, self.beats, self.result_bytes, self.slots = bench, program_beats, result_bytes, slots
        self.base = 0
        self.program, self.image, pieces = [], [], []
        for bases, data in ((self.program, programs), (self.image, images)):
            for piece in data:
                bases.append(at)
                pieces.append((at, piece))
                at += -(-len(piece) // unit) * unit
        self.image_stride = -(-len(images[0]) // unit) * unit
        self.result_stride = -(-result_bytes // unit) * unit
        self.memory = np.resize(EMPTY, at)
        for base, piece in pieces:
            self.memory[base : base + len(piece)] = np.frombuffer(piece, np.uint8)
        self.result = [at + i * self.result_stride for i in range(slots)]

    def at(self, base: int) -> "Machine":
        """The same with its DRAM at byte address ``base``, a multiple of 4096."""
        other = copy.copy(self)
        other.base = base
        for name in ("program", "image", "result"):
            setattr(other, name, [address - self.base + base for address in getattr(self, name)])
        return other

    def enable(self, s: Script, program: int = 0, beats: int = 0, ready: bool = True) -> Script:
        """Set the program and enable; wait until it is loaded."""
        s.write64("program", self.program[program]).write("program_beats", beats or self.beats)
        s.write("control", ENABLE)
        return s.poll("status", READY, READY) if ready else s

    def aim(self, s: Script, image: int, slot: int) -> Script:
        """Base of the next job, and strides to the next image and slot."""
        s.write64("job_image", self.image[image]).write64("job_result", self.result[slot])
        return s.write("job_image_stride", self.image_stride).write("job_result_stride", self.result_stride)

    def submit(self, s: Script, image: int, slot: int) -> Script:
        """Queue one job."""
        return self.aim(s, image, slot).write("job_submit", 1)

    def run(self, s: Script, watchdog: int = 3_000_000, timeout: float = 300.0, **settings) -> Outcome:
        """Play a script; ``settings`` are MemorySettings. SimulationHang if it does not end."""
        memory = MemorySettings(**({"base": self.base, "bandwidth": 16} | settings))
        run = run_bench(
            self.bench, s, memory=self.memory, dump=(self.result[0], self.slots * self.result_stride), monitor=False,
            settings=memory, watchdog=watchdog, timeout=timeout,
        )  # fmt: skip
        results = run.memory.reshape(self.slots, self.result_stride)[:, : self.result_bytes]
        return Outcome({label: run.events[i].value for label, i in s.labels.items()}, results, run)
