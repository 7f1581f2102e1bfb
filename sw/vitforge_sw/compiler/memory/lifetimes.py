"""Where an EfficientViT's tensors live: fixed addresses, shared by tensors that are never needed at the same time.

Lifetimes come from the sequential order of the runs. The input's place is kept free from an early point of the program
on, so that the next image is loaded while this one is at work. Largest tensors first, each where its pool differs from
those of the tensors that engines read at the same time.
"""

import dataclasses
import itertools

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ..layers.batch import of_image, plain
from ..layers.efficientvit import MapNetwork
from ..layers.run import Run
from ..tuning import ANY, Tuning
from .place import Allocation, Place


class SpaceError(ValueError):
    """The tensors do not fit the activation buffer with this schedule."""


@dataclasses.dataclass
class Life:
    """A tensor of ``size`` rows, needed in the closed intervals of run numbers ``spans``, in cycles ``times``."""

    name: str
    size: int
    spans: list[tuple[int, int]]
    times: list[tuple[float, float]]

    def meets(self, other: "Life", slack: float) -> bool:
        """Whether both are needed at the same time, or one within ``slack`` cycles of the other."""
        if any(a <= d and c <= b for a, b in self.spans for c, d in other.spans):
            return True
        return any(a < d + slack and c < b + slack for a, b in self.times for c, d in other.times)


def load_times(net: MapNetwork, config: AcceleratorConfig, runs: list[Run], lead: float) -> tuple[list[int], int]:
    """Run before which each image of the batch is loaded, and run from which on the place of the next job's first one
    is kept: ``lead`` times the cycles that loading it takes before its first use."""
    cycles = lead * net.shapes[net.graph.input].size * config.beats_per_row
    first: dict[str, float] = {}
    for run in runs:
        for ref in net.layers[run.layer].node.inputs:
            first.setdefault(ref.name, run.start)
    used = [first[name] for name in net.shapes if plain(name) == net.graph.input]
    times = [used[0], *used[1:], max(run.end for run in runs)]
    early = [next((n for n, run in enumerate(runs) if run.start >= t - cycles), len(runs)) for t in times]
    return [0, *early[1:-1]], early[-1]


def lives(net: MapNetwork, runs: list[Run], loads: list[int], early: int) -> dict[str, Life]:
    """``loads``, ``early``: see :func:`load_times`."""
    begin, end, top = [r.start for r in runs], [r.end for r in runs], len(runs) - 1
    first = {of_image(net.graph.input, i): n for i, n in enumerate(loads)}
    first[net.graph.input] = -1
    last: dict[str, int] = {net.graph.output: len(runs)}
    for n, run in enumerate(runs):
        node = net.layers[run.layer].node
        first.setdefault(node.out.name, n)
        for ref in node.inputs:
            last[ref.name] = n
    out = {}
    for name, shape in net.shapes.items():
        spans = [(first[name], last[name])]
        if first[name] > last[name]:  # read by the next job's deferred classifier
            spans = [(-1, last[name]), (first[name], len(runs))]
        if name == net.graph.input:
            spans.append((max(early, last[name] + 1), len(runs)))
        times = [(begin[min(max(0, a), top)], end[min(b, top)]) for a, b in spans]
        out[name] = Life(name, shape.size, spans, times)
    return out


def neighbours(net: MapNetwork, runs: list[Run]) -> dict[str, dict[str, float]]:
    """Tensors that should lie in other pools than each tensor, with weights: words of both that engines ask for in the
    same cycles, of which a pool gives one."""
    out: dict[str, dict[str, float]] = {name: {} for name in net.shapes}
    active: list[tuple[float, Chunk, dict[str, float]]] = []
    for run in sorted(runs, key=lambda r: r.start):
        rates = {n: words / (run.end - run.start) for n, words in net.words(run.layer, run.rows, run.tiles).items()}
        active = [a for a in active if a[0] > run.start]
        pairs = [(*pair, run.end) for pair in itertools.combinations(rates.items(), 2)]
        for end, chunk, others in active:
            if chunk != run.chunk:
                pairs += [(*pair, min(end, run.end)) for pair in itertools.product(others.items(), rates.items())]
        for (one, a), (other, b), end in pairs:
            if one != other:
                weight = a * b * (end - run.start)
                for x, y in ((one, other), (other, one)):
                    out[x][y] = out[x].get(y, 0.0) + weight
        active.append((run.end, run.chunk, rates))
    return out


def allocate_lifetimes(net: MapNetwork, config: AcceleratorConfig, runs: list[Run], tuning: Tuning) -> Allocation:
    """Addresses of every tensor; SpaceError with the sizes where the buffer is too small."""
    loads, early = load_times(net, config, runs, 0)
    tensors = lives(net, runs, loads, early)
    peak, names = _peak(tensors, len(runs))
    if peak <= config.act_rows:
        near = neighbours(net, runs)
        choices = (c for leads in tuning.leads for c in itertools.product((False, True), tuning.slacks, leads))
        for tight, slack, lead in choices:
            loads, early = load_times(net, config, runs, lead)
            tensors = lives(net, runs, loads, early)
            at = _place(tensors, near, config, slack, tight)
            if at is not None:
                return _allocation(net, config, tensors, at, loads)
        for seed in range(tuning.tries):
            at = _place(tensors, near, config, ANY, True, np.random.default_rng(seed))
            if at is not None:
                return _allocation(net, config, tensors, at, loads)
    text = ", ".join(f"{n} {net.shapes[n].size}" for n in names)
    raise SpaceError(
        f"activation buffer: {peak} rows of {config.row_bytes} bytes needed at once ({text}), "
        f"{config.act_rows} rows available (preset {config.name})"
    )


def _peak(tensors: dict[str, Life], count: int) -> tuple[int, list[str]]:
    """The most rows needed at once, and by which tensors."""
    best: tuple[int, list[str]] = (0, [])
    for n in range(-1, count + 1):
        live = [t for t in tensors.values() if any(a <= n <= b for a, b in t.spans)]
        total = sum(t.size for t in live)
        if total > best[0]:
            best = total, [t.name for t in sorted(live, key=lambda t: -t.size)]
    return best


def _place(
    tensors: dict[str, Life],
    near: dict[str, dict[str, float]],
    config: AcceleratorConfig,
    slack: float,
    tight: bool,
    rng: np.random.Generator | None = None,
) -> dict[str, int] | None:
    """Address of each tensor, or None where they do not fit; ``tight``: the lowest address, whatever its pool; ``rng``:
    about in the order of sizes, at either end of a gap."""
    at: dict[str, int] = {}
    edges = range(0, config.act_rows, config.pool_rows)

    def shared(a: int, b: int, c: int, d: int) -> float:
        """Part of rows a..b that lies in pools of rows c..d."""
        low, high = c // config.pool_rows * config.pool_rows, -(-d // config.pool_rows) * config.pool_rows
        return max(0, min(b, high) - max(a, low)) / (b - a)

    weight = {n: tensors[n].size * (1.0 if rng is None else rng.uniform(0.3, 1.0)) for n in sorted(tensors)}
    for t in sorted(tensors.values(), key=lambda t: (-weight[t.name], t.name)):
        gaps, top = [], 0
        taken = sorted((at[n], at[n] + tensors[n].size) for n in at if tensors[n].meets(t, slack))
        for a, b in (*taken, (config.act_rows, config.act_rows)):
            if a - top >= t.size:
                gaps.append((top, a))
            top = max(top, b)
        if not gaps:
            return None
        starts = [a for a, _ in gaps]
        if rng is not None:
            starts = [int(rng.choice([*starts[:1], gaps[-1][1] - t.size]))]
        if not tight:
            starts += [b - t.size for _, b in gaps] + [e for e in edges for a, b in gaps if a < e <= b - t.size]
        others = [(w, at[n], at[n] + tensors[n].size) for n, w in near[t.name].items() if n in at]

        def cost(a: int) -> tuple[float, int]:
            clash = 0 if tight else sum(w * shared(a, a + t.size, c, d) for w, c, d in others)  # noqa: B023
            return round(clash, 6), a

        at[t.name] = min(starts, key=cost)
    return at


def _allocation(
    net: MapNetwork, config: AcceleratorConfig, tensors: dict[str, Life], at: dict[str, int], loads: list[int]
) -> Allocation:
    places, used = {}, [0] * config.pools
    for name in sorted(at, key=lambda n: (at[n], n)):
        s = net.shapes[name]
        places[name] = Place(name, at[name], s.stride, s.rows * s.groups, s.planes, "tensor", 0)
        for p in range(config.pools):
            top = min(at[name] + s.size, (p + 1) * config.pool_rows) - p * config.pool_rows
            used[p] = max(used[p], top if at[name] < (p + 1) * config.pool_rows else 0)
    return Allocation(places, {(n, 0): (at[n], tensors[n].size) for n in at}, used, tuple(loads))
