"""What can go wrong, each as what it is. Messages name the register's own words for it (docs/registers.md)."""

from __future__ import annotations

from .registers import ERRORS


class VitforgeError(Exception):
    """Base of all below."""


class MismatchError(VitforgeError):
    """Record, memory image and hardware do not belong together: nothing was started."""


class QueueFullError(VitforgeError):
    """No free job slot; nothing was submitted. Wait for a job first."""


class HardwareError(VitforgeError):
    """The accelerator reports errors. names: of their bits; address, response: of the first one."""

    def __init__(self, message: str, names: list[str], address: int = 0, response: int = 0):
        super().__init__(message)
        self.names, self.address, self.response = names, address, response


class JobError(HardwareError):
    """A job ended with errors: its result is not valid, the next job is not concerned. job: its number."""

    def __init__(self, job: int, names: list[str], text: str, address: int, response: int):
        super().__init__(f"job {job} failed: {text}", names, address, response)
        self.job = job


class TimeoutWithStatus(HardwareError):  # noqa: N818 - a time-out, and what the machine says of it
    """Nothing came in time. The message has status, errors and the counts of jobs decoded; reset() recovers."""


def names_of(bits: int) -> list[str]:
    """Names of the errors whose bits are set."""
    return [name for code, (name, _) in sorted(ERRORS.items()) if bits >> code & 1]


def describe(bits: int) -> str:
    """Names and meanings of the errors whose bits are set."""
    return "; ".join(f"{name} ({text})" for code, (name, text) in sorted(ERRORS.items()) if bits >> code & 1) or "none"
