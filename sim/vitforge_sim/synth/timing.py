"""Static timing of a flat design under a delay model."""

import re
from dataclasses import dataclass

import numpy as np

from .delays import Model, dsp_period
from .design import Design


@dataclass
class Path:
    """ps, LUT levels, the nets from start to end and the row of ``Design.ends`` that takes the last."""

    period: float
    levels: int
    nets: list[int]
    end: np.ndarray


class Timing:
    """Arrival times at every net.

    period : of the slowest path, ps; a DSP's own path between its registers counts
    """

    def __init__(self, design: Design, model: Model):
        self.design, self.model = design, model
        self._levelise()
        self._propagate()
        arrival, rows = self.arrival, design.ends
        setup = np.array([model.end(k) for k in design.kinds.end], float)
        net = model.net(design.loads[rows[:, 0]], np.zeros(len(rows), bool))
        if model.merged() is not None:
            data = np.array([k == "FF D" for k in design.kinds.end])[rows[:, 1]]
            logic = self.via[rows[:, 0]] >= 0
            net = np.where(data & logic & (design.loads[rows[:, 0]] == 1), model.merged(), net)
        at = arrival[rows[:, 0]]
        self.required = np.where(at >= 0, at + net + setup[rows[:, 1]], -1.0)
        inner = {k for place in design.places for k in place.netlist.periods}
        self.period = max([float(self.required.max(initial=0.0)), *(dsp_period(k) for k in inner)])

    def _levelise(self) -> None:
        """Order arcs so that all that arrive at a net come before any that leaves it. ValueError on a loop."""
        arcs = self.design.arcs
        count = len(self.design.loads)
        order = np.argsort(arcs[:, 0], kind="stable")
        first = np.searchsorted(arcs[order, 0], np.arange(count + 1))
        waiting = np.bincount(arcs[:, 1], minlength=count)
        level = np.zeros(count, int)
        ready, step = np.flatnonzero(waiting == 0), 0
        seen = len(ready)
        while len(ready):
            step += 1
            sizes = first[ready + 1] - first[ready]
            offsets = np.repeat(first[ready] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
            targets = arcs[order[np.arange(sizes.sum()) + offsets], 1]
            targets, times = np.unique(targets, return_counts=True)
            waiting[targets] -= times
            ready = targets[waiting[targets] == 0]
            level[ready] = step
            seen += len(ready)
        if seen < count:
            loop = np.flatnonzero(waiting > 0)[0]
            raise ValueError(f"timing: {'.'.join(self.design.name(int(loop))[::2])} is on a combinational loop")
        self._level = level

    def _propagate(self) -> None:
        design, model = self.design, self.model
        arcs = design.arcs
        kinds = list(design.kinds.arc)
        delay = np.array([model.arc(k) for k in kinds], float)
        local = np.array([model.local(k) for k in kinds], bool)
        self._levels_of = [k in ("LUT", "LRAM", "SRL") or k.startswith("DSP") for k in kinds]
        arrival = np.full(len(design.loads), -1.0)
        at_start = np.array([model.start(k) for k in design.kinds.start], float)
        np.maximum.at(arrival, design.starts[:, 0], at_start[design.starts[:, 1]])
        self.via = np.full(len(design.loads), -1)  #: arc by which the latest arrives; -1 at a start
        cost = delay[arcs[:, 2]] + model.net(design.loads[arcs[:, 0]], local[arcs[:, 2]])
        is_lut = None if model.lut_pins is None else np.array([k == "LUT" for k in kinds])[arcs[:, 2]]
        order = np.lexsort((arcs[:, 1], self._level[arcs[:, 1]]))
        levels = self._level[arcs[order, 1]]
        bounds = self._bounds = np.searchsorted(levels, np.arange(1, levels[-1] + 2 if len(levels) else 1))
        for low, high in zip(bounds[:-1], bounds[1:]):
            rows = order[low:high]
            before = arrival[arcs[rows, 0]]
            rows = rows[before >= 0]
            if not len(rows):
                continue
            at, targets = arrival[arcs[rows, 0]] + cost[rows], arcs[rows, 1]
            if is_lut is not None:
                at = at + self._pins(at, targets, is_lut[rows])
            best = np.lexsort((at, targets))
            last = np.append(targets[best][1:] != targets[best][:-1], True)
            best = best[last]
            later = at[best] > arrival[targets[best]]
            best = best[later]
            arrival[targets[best]] = at[best]
            self.via[targets[best]] = rows[best]
        self.arrival = arrival

    def _pins(self, at: np.ndarray, targets: np.ndarray, is_lut: np.ndarray) -> np.ndarray:
        """LUT delay of each arc: the later an input, the faster its pin."""
        order = np.lexsort((-at, targets))
        new = np.append(True, targets[order][1:] != targets[order][:-1])
        start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        out = np.zeros(len(at))
        out[order] = self.model.lut_pins[np.minimum(np.arange(len(order)) - start, 5)]
        return np.where(is_lut, out, 0.0)

    def path(self, row: int) -> Path:
        """The slowest path into end ``row``."""
        end = self.design.ends[row]
        nets, net, levels = [int(end[0])], int(end[0]), 0
        while (arc := self.via[net]) >= 0:
            levels += self._levels_of[self.design.arcs[arc, 2]]
            net = int(self.design.arcs[arc, 0])
            nets.append(net)
        return Path(float(self.required[row]), int(levels), nets[::-1], end)

    def worst(self, number: int) -> list[Path]:
        """The slowest paths, one for each pair of start and end signals (bits and copies are one)."""
        found, seen = [], set()
        for row in np.argsort(-self.required, kind="stable"):
            if self.required[row] <= 0 or len(found) == number:
                break
            path = self.path(int(row))
            key = tuple(
                re.sub(r"\[?\d+\]?", "", name)
                for _, _, name in (self.design.name(path.nets[0]), self.design.end_name(path.end))
            )
            if key not in seen:
                seen.add(key)
                found.append(path)
        return found
