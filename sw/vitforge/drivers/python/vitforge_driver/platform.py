"""What a system must offer the driver: registers, memory that the accelerator reads, time. PYNQ's own classes fit."""

from typing import Protocol

import numpy as np


class Bus(Protocol):
    """The accelerator's registers (``pynq.MMIO``)."""

    def read(self, offset: int) -> int:
        """32 bits at a byte offset."""

    def write(self, offset: int, value: int) -> None:
        """Set 32 bits."""


class Buffer(Protocol):
    """Memory of processor and accelerator: a uint8 array (``pynq.buffer.PynqBuffer``)."""

    device_address: int  #: as the accelerator sees it

    def flush(self) -> None:
        """What the processor wrote is in DRAM (caches are written back)."""

    def invalidate(self) -> None:
        """What the accelerator wrote is what the processor reads (cached lines are dropped)."""

    def __getitem__(self, where: slice) -> np.ndarray: ...
    def __setitem__(self, where: slice, value: object) -> None: ...


class Memory(Protocol):
    """Where buffers come from."""

    def allocate(self, count: int) -> Buffer:
        """A buffer of ``count`` bytes at a multiple of 4096."""


class System(Protocol):
    """Time, interrupt and clock."""

    def now(self) -> float:
        """Seconds."""

    def wait(self, seconds: float) -> None:
        """Until the accelerator's interrupt is high, at most so long."""

    def set_clock(self, mhz: float) -> None:
        """Ask for a frequency of the accelerator's clock."""

    def get_clock(self) -> float:
        """The frequency that it has, MHz."""
