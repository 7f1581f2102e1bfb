"""Why mutants that no test kills may stay: what people found when they looked at each, in survivors/*.toml."""

import dataclasses
import fnmatch
import tomllib
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).with_name("survivors")


@dataclasses.dataclass(frozen=True)
class Reason:
    """blocks: patterns of names; what: mutants as `Mutation.what` says; why: in a sentence."""

    blocks: tuple[str, ...]
    what: tuple[str, ...]
    why: str

    def covers(self, block: str, what: str) -> bool:
        return what in self.what and any(fnmatch.fnmatchcase(block, pattern) for pattern in self.blocks)


def load(folder: Path = FOLDER) -> list[Reason]:
    """All reasons of ``folder``. ValueError for an entry that is not of blocks, what and why."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(path.read_text()).get("survivor", []):
            if set(entry) != {"blocks", "what", "why"} or not entry["why"].strip():
                raise ValueError(f"{path.name}: a survivor must have blocks, what and why, not {sorted(entry)}")
            found.append(Reason(tuple(entry["blocks"]), tuple(entry["what"]), entry["why"].strip()))
    return found


def explained(reasons: Iterable[Reason], survivors: Iterable[tuple[str, str]]):
    """{reason: [(block, what)]} of the survivors, and [(block, what)] of those without one.

    ValueError for a reason that covers no survivor: it is out of date.
    """
    by_reason: dict[Reason, list[tuple[str, str]]] = {reason: [] for reason in reasons}
    without = []
    for block, what in survivors:
        reason = next((r for r in by_reason if r.covers(block, what)), None)
        (by_reason[reason] if reason else without).append((block, what))
    if idle := [r for r, covered in by_reason.items() if not covered]:
        raise ValueError(f"survivors: no survivor needs the reason {idle[0].why!r} ({', '.join(idle[0].blocks)})")
    return by_reason, without
