"""How far a build or a run in another process is, read off the files that it writes."""

import contextlib
import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np

from .monitor import Monitor, record_dtype

OBJECTS = "objects"  #: in a build's folder: how many files the compiler will write
EVENT_WORDS = 4


@dataclasses.dataclass
class Watch:
    """Given to a build or a run, which fills in where it works; asked from another thread.

    folder: where the files appear; None while nothing runs. monitors: (number, monitor) of those that write.
    """

    folder: Path | None = None
    monitors: tuple[tuple[int, Monitor], ...] = ()
    most: int = 0  #: compiled files seen at once: ccache takes a file away before it puts it there

    def started(self, folder: Path, monitors: Collection[tuple[int, Monitor]] = ()) -> None:
        self.monitors, self.folder = tuple(monitors), folder

    def objects(self) -> tuple[int, int] | None:
        """(compiled files, all of them) of a Verilator build; None before it compiles."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            total = int((self.folder / OBJECTS).read_text())
            self.most = max(self.most, sum(1 for _ in (self.folder / "obj").glob("*.o")))
            return self.most, total
        return None

    def cycle(self) -> int:
        """The last cycle that the files of a run tell of: script commands are written at once, monitors in blocks."""
        found = [0]
        with contextlib.suppress(OSError, ValueError, TypeError):
            events = np.fromfile(self.folder / "events.bin", "<u4")
            found.append(int(events[len(events) // EVENT_WORDS * EVENT_WORDS - 3]) if len(events) >= EVENT_WORDS else 0)
        for number, monitor in self.monitors:
            with contextlib.suppress(OSError, ValueError, TypeError):
                size = record_dtype(monitor.data_bits).itemsize
                with open(self.folder / f"monitor_{number}.bin", "rb") as file:
                    whole = file.seek(0, 2) // size
                    if whole:
                        file.seek((whole - 1) * size)
                        found.append(int.from_bytes(file.read(4), "little"))
        return max(found)
