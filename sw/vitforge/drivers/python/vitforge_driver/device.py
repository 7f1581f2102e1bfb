"""The accelerator: load a program, queue jobs, wait for their statuses, recover."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from . import registers
from .errors import (
    HardwareError,
    JobError,
    MismatchError,
    QueueFullError,
    TimeoutWithStatus,
    describe,
    names_of,
)
from .layout import pack_job, unpack_logits
from .platform import Buffer, Bus, Memory, System
from .record import Record

ENABLE, SOFT_RESET = 1, 2
BOTH = 0b11  #: irq_enable, irq_status: image_done and error
#: answers to reads from before aresetn: dropped by the hardware, of no concern to what is loaded now
STRAY = sum(1 << code for code, (name, _) in registers.ERRORS.items() if name == "stray")


class Job:
    """A job under way or done. number: the hardware's; logits: after :meth:`Accelerator.wait`; cycles: its status'."""

    def __init__(self, number: int, slot: int):
        self.number, self.slot = number, slot
        self.logits: np.ndarray | None = None
        self.cycles = 0


class Accelerator:
    """One accelerator with one compiled model.

    bus, memory, system: see :mod:`platform`. Identity, register version, configuration and build hash are compared
    with the record at once: MismatchError, nothing written.
    """

    def __init__(self, bus: Bus, memory: Memory, system: System, record: Record):
        self.bus, self.memory, self.system, self.record = bus, memory, system, record
        self._program: Buffer | None = None
        self._slots: list[dict[str, Buffer]] = []
        self._free: list[int] = []
        self._jobs: list[Job] = []
        self._owed: list[Job] = []  # done; their logits come with later jobs
        self._started = False
        found = {"ident": "id", "version": "version", "config_hash": "config_hash", "build_hash": "build_hash"}
        for name, register in found.items():
            value, wanted = self.read(register), record.hardware[name]
            if value != wanted:
                raise MismatchError(f"hardware: {register} must be {wanted:#010x} (build.json), is {value:#010x}")
        if self.field("capabilities", "masters") != record.hardware["masters"]:
            raise MismatchError("hardware: number of masters is not that of build.json")
        self.depth = self.field("capabilities", "job_depth")

    # ---- registers
    def read(self, name: str) -> int:
        """A register by name."""
        return self.bus.read(registers.OFFSETS[name])

    def write(self, name: str, value: int) -> None:
        """Write a register by name."""
        self.bus.write(registers.OFFSETS[name], value)

    def field(self, register: str, name: str) -> int:
        """A field of a register."""
        low, width = registers.FIELDS[register][name]
        return self.read(register) >> low & ((1 << width) - 1)

    def _write64(self, name: str, value: int) -> None:
        self.write(f"{name}_lo", value & 0xFFFFFFFF)
        self.write(f"{name}_hi", value >> 32)

    def _read64(self, name: str) -> int:
        return self.read(f"{name}_lo") | self.read(f"{name}_hi") << 32

    # ---- program
    def start(self, timeout: float = 1.0) -> None:
        """Place the memory image, load its program, allow jobs; a program that runs is stopped first, its jobs are
        dropped. MismatchError: another memory image; HardwareError: the hardware refuses it; TimeoutWithStatus: the
        memory does not answer."""
        image = self.record.check_memory_image()
        self.load(image, timeout)

    def load(self, image: bytes, timeout: float = 1.0) -> None:
        """:meth:`start` without looking at the memory image: the hardware checks it."""
        self.stop(timeout)  # a program is taken over when enable is set: somebody's may be running
        if self._program is None:
            self._program = self.memory.allocate(len(image))
        if not self._slots:
            for _ in range(self.depth):
                pair = {name: self.memory.allocate(self.record.job[f"{name}_bytes"]) for name in ("image", "result")}
                self._slots.append(pair)
        self._program[: len(image)] = np.frombuffer(image, np.uint8)
        self._program.flush()
        self._write64("program", self._program.device_address)
        self.write("program_beats", self.record.memory["program_beats"])
        self.write("errors", self.read("errors"))
        while self.read("done_count"):  # of jobs before
            self.write("done_pop", 1)
        self.write("irq_status", BOTH)
        self.write("irq_enable", BOTH)
        for name in ("job_image_stride", "job_result_stride"):
            self.write(name, 0)
        self._free = list(range(self.depth))
        self.write("control", ENABLE)
        end = self.system.now() + timeout
        while not self.field("status", "ready"):
            self._raise_errors("program refused", ~STRAY)
            if self.system.now() > end:
                raise self._timeout("program is not loaded", timeout)
            self._sleep(1e-5)
        self._raise_errors("program refused", ~STRAY)
        self.write("errors", STRAY)
        self._started = True

    def stop(self, timeout: float = 1.0) -> None:
        """Disable; jobs that are queued are dropped. TimeoutWithStatus: the memory does not answer."""
        self._forget()
        self.write("control", 0)
        self._until(lambda: not self.field("status", "stopping"), timeout, "does not stop")

    def reset(self, timeout: float = 1.0) -> None:
        """Soft reset: after a time-out or to drop everything; then :meth:`start` again. TimeoutWithStatus: the memory
        does not answer, only aresetn helps."""
        self._forget()
        self.write("control", SOFT_RESET)
        self._until(lambda: self.read("control") == 0, timeout, "soft reset does not end")

    def _forget(self) -> None:
        self._started, self._jobs, self._owed, self._free = False, [], [], []

    # ---- jobs
    def submit(self, images: Sequence[np.ndarray]) -> Job:
        """Queue one job of ``record.job["images"]`` images. QueueFullError: no slot; HardwareError: refused;
        ValueError: not started."""
        if not self._started:
            raise ValueError("submit: the accelerator must be started (start), and is not")
        data = pack_job(images, self.record)
        if not self._free or self.read("job_free") == 0:
            raise QueueFullError(f"queue full: {len(self._jobs)} jobs of at most {self.depth} are under way")
        job = Job(self.read("job_number"), self._free[0])
        slot = self._slots[job.slot]
        slot["image"][: len(data)] = np.frombuffer(data, np.uint8)
        slot["image"].flush()
        slot["result"].flush()  # no line of it may be written back later
        self._write64("job_image", slot["image"].device_address)
        self._write64("job_result", slot["result"].device_address)
        self.write("job_submit", 1)
        if self.read("job_number") == job.number:
            self._raise_errors("job refused")
            raise HardwareError("job refused: the queue took none", [])
        self._free.pop(0)
        self._jobs.append(job)
        return job

    def wait(self, timeout: float = 1.0) -> Job:
        """The oldest job whose logits were not given, with its logits. With ``record.job["lag"]`` of 1 a job's logits
        come with the status of the next job: submit one more (any images) behind the last one that counts.

        JobError: a job failed, the next one is not concerned (with a lag, the logits of the one before are lost too);
        TimeoutWithStatus: nothing came in time; ValueError: no job is under way, or none behind the one that is owed.
        """
        end = self.system.now() + timeout
        while True:
            if not self._jobs:
                if self._owed:
                    job = self._owed[0].number
                    raise ValueError(f"wait: the logits of job {job} come with the next job: submit one")
                raise ValueError("wait: no job was submitted")
            done = self._next_status(end, timeout)
            self._owed.append(done)
            if len(self._owed) > self.record.job["lag"]:
                break
        job, result = self._owed.pop(0), self._slots[done.slot]["result"]
        result.invalidate()
        job.logits = unpack_logits(np.asarray(result[: self.record.job["result_bytes"]]), self.record)
        return job

    def _next_status(self, end: float, timeout: float) -> Job:
        while self.read("done_count") == 0:
            left = end - self.system.now()
            if left <= 0:
                raise self._timeout(f"job {self._jobs[0].number} is not done", timeout)
            self.system.wait(left)
            self.write("irq_status", BOTH)
        job = self._jobs.pop(0)
        self._free.append(job.slot)
        number, errors, job.cycles = (self.read(f"done_{name}") for name in ("job", "errors", "cycles"))
        self.write("done_pop", 1)
        if number != job.number:
            self._owed = []
            raise HardwareError(f"status of job {number} came, job {job.number} was expected", [])
        if errors:
            self._owed = []
            address, response = self._read64("error_addr"), self.read("error_resp")
            self.write("errors", errors)
            at = f"; first at {address:#x}, response {response}"
            raise JobError(number, names_of(errors), describe(errors) + at, address, response)
        return job

    def run(self, images: Sequence[np.ndarray], timeout: float = 1.0) -> np.ndarray:
        """Logits (images, classes) of any number of images, jobs queued back to back. Errors as :meth:`wait`; after a
        JobError the other jobs of this call are waited for and dropped. ValueError: no images, or jobs under way."""
        if not len(images) or self._jobs:
            raise ValueError(f"run: must have images and an empty queue, not {len(images)} and {len(self._jobs)} jobs")
        batch, lag = self.record.job["images"], self.record.job["lag"]
        count = -(-len(images) // batch)
        padded = [*images, *[images[-1]] * ((count + lag) * batch - len(images))]
        waiting = [padded[n * batch : (n + 1) * batch] for n in range(count + lag)]
        found: list[np.ndarray] = []
        self._owed = []
        try:
            while len(found) < count:
                while waiting and self._free and self.read("job_free"):
                    self.submit(waiting.pop(0))
                found.append(np.asarray(self.wait(timeout).logits))
        except JobError:
            while self._jobs:
                with contextlib.suppress(JobError):
                    self._next_status(self.system.now() + timeout, timeout)
            raise
        finally:
            self._owed = []
        return np.concatenate(found)[: len(images)]

    # ---- state
    def status(self) -> dict[str, object]:
        """Everything that says what the machine does: for people, and in TimeoutWithStatus."""
        status = {name: self.field("status", name) for name in registers.FIELDS["status"]}
        return {
            **status,
            "errors": names_of(self.read("errors")),
            "job_free": self.read("job_free"),
            "completed": self.read("completed"),
            "submitted": self.read("job_number"),
            "done_count": self.read("done_count"),
        }

    def counters(self) -> dict[str, int]:
        """All counters at one moment: cycles since enable, busy and stall cycles by chunk."""
        self.write("snapshot", 1)
        names = [n[:-3] for n in registers.OFFSETS if n.endswith("_lo") and registers.OFFSETS[n] >= 0x200]
        return {name: self._read64(name) for name in names}

    def set_clock(self, mhz: float) -> float:
        """Ask for a clock; returns what the system says it is."""
        self.system.set_clock(mhz)
        return self.system.get_clock()

    def measure_clock(self, seconds: float = 0.01) -> float:
        """MHz, from the accelerator's own cycle counter against the system's time: while it is enabled."""
        first, begin = self.counters()["cycles"], self.system.now()
        end = begin + seconds
        while self.system.now() < end:
            self.system.wait(end - self.system.now())
        last, now = self.counters()["cycles"], self.system.now()
        return (last - first) / (now - begin) / 1e6

    # ---- helpers
    def _sleep(self, seconds: float) -> None:
        self.system.wait(seconds)

    def _until(self, condition, timeout: float, what: str) -> None:
        end = self.system.now() + timeout
        while not condition():
            if self.system.now() > end:
                raise self._timeout(what, timeout)
            self._sleep(1e-5)

    def _raise_errors(self, what: str, which: int = -1) -> None:
        """Raise for errors whose bits are in ``which``."""
        errors = self.read("errors")
        if errors & which:
            address, response = self._read64("error_addr"), self.read("error_resp")
            self.write("errors", errors)
            text = f"{what}: {describe(errors)}; first at {address:#x}, response {response}"
            raise HardwareError(text, names_of(errors), address, response)

    def _timeout(self, what: str, seconds: float) -> TimeoutWithStatus:
        status = self.status()
        text = ", ".join(f"{name} {value}" for name, value in status.items())
        names = names_of(self.read("errors"))
        return TimeoutWithStatus(f"time-out after {seconds:g} s: {what}; {text}", names, self._read64("error_addr"))

    def __enter__(self) -> Accelerator:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
