"""Values inside the units: packed monitor records to integers, compared with the golden model's."""

import dataclasses
from collections.abc import Callable

import numpy as np

from vitforge_sw.compiler.layers.batch import part_of

from .compare import Mismatch, TensorReport, tensor_report


def unpack_fields(data: np.ndarray, bits: int, count: int, signed: bool) -> np.ndarray:
    """Records (n, bytes) of ``count`` packed fields of ``bits`` bits, lowest first, to int64 (n, count)."""
    flat = np.unpackbits(np.ascontiguousarray(data), axis=1, bitorder="little")[:, : bits * count]
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    return flat.reshape(len(data), count, bits).astype(np.int64) @ weights


@dataclasses.dataclass(frozen=True)
class Due:
    """What one record of a tap must hold: layer, place (group, block), golden values (images, fields).

    Only the first ``values.shape[1]`` fields are compared, of those the ``valid`` ones (None: all): the others belong
    to no token. ``index``: how a field is shown (None: place and number). ``first``: first image that is compared."""

    layer: str
    place: tuple[int, int]
    values: np.ndarray
    valid: np.ndarray | None = None
    index: Callable[[int], tuple[int, ...]] | None = None
    first: int = 0


def compare_tap(
    tap: str,
    due: dict[int, Due],
    per_image: int,
    records: np.ndarray,
    images: int,
    bits: int,
    count: int,
    signed: bool,
    shown: Callable[[str], str] = str,
) -> tuple[list[TensorReport], Mismatch | None]:
    """Check a tap's records: ``due[i]`` is what record ``i`` of each image must hold; records not in ``due`` are only
    counted. A wrong number of records is a mismatch. Returns a report per layer (named ``shown``) and the first
    mismatch."""
    if len(records) != per_image * images:
        image, at = divmod(max(0, min(len(records), per_image * images - 1)), max(1, per_image))
        known = [i for i in due if i <= at] or list(due)
        layer = due[known[-1]].layer if known else tap
        cycle = int(records["cycle"][-1]) if len(records) else 0
        what = part_of(layer, f".{tap} (number of records)")
        return [], Mismatch(image, layer, what, (at,), per_image * images, len(records), cycle)
    first, layers = None, {}
    places = np.array(sorted(due), np.int64)
    for image in range(images):
        mine = records[image * per_image + places]
        got = unpack_fields(mine["data"], bits, count, signed)
        for row, (i, cycle) in enumerate(zip(places, mine["cycle"])):
            item = due[int(i)]
            if image < item.first:
                continue
            want = item.values[image]
            differs = got[row, : len(want)] != want
            valid = slice(None) if item.valid is None else item.valid
            wrong = np.flatnonzero(differs if item.valid is None else differs & valid)
            entry = layers.setdefault(shown(item.layer), [[], 0])
            entry[0].append(want[valid])
            if wrong.size:
                entry[1] += wrong.size
                if first is None or cycle < first.cycle:
                    j = int(wrong[0])
                    index = item.index(j) if item.index else (*item.place, j)
                    name = part_of(item.layer, f".{tap}")
                    first = Mismatch(image, item.layer, name, index, int(want[j]), int(got[row, j]), int(cycle))
    limit = (1 << (bits - 1)) if signed else 1 << bits
    reports = [
        tensor_report(f"{layer}.{tap}", np.concatenate(values), -limit, limit - 1, bad)
        for layer, (values, bad) in layers.items()
    ]
    return reports, first
