"""Binding to PYNQ: an overlay that holds the accelerator gives ``overlay.<cell>`` of this class.

import pynq, vitforge_driver.overlay
overlay = pynq.Overlay("vitforge.bit")
machine = overlay.accelerator.open("build/digits")
logits = machine.run([pixels])
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pynq

from .device import Accelerator
from .record import Record


class PynqMemory:
    """Contiguous memory, cached: the driver flushes and invalidates."""

    def allocate(self, count: int) -> Any:
        return pynq.allocate(shape=(count,), dtype="u1", cacheable=True)


class PynqSystem:
    """Wall clock, PL clock 0; waits by polling the interrupt's status, which every PYNQ image can."""

    def __init__(self, mmio: Any, irq_status: int):
        self._mmio, self._irq_status = mmio, irq_status

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._mmio.read(self._irq_status):
            time.sleep(2e-5)

    def set_clock(self, mhz: float) -> None:
        pynq.Clocks.fclk0_mhz = mhz

    def get_clock(self) -> float:
        return float(pynq.Clocks.fclk0_mhz)


class VitforgeIP(pynq.DefaultIP):
    """What PYNQ makes of the cell."""

    bindto = ["vitforge:vitforge:vitforge_top:1.0"]

    def open(self, build: str | Path) -> Accelerator:
        """The accelerator with the model of a build directory (build.json, memory.bin), loaded and enabled."""
        from .registers import OFFSETS

        machine = Accelerator(self.mmio, PynqMemory(), PynqSystem(self.mmio, OFFSETS["irq_status"]), Record.load(build))
        machine.start()
        return machine
