"""Compare what the RTL wrote with the golden model, tensor by tensor, and name the first difference."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitforge_sw.compiler.layers.batch import part_of

from .layouts import Layout


@dataclasses.dataclass(frozen=True)
class WriteList:
    """The writes of one port for one image, in program order: four arrays of equal length.

    addr: row of the memory; tensor: index into ``names``; group, row: what of the tensor's layout is written
    (activation buffer: tokens group * cores ..., row block * planes + plane).
    """

    names: Sequence[str]
    addr: np.ndarray
    tensor: np.ndarray
    group: np.ndarray
    row: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """The first difference: where, what was expected, what came, when."""

    image: int
    layer: str
    tensor: str
    index: tuple[int, ...]
    expected: int
    got: int
    cycle: int

    def __str__(self) -> str:
        return (
            f"image {self.image}, layer {self.layer}, tensor {self.tensor}, index {list(self.index)}: "
            f"expected {self.expected}, got {self.got}, cycle {self.cycle}"
        )


@dataclasses.dataclass
class TensorReport:
    """One tensor over all images: how many elements were compared, how many differ, and how alive it is."""

    name: str
    elements: int
    mismatches: int
    distinct: int
    zero_fraction: float
    saturated_fraction: float


def tensor_report(name: str, values: np.ndarray, lowest: int, highest: int, mismatches: int) -> TensorReport:
    """Statistics of all compared values (any shape)."""
    flat = values.reshape(-1)
    saturated = np.count_nonzero((flat == lowest) | (flat == highest))
    zeros = flat.size - np.count_nonzero(flat)
    return TensorReport(
        name, int(flat.size), int(mismatches), int(np.unique(flat).size), zeros / flat.size, saturated / flat.size
    )


@dataclasses.dataclass
class Part:
    """What one port wrote of a tensor: complete images, which rows (groups, rows), how many bytes differ."""

    images: int
    written: np.ndarray
    mismatches: int


def compare_port(
    port: str, writes: WriteList, layouts: Mapping[str, Layout], records: np.ndarray, images: int
) -> tuple[dict[str, Part], Mismatch | None]:
    """Check one port's records (cycle, addr, data) against the golden tensors in ``layouts``.

    Order, number and addresses of the writes are checked as well: a difference there is a mismatch of the tensor whose
    write was due. Returns what was compared of every tensor, and the first mismatch by cycle.
    """
    count = len(writes.addr)
    due = count * images
    first: Mismatch | None = None
    if len(records) != due:
        n = max(0, min(len(records), due - 1))
        image, where = divmod(n, max(count, 1))
        name = writes.names[writes.tensor[where]] if count else port
        cycle = int(records["cycle"][-1]) if len(records) else 0
        what = part_of(name, f" (number of writes of port {port})")
        first = Mismatch(image, name, what, (where,), due, len(records), cycle)
    usable = min(len(records), due)
    wrong_address = np.flatnonzero(records["addr"][:usable] != np.tile(writes.addr, images)[:usable])
    if wrong_address.size:
        i = int(wrong_address[0])
        name = writes.names[writes.tensor[i % count]]
        at = (int(writes.group[i % count]), int(writes.row[i % count]))
        want, got = int(writes.addr[i % count]), int(records["addr"][i])
        what = part_of(name, f" (row address on port {port})")
        found = Mismatch(i // count, name, what, at, want, got, int(records["cycle"][i]))
        first = found if first is None or found.cycle < first.cycle else first
    complete = usable // count if count else 0  # whole images that can be compared byte for byte
    data = records["data"][: complete * count].reshape(complete, count, records["data"].shape[1])
    cycles = records["cycle"][: complete * count].reshape(complete, count)

    parts = {}
    for index, name in enumerate(writes.names):
        layout = layouts[name]
        mine = np.flatnonzero(writes.tensor == index)
        place = writes.group[mine], writes.row[mine]
        expected = np.zeros((complete, len(mine), layout.valid.shape[2]), np.uint8)
        for i in range(complete):
            expected[i] = layout.rows(i)[place]
        differs = (data[:, mine, : expected.shape[2]] != expected) & layout.valid[place]
        differs[: layout.first] = False
        written = np.zeros(layout.valid.shape[:2], bool)
        written[place] = True
        bad = int(differs.sum())
        parts[name] = Part(complete, written, bad)
        if bad:
            places = np.argwhere(differs)
            earliest = np.argmin(cycles[:, mine][places[:, 0], places[:, 1]])
            image, write, byte = (int(v) for v in places[earliest])
            w = mine[write]
            token, channel = layout.element(int(writes.group[w]), int(writes.row[w]), byte)
            want = int(layout.values[image, token, channel])
            got = layout.with_byte(want, int(writes.row[w]), int(data[image, w, byte]))
            found = Mismatch(image, name, name, layout.index(token, channel), want, got, int(cycles[image, w]))
            first = found if first is None or found.cycle < first.cycle else first
    return parts, first


def port_reports(
    parts: Sequence[Mapping[str, Part]], layouts: Mapping[str, Layout], shown: Callable[[str], str] = str
) -> list[TensorReport]:
    """A report per tensor from what all ports wrote of it (two engines share a tensor row by row). ``shown``: the name
    in the report, the same for the tensor of each image of a batch."""
    merged: dict[str, list[Part]] = {}
    for each in parts:
        for name, part in each.items():
            merged.setdefault(name, []).append(part)
    values: dict[str, list[np.ndarray]] = {}
    wrong: dict[str, int] = {}
    for name, mine in merged.items():
        layout, images = layouts[name], min(p.images for p in mine)
        if images:
            written = layout.elements(np.logical_or.reduce([p.written for p in mine]))
            compared = layout.values[layout.first : images][:, written]
            values.setdefault(shown(name), []).append(compared.reshape(-1))
            wrong[shown(name)] = wrong.get(shown(name), 0) + sum(p.mismatches for p in mine)
    ends = {shown(name): layout.ends for name, layout in layouts.items()}
    return [tensor_report(name, np.concatenate(v), *ends[name], wrong[name]) for name, v in values.items()]
