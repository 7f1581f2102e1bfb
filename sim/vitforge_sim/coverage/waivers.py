"""Points that need not be reached, each with its reason: waivers.toml beside this file."""

import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .points import Point

FILE = Path(__file__).with_name("waivers.toml")
LIMIT = 0.05  #: of all points


@dataclasses.dataclass(frozen=True)
class Waiver:
    """Points of kind ``kind`` whose module and name match the patterns (fnmatch, ``[`` taken as it stands)."""

    module: str
    name: str
    reason: str
    kind: str = "toggle"

    def __post_init__(self):
        if not self.reason.strip():
            raise ValueError(f"waiver of {self.module} {self.name}: reason must not be empty")

    def matches(self, point: Point) -> bool:
        def like(text: str, pattern: str) -> bool:
            return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))

        return point.kind == self.kind and like(point.module, self.module) and like(point.name, self.name)


def load(path: Path = FILE) -> list[Waiver]:
    """The waivers of a file. Raises ValueError for one without a reason or with an unknown field."""
    try:
        return [Waiver(**entry) for entry in tomllib.loads(path.read_text()).get("waiver", [])]
    except (TypeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def waived(counts: Mapping[Point, int], waivers: Sequence[Waiver]) -> dict[Point, Waiver]:
    """The unreached points that a waiver names.

    Raises ValueError for a waiver that no unreached point needs, and for more than LIMIT of all points.
    """
    out: dict[Point, Waiver] = {}
    missed = [point for point, count in counts.items() if not count]
    for waiver in waivers:
        found = [point for point in missed if waiver.matches(point)]
        if not found:
            raise ValueError(f"waiver of {waiver.module} {waiver.name}: no point needs it any more")
        out |= dict.fromkeys(found, waiver)
    if len(out) > LIMIT * len(counts):
        raise ValueError(f"waivers: {len(out)} of {len(counts)} points, at most {LIMIT:.0%} may be waived")
    return out


def shares(counts: Mapping[Point, int], left_out: Iterable[Point] = ()) -> dict[str, tuple[int, int]]:
    """Kind -> (reached, all), without ``left_out``."""
    skip, out = set(left_out), {"line": (0, 0), "toggle": (0, 0)}
    for point, count in counts.items():
        if point not in skip:
            reached, total = out[point.kind]
            out[point.kind] = (reached + (count > 0), total + 1)
    return out
