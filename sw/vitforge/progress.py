"""Elapsed time of long steps: a ticking line on a terminal, two lines in a log, nothing for what is done at once."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator


def bars() -> bool | None:
    """Whether to draw progress bars: on a terminal only, so that logs and captured output stay readable."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def working(text: str, show: bool = True, after: float = 1.0, keep: bool = True) -> Iterator[None]:
    """Say on stdout that ``text`` is being done and how long it has taken, once it takes longer than ``after`` s.

    keep: leave a last line with the seconds; else only a terminal shows anything, and nothing of it stays.
    """
    if not show or not (keep or sys.stdout.isatty()):
        yield
        return
    begin, over = time.monotonic(), threading.Event()
    terminal = sys.stdout.isatty()

    def tick() -> None:
        if over.wait(after):
            return
        if not terminal:
            print(f"{text} ...", flush=True)
        while terminal:
            print(f"\r{text} ... {time.monotonic() - begin:.0f} s", end="", flush=True)
            if over.wait(1):
                return

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    done = False
    try:
        yield
        done = True
    finally:
        over.set()
        thread.join()
        seconds = time.monotonic() - begin
        if seconds >= after:
            clear = "\r\033[K" if terminal else ""
            last = f"{text}: {'' if done else 'stopped after '}{seconds:.1f} s\n" if keep else ""
            print(clear + last, end="", flush=True)
