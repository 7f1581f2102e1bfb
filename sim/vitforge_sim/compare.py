"""Compare what the RTL wrote with the golden model, tensor by tensor, and name the first difference."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import AcceleratorConfig


@dataclasses.dataclass(frozen=True)
class WriteList:
    """The writes of one port for one image, in program order: five arrays of equal length.

    addr: buffer row; tensor: index into ``names``; group: tokens group * cores ...; block: channel block;
    plane: 0 low (or only) bytes, 1 high bytes.
    """

    names: Sequence[str]
    addr: np.ndarray
    tensor: np.ndarray
    group: np.ndarray
    block: np.ndarray
    plane: np.ndarray


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


def _valid(tokens: int, channels: int, config: AcceleratorConfig) -> np.ndarray:
    """(groups, blocks, row bytes): which bytes of a tensor's rows belong to it."""
    return memmap.to_rows(np.ones((tokens, channels), np.int64), config.cores, config.word).astype(bool)


def compare_port(
    port: str,
    writes: WriteList,
    golden: Mapping[str, np.ndarray],
    formats: Mapping[str, tuple[int, int, bool]],
    records: np.ndarray,
    images: int,
    config: AcceleratorConfig,
) -> tuple[list[TensorReport], Mismatch | None]:
    """Check one port's records against ``golden``.

    golden: tensor -> integers (images, tokens, channels); formats: tensor -> (lowest, highest, two planes);
    records: the monitor's (cycle, addr, data). Order, number and addresses of the writes are checked as well: a
    difference there is a mismatch of the tensor whose write was due. Returns a report per tensor, and the first
    mismatch by cycle.
    """
    count = len(writes.addr)
    due = count * images
    first: Mismatch | None = None
    if len(records) != due:
        n = min(len(records), due - 1)
        where = n % count
        name = writes.names[writes.tensor[where]]
        got = len(records) - due
        cycle = int(records["cycle"][-1]) if len(records) else 0
        first = Mismatch(n // count, name, f"{name} (number of writes of port {port})", (where,), due, due + got, cycle)
    usable = min(len(records), due)
    wrong_address = np.flatnonzero(records["addr"][:usable] != np.tile(writes.addr, images)[:usable])
    if wrong_address.size:
        i = int(wrong_address[0])
        name = writes.names[writes.tensor[i % count]]
        at = (int(writes.group[i % count]), int(writes.block[i % count]))
        want, got = int(writes.addr[i % count]), int(records["addr"][i])
        what = f"{name} (row address on port {port})"
        found = Mismatch(i // count, name, what, at, want, got, int(records["cycle"][i]))
        first = found if first is None or found.cycle < first.cycle else first
    complete = usable // count  # whole images that can be compared byte for byte
    data = records["data"][: complete * count].reshape(complete, count, -1)[:, :, : config.row_bytes]
    cycles = records["cycle"][: complete * count].reshape(complete, count)

    reports = []
    for index, name in enumerate(writes.names):
        lowest, highest, wide = formats[name]
        mine = np.flatnonzero(writes.tensor == index)
        images_, tokens, channels = golden[name].shape
        expected = np.stack([memmap.to_rows(golden[name][i], config.cores, config.word, wide) for i in range(complete)])
        rows = writes.block[mine] * (2 if wide else 1) + writes.plane[mine]
        expected = expected[:, writes.group[mine], rows]
        mask = _valid(tokens, channels, config)[writes.group[mine], writes.block[mine]]
        differs = (data[:, mine] != expected) & mask
        bad = int(differs.sum())
        reports.append(tensor_report(name, golden[name][:complete], lowest, highest, bad))
        if bad:
            places = np.argwhere(differs)
            earliest = np.argmin(cycles[:, mine][places[:, 0], places[:, 1]])
            image, write, byte = (int(v) for v in places[earliest])
            w = mine[write]
            token = int(writes.group[w]) * config.cores + byte // config.word
            channel = int(writes.block[w]) * config.word + byte % config.word
            want = int(golden[name][image, token, channel])
            raw = int(data[image, w, byte])
            if wide:
                got = (want & ~0xFF) | raw if writes.plane[w] == 0 else (want & 0xFF) | ((raw ^ 0x80) - 0x80) << 8
            else:
                got = (raw ^ 0x80) - 0x80
            found = Mismatch(image, name, name, (token, channel), want, got, int(cycles[image, w]))
            first = found if first is None or found.cycle < first.cycle else first
    return reports, first
