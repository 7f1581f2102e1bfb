"""All blocks' netlists as one flat graph: nets run through the borders of blocks, no border counts as registered."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .netlist import Kinds, Netlist, number_of

_NOT_DATA = ("clk", "rst", "aclk", "aresetn")


@dataclass
class Design:
    """Nets are numbered over the whole design.

    arcs (source, target, kind), starts (net, kind), ends (net, kind, place, cell) ; loads : pins on each net
    inputs, outputs : the top's data ports, net -> name
    """

    kinds: Kinds = field(default_factory=Kinds)
    arcs: np.ndarray = None
    starts: np.ndarray = None
    ends: np.ndarray = None
    loads: np.ndarray = None
    inputs: dict[int, str] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)
    places: list["Place"] = field(default_factory=list)
    _first: list[int] = field(default_factory=list)

    def name(self, net: int) -> tuple[str, str, str]:
        """(path of instances, block, name in the block) of a net, where it has its own."""
        place = self.places[int(np.searchsorted(self._first, net, side="right")) - 1]
        local = int(place.own[net - place.first])
        return place.path, place.netlist.name, place.netlist.names.get(local, f"net{local}")

    def end_name(self, end: np.ndarray) -> tuple[str, str, str]:
        """The same of what takes an end: the register that a flip-flop is, or its cell."""
        _, _, number, cell = (int(x) for x in end)
        if number < 0:
            return "", self.places[0].netlist.name, self.outputs[int(end[0])]
        place = self.places[number]
        label = place.netlist.labels[cell]
        name = label if isinstance(label, str) else place.netlist.names.get(label, f"net{label}")
        return place.path, place.netlist.name, name

    def through(self) -> list[tuple[str, str]]:
        """Pairs of the top's ports with a way from input to output that no register interrupts."""
        source, target = self.arcs[np.argsort(self.arcs[:, 0], kind="stable"), :2].T
        first = np.searchsorted(source, np.arange(len(self.loads) + 1))
        found = set()
        for port in sorted({_port(name) for name in self.inputs.values()}):
            reached = np.zeros(len(self.loads), bool)
            new = np.array([net for net, name in self.inputs.items() if _port(name) == port])
            while len(new):
                reached[new] = True
                nets = [target[first[n] : first[n + 1]] for n in new]
                new = np.unique(np.concatenate(nets))
                new = new[~reached[new]]
            found |= {(port, _port(name)) for net, name in self.outputs.items() if reached[net]}
        return sorted(found)


def _port(name: str) -> str:
    return re.sub(r"\[\d+\]$", "", name)


@dataclass
class Place:
    """One instance of a block. own : local numbers of the nets that are not its ports, from ``first`` on."""

    path: str
    netlist: Netlist
    first: int
    own: np.ndarray


def flatten(netlists: Mapping[str, Netlist], top: str) -> Design:
    """The design below ``top``."""
    design = Design()
    arcs, starts, ends, loads = [], [], [], []
    count = 0

    def place(net: Netlist, path: str, given: dict[str, list[int]]) -> None:
        nonlocal count
        to = np.full(net.nets, -1)
        for port, (_, bits) in net.ports.items():
            for local, outer in zip(bits, given.get(port, ())):
                if local >= 0:
                    to[local] = outer
        inside = np.ones(net.nets, bool)
        for port in given:
            inside[[b for b in net.ports[port][1] if b >= 0]] = False
        own = np.flatnonzero(inside)
        to[own] = count + np.arange(len(own))
        number = len(design.places)
        design.places.append(Place(path, net, count, own))
        design._first.append(count)
        count += len(own)
        kinds = {
            table: np.array([number_of(getattr(design.kinds, table), k) for k in getattr(net.kinds, table)] or [0])
            for table in ("arc", "start", "end")
        }
        a = net.arcs
        rows = np.stack([to[a[:, 0]], to[a[:, 1]], kinds["arc"][a[:, 2]]], 1)
        arcs.append(rows[(rows[:, 0] >= 0) & (rows[:, 1] >= 0)])
        s = np.stack([to[net.starts[:, 0]], kinds["start"][net.starts[:, 1]]], 1)
        starts.append(s[s[:, 0] >= 0])
        e = net.ends
        e = np.stack([to[e[:, 0]], kinds["end"][e[:, 1]], np.full(len(e), number), e[:, 2]], 1)
        ends.append(e[e[:, 0] >= 0])
        used = to >= 0
        loads.append((to[used], net.loads[used]))
        for child in net.instances:
            outer = {p: [int(to[b]) if b >= 0 else -1 for b in bits] for p, bits in child.ports.items()}
            place(netlists[child.block], f"{path}.{child.name}" if path else child.name, outer)

    place(netlists[top], "", {})
    design.arcs, design.starts, design.ends = (np.concatenate(x) for x in (arcs, starts, ends))
    design.loads = np.zeros(count, int)
    for nets, n in loads:
        np.add.at(design.loads, nets, n)
    _ports(design, netlists[top])
    return design


def _ports(design: Design, top: Netlist) -> None:
    """The top's data ports as starts and ends of paths: a register of the neighbour's is taken to be at the pin."""
    place = design.places[0]
    at = {int(local): place.first + i for i, local in enumerate(place.own)}
    for port, (direction, bits) in top.ports.items():
        if port in _NOT_DATA:
            continue
        for i, local in enumerate(bits):
            if local >= 0:
                (design.inputs if direction == "input" else design.outputs)[at[local]] = f"{port}[{i}]"
    starts = np.array([(net, number_of(design.kinds.start, "PORT")) for net in design.inputs], int).reshape(-1, 2)
    ends = np.array([(net, number_of(design.kinds.end, "PORT"), -1, -1) for net in design.outputs], int).reshape(-1, 4)
    design.starts = np.concatenate([design.starts, starts])
    design.ends = np.concatenate([design.ends, ends])
