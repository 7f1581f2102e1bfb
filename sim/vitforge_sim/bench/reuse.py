"""One start of Amaranth's simulator for many runs of a component: starting it takes seconds for an engine, a run often
less."""

import collections
from collections.abc import Callable, Hashable
from typing import Any

KEPT = 3  #: components of a process that stay started: each takes some 100 MB

_kept: collections.OrderedDict[tuple[Hashable, ...], Any] = collections.OrderedDict()
_started: dict[int, "Start"] = {}


def reused(kind: Callable[..., Any], *arguments: Hashable) -> Any:
    """``kind(*arguments)``, the same object for every caller while it is one of the last few: for benches whose
    processes are all that differs. `replay.Simulator` then starts it once."""
    key = (kind, *arguments)
    if key not in _kept:
        _kept[key] = kind(*arguments)
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _, gone = _kept.popitem(last=False)
        _started.pop(id(gone), None)
    return _kept[key]


def is_reused(toplevel: object) -> bool:
    return any(kept is toplevel for kept in _kept.values())


def started(toplevel: object) -> "Start | None":
    """How its simulator looked when it had started; None: it has not, or is not `reused`."""
    return _started.get(id(toplevel)) if is_reused(toplevel) else None


class Start:
    """A simulator as it is before clocks, processes and testbenches are added to it."""

    def __init__(self, toplevel: object, design: Any, engine: Any):
        self.design, self._engine = design, engine
        self._processes = set(engine._processes)
        self._wakers = [list(slot.wakers) for slot in engine.state.slots]
        _started[id(toplevel)] = self

    def again(self) -> Any:
        """The engine with nothing but the design in it, at time 0."""
        engine = self._engine
        engine._processes, engine._testbenches = set(self._processes), []
        engine._active_triggers.clear()
        for number, slot in enumerate(engine.state.slots):
            slot.wakers[:] = self._wakers[number] if number < len(self._wakers) else []
        engine.reset()
        return engine
