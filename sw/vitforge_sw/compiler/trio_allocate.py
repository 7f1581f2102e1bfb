"""Where an EfficientViT's tensors live: fixed addresses, shared by tensors that are never needed at the same time.

Lifetimes come from the sequential order of the runs. The input's place is kept free from an early point of the program
on, so that the next image is loaded while this one is at work. Largest tensors first, each where its pool differs from
those of the tensors that the same layers read or write.
"""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig

from ..graph.ir import inputs_of
from .allocate import Allocation, Place
from .trio_network import TrioNetwork
from .trio_schedule import Run

SLACKS = (16, 8, 4, 2, 1, 0)  #: runs for which a place rests before it is reused: the tensors' rows may overlap in time


@dataclasses.dataclass
class Life:
    """A tensor of ``size`` rows, needed in the closed intervals of run numbers ``spans``."""

    name: str
    size: int
    spans: list[tuple[int, int]]

    def meets(self, other: "Life", slack: int) -> bool:
        return any(a <= d + slack and c <= b + slack for a, b in self.spans for c, d in other.spans)


def lives(net: TrioNetwork, runs: list[Run], early: int) -> dict[str, Life]:
    """``early``: run from which on the input's place is kept for the next image."""
    first: dict[str, int] = {net.graph.input: -1}
    last: dict[str, int] = {net.graph.output: len(runs)}
    for n, run in enumerate(runs):
        node = net.layers[run.layer].node
        first.setdefault(node.out.name, n)
        for ref in inputs_of(node):
            last[ref.name] = n
    out = {}
    for name, shape in net.shapes.items():
        spans = [(first[name], last[name])]
        if name == net.graph.input:
            spans.append((max(early, last[name] + 1), len(runs)))
        out[name] = Life(name, shape.size, spans)
    return out


def neighbours(net: TrioNetwork) -> dict[str, set[str]]:
    """Tensors that one layer reads or writes together with each tensor."""
    out: dict[str, set[str]] = {name: set() for name in net.shapes}
    for layer in net.layers:
        names = {r.name for r in (*inputs_of(layer.node), layer.node.out)} & set(out)
        for name in names:
            out[name] |= names - {name}
    return out


def allocate_trio(net: TrioNetwork, config: AcceleratorConfig, runs: list[Run]) -> Allocation:
    """Addresses of every tensor; ValueError with the sizes where the buffer is too small."""
    stages = [0, len(runs) // 4, len(runs) // 2, 3 * len(runs) // 4, len(runs)]
    for early in stages:
        for slack in SLACKS:
            tensors = lives(net, runs, early)
            at = _place(tensors, neighbours(net), config, slack)
            if at is not None:
                return _allocation(net, config, tensors, at)
    peak, names = _peak(lives(net, runs, len(runs)), len(runs))
    text = ", ".join(f"{n} {net.shapes[n].size}" for n in names)
    raise ValueError(
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
    tensors: dict[str, Life], near: dict[str, set[str]], config: AcceleratorConfig, slack: int
) -> dict[str, int] | None:
    """Address of each tensor, or None where they do not fit."""
    at: dict[str, int] = {}

    def pools(name: str, address: int) -> set[int]:
        return set(range(address // config.pool_rows, (address + tensors[name].size - 1) // config.pool_rows + 1))

    for tight in (False, True):
        at.clear()
        for t in sorted(tensors.values(), key=lambda t: (-t.size, t.name)):
            taken = sorted((at[n], at[n] + tensors[n].size) for n in at if tensors[n].meets(t, slack))
            gaps, top = [], 0
            for a, b in (*taken, (config.act_rows, config.act_rows)):
                if a - top >= t.size:
                    gaps.append((top, a))
                top = max(top, b)
            if not gaps:
                break
            starts = [a for a, _ in gaps]
            if not tight:
                edges = range(0, config.act_rows, config.pool_rows)
                starts += [e for e in edges for a, b in gaps if a < e <= b - t.size]
            others = [pools(n, at[n]) for n in near[t.name] if n in at]
            at[t.name] = min(starts, key=lambda a: (0 if tight else sum(bool(pools(t.name, a) & o) for o in others), a))
        else:
            return at
    return None


def _allocation(
    net: TrioNetwork, config: AcceleratorConfig, tensors: dict[str, Life], at: dict[str, int]
) -> Allocation:
    places, used = {}, [0] * config.pools
    for name in sorted(at, key=lambda n: (at[n], n)):
        s = net.shapes[name]
        places[name] = Place(name, at[name], s.stride, s.rows * s.groups, s.planes, "tensor", 0)
        for p in range(config.pools):
            top = min(at[name] + s.size, (p + 1) * config.pool_rows) - p * config.pool_rows
            used[p] = max(used[p], top if at[name] < (p + 1) * config.pool_rows else 0)
    return Allocation(places, {(n, 0): (at[n], tensors[n].size) for n in at}, used)
