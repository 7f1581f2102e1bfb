"""The one progress display: what is being done, how far it is, and the time left where something knows it.

Tasks nest; the display draws them on one line. On a terminal the line is drawn again twice a second, on stderr, so that
redirected output stays clean. Elsewhere a task that lasts prints plain lines: that it began, every half minute how far
it is, and its seconds at the end. What is over within a second says nothing.
"""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
REDRAW, REPORT = 0.5, 30.0  #: seconds between two drawings on a terminal, between two lines elsewhere
ALL_BUT = 0.99  #: a task that is still under way is never said to be further
Amount = Callable[[], tuple[float, float] | None]


class Task:
    """Something under way. ``amount``: (done, all of it), or None while nobody knows."""

    def __init__(self, text: str, amount: Amount, after: float, keep: bool, unit: str):
        self.text, self.amount, self.after, self.keep, self.unit = text, amount, after, keep, unit
        self.begin = time.monotonic()
        self.said = False  #: on a plain display: that it began

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin


def duration(seconds: float) -> str:
    """Seconds for reading: ``42 s``, ``3 min 05 s``, ``1 h 20 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def left(done: float, total: float, seconds: float) -> str:
    """``40 %, about 12 s left`` from the rate so far; without the time while nothing is done, and at the very end:
    where ``total`` is an estimate, what is left beyond it takes as long as it takes."""
    share = min(1.0, done / total) if total > 0 else 0.0
    if share <= 0:
        return f"{0:3.0f} %"
    if share > ALL_BUT:
        return f"{100 * ALL_BUT:3.0f} %, the last of it"
    return f"{100 * share:3.0f} %, about {duration(seconds * (1 - share) / share)} left"


def line(tasks: Sequence[Task], width: int) -> str:
    """The display's line: the outermost task that knows how far it is as a bar, the tasks around it in words."""
    counted = next(((t, n) for t in tasks if (n := t.amount()) is not None and n[1] > 0), None)
    texts = ": ".join(t.text for t in tasks)
    if counted is None:
        return f"{texts} ... {duration(tasks[0].seconds)}"[: width - 1]
    from tqdm import tqdm

    task, (done, total) = counted
    outer = ": ".join(t.text for t in tasks[: tasks.index(task) + 1])
    inner = ": ".join(t.text for t in tasks[tasks.index(task) + 1 :])
    return tqdm.format_meter(
        min(done, total), total, task.seconds, ncols=width - 1, prefix=outer, unit=task.unit, postfix=inner or None,
        unit_scale=total >= 10_000,
    )  # fmt: skip


def report(tasks: Sequence[Task]) -> str:
    """A plain line of how far they are; empty if none knows."""
    found = next(((t, n) for t in tasks if (n := t.amount()) is not None), None)
    return f"  {': '.join(t.text for t in tasks)}: {left(*found[1], found[0].seconds)}\n" if found else ""


class Display:
    """The tasks under way and the thread that shows them."""

    def __init__(self):
        self.tasks: list[Task] = []
        self.lock = threading.Lock()
        self.wake = threading.Condition(self.lock)
        self.thread: threading.Thread | None = None
        self.drawn = False

    @property
    def terminal(self) -> bool:
        return sys.stderr.isatty()

    def enter(self, task: Task) -> None:
        with self.lock:
            self.tasks.append(task)
            if self.thread is None:
                self.thread = threading.Thread(target=self._show, daemon=True)
                self.thread.start()

    def leave(self, task: Task, finished: bool) -> None:
        with self.lock:
            self.tasks.remove(task)
            self._clear()
            if not self.tasks:
                self.thread = None
            self.wake.notify_all()
            if task.keep and task.seconds >= task.after:
                print(f"{task.text}: {'' if finished else 'stopped after '}{task.seconds:.1f} s", flush=True)

    def _clear(self) -> None:
        if self.drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self.drawn = False

    def _show(self) -> None:
        me, reported = threading.current_thread(), time.monotonic()
        while True:
            with self.lock:
                self.wake.wait(REDRAW)
                if self.thread is not me:
                    return
                tasks = [t for t in self.tasks if t.seconds >= t.after]
            text = ""  # asked without the lock: the work does not wait for the display
            if tasks and self.terminal:
                text = "\r\033[K" + line(tasks, shutil.get_terminal_size().columns)
            elif any(t.keep for t in tasks):
                text = "".join(f"{t.text} ...\n" for t in tasks if t.keep and not t.said)
                if time.monotonic() - reported >= REPORT:
                    reported = time.monotonic()
                    text += report(tasks)
            with self.lock:
                if not text or self.thread is not me or not set(tasks) <= set(self.tasks):
                    continue
                self.drawn = self.terminal
                print(text, end="", file=sys.stderr if self.terminal else sys.stdout, flush=True)
                for task in tasks:
                    task.said = True


DISPLAY = Display()


@contextlib.contextmanager
def working(
    text: str,
    show: bool = True,
    after: float = 1.0,
    keep: bool = True,
    amount: Amount = lambda: None,
    unit: str = "it",
) -> Iterator[None]:
    """Show that ``text`` is being done once it takes longer than ``after`` s.

    keep: say so in plain output too, and leave a last line with the seconds; else only a terminal shows anything, and
    nothing of it stays. amount: asked now and then for (done, all), in ``unit``; None while unknown.
    """
    if not show:
        yield
        return
    task, finished = Task(text, amount, after, keep, unit), False
    DISPLAY.enter(task)
    try:
        yield
        finished = True
    finally:
        DISPLAY.leave(task, finished)


def steps(items: Iterable[T], text: str, show: bool, unit: str = "it") -> Iterator[T]:
    """``items`` one by one, counted: their number tells the time left."""
    if not show:
        yield from items
        return
    items = list(items)
    done = 0
    with working(text, after=0.5, keep=False, amount=lambda: (done, len(items)), unit=unit):
        for item in items:
            yield item
            done += 1
