"""Driver of a vitforge accelerator. Reads build.json's record and the hardware's registers, nothing else of vitforge.

    from vitforge_driver import Accelerator, Record
    record = Record.load("build/digits")
    with Accelerator(bus, memory, record) as machine:
        logits = machine.run([pixels])[0]

``bus`` and ``memory`` are small interfaces (:mod:`platform`); :mod:`overlay` has them for PYNQ.
"""

from .device import Accelerator, Job
from .errors import HardwareError, JobError, MismatchError, QueueFullError, TimeoutWithStatus, VitforgeError
from .layout import pack_image, unpack_logits
from .record import Record

__all__ = [
    "Accelerator",
    "HardwareError",
    "Job",
    "JobError",
    "MismatchError",
    "QueueFullError",
    "Record",
    "TimeoutWithStatus",
    "VitforgeError",
    "pack_image",
    "unpack_logits",
]
