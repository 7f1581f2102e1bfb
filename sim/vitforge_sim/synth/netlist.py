"""One block's netlist as arrays: what static timing and the tables need of Yosys' JSON."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from . import primitives


@dataclass
class Instance:
    """A child block: its name here, its block, and the net of every bit of its ports (-1: constant or open)."""

    name: str
    block: str
    ports: dict[str, list[int]]


@dataclass
class Kinds:
    """The kinds of arcs, starts and ends that the arrays' last columns number."""

    arc: dict[str, int] = field(default_factory=dict)
    start: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)


def number_of(kinds: dict[str, int], kind: str) -> int:
    """Its number, a new one if it is new."""
    return kinds.setdefault(kind, len(kinds))


@dataclass
class Netlist:
    """Nets are numbered 0..nets-1.

    ports : name -> (direction, net of each bit)
    arcs, starts, ends : integer arrays of (source, target, kind), (net, kind), (net, kind, cell); kinds numbered in
        ``kinds``
    loads : pins of this block's own cells on each net, clocks left out
    names : net -> readable name, where it has one
    cells : Counter of cell types
    labels : cell -> net or name that stands for an end in reports
    """

    name: str
    nets: int
    ports: dict[str, tuple[str, list[int]]]
    arcs: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    loads: np.ndarray
    names: dict[int, str]
    cells: Counter
    labels: list[int | str]
    instances: list[Instance]
    kinds: "Kinds"
    periods: Counter


def netlist(name: str, module: dict, blocks: set[str]) -> Netlist:
    """``module`` as mapping.cells returns it; cells whose type is in ``blocks`` are instances."""
    number: dict[int, int] = {}

    def net(bit) -> int:
        return number.setdefault(bit, len(number)) if isinstance(bit, int) else -1

    ports = {p: (v["direction"], [net(b) for b in v["bits"]]) for p, v in module["ports"].items()}
    kinds = Kinds()
    arcs, starts, ends, loaded = [], [], [], []
    labels: list[int | str] = []
    cells: Counter = Counter()
    periods: Counter = Counter()
    instances = []
    for cell_name, cell in module["cells"].items():
        kind, connected = cell["type"], cell["connections"]
        if kind in blocks:
            instances.append(Instance(cell_name, kind, {p: [net(b) for b in v] for p, v in connected.items()}))
            continue
        cells[kind] += 1
        pins = {p: [net(b) for b in bits] for p, bits in connected.items()}
        for p in primitives.loads(cell):
            loaded += [n for n in pins[p][:: primitives.BITS_A_LOAD.get(p, 1)] if n >= 0]
        for arc in primitives.arcs(cell):
            if arc.source in pins and arc.target in pins:
                source, target = pins[arc.source][arc.source_bit], pins[arc.target][arc.target_bit]
                if source >= 0 and target >= 0:
                    arcs.append((source, target, number_of(kinds.arc, arc.kind)))
        for start in primitives.starts(cell):
            kind_number = number_of(kinds.start, start.kind)
            starts += [(n, kind_number) for n in pins[start.pin] if n >= 0]
        found = list(primitives.ends(cell))
        if found:
            outputs = [n for p in primitives.pins(cell, "output") for n in pins[p] if n >= 0]
            flip_flop = primitives.FLIP_FLOP.match(kind) and outputs
            labels.append(outputs[0] if flip_flop else f"{kind} {_short(cell_name)}")
            for end in found:
                kind_number = number_of(kinds.end, end.kind)
                ends += [(n, kind_number, len(labels) - 1) for n in pins[end.pin] if n >= 0]
        if inner := primitives.inner(cell):
            periods[inner] += 1
    loads = np.bincount(np.array(loaded, int), minlength=len(number)) if loaded else np.zeros(len(number), int)
    return Netlist(
        name, len(number), ports, _rows(arcs, 3), _rows(starts, 2), _rows(ends, 3), loads,
        _names(module["netnames"], number), cells, labels, instances, kinds, periods,
    )  # fmt: skip


def _rows(found: list[tuple], columns: int) -> np.ndarray:
    return np.array(found, int).reshape(-1, columns)


def _short(cell: str) -> str:
    """A cell's name without what Yosys appended."""
    return cell.split("$")[0].rstrip(".") or "cell"


def _names(netnames: dict, number: dict[int, int]) -> dict[int, str]:
    """The shortest name of each net, the shallowest in the hierarchy first."""
    best: dict[int, tuple] = {}
    for name, bits in netnames.items():
        if "$" in name:
            continue
        rank = (name.count("."), len(name), name)
        for i, bit in enumerate(bits):
            if isinstance(bit, int) and bit in number:
                n = number[bit]
                if n not in best or rank < best[n][0]:
                    best[n] = (rank, f"{name}[{i}]" if len(bits) > 1 else name)
    return {n: text for n, (_, text) in best.items()}


def count(cells: Counter) -> dict[str, float]:
    """Resources of synth.json from cell types; also ``lutram`` and ``srl``, the part of ``lut`` that they are."""
    out = dict.fromkeys(("dsp", "lut", "lutram", "srl", "ff", "bram36", "uram"), 0.0)
    for kind, n in cells.items():
        if primitives.LUT_RAM.match(kind):
            out["lutram"] += n * primitives.LUTS_OF_RAM.get(kind, 4)
        elif primitives.LUT.match(kind) or kind in ("LUT4", "PFUMX", "L6MUX21", "CCU2C"):
            # an ECP5 carry cell takes two LUTs, its wide multiplexers none
            out["lut"] += n * {"PFUMX": 0, "L6MUX21": 0, "CCU2C": 2}.get(kind, 1)
        elif primitives.SHIFT.match(kind):
            out["srl"] += n
        elif primitives.FLIP_FLOP.match(kind):
            out["ff"] += n
        elif primitives.DSP.match(kind):
            out["dsp"] += n
        elif kind.startswith("URAM"):
            out["uram"] += n
        elif primitives.BLOCK_RAM.match(kind):
            out["bram36"] += n * (0.5 if kind.startswith("RAMB18") else 1)
    out["lut"] += out["lutram"] + out["srl"]
    return {k: int(v) if v == int(v) else v for k, v in out.items()}
