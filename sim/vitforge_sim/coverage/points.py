"""Verilator's coverage files: which points a run reached, added over runs and over equal modules of other designs.

A point is a branch of the Verilog (``line``) or one bit that rises or falls (``toggle``). Instances of a module add
up. Modules are the same where their Verilog is the same but for comments and their name, so that a unit's own bench
counts too.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

KINDS = {"v_line": "line", "v_branch": "line", "v_toggle": "toggle"}
_MODULE = re.compile(r"^\s*module\s+(\S+?)\s*[(;].*?^\s*endmodule", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\(\*.*?\*\)", re.DOTALL)


@dataclasses.dataclass(frozen=True, order=True)
class Point:
    """kind: "line" or "toggle"; line: from the module's first; name: what Verilator calls it ("if", "else",
    "signal[3]:0->1")."""

    module: str
    kind: str
    line: int
    name: str


def modules(verilog: str) -> Iterator[tuple[str, int, int, str]]:
    """(name, first line, last line, identity) of every module of a file; two have the same identity where they differ
    in comments, attributes and their name alone, with which the names of the modules in it begin."""
    plain = _COMMENT.sub(lambda found: "\n" * found[0].count("\n") + " ", verilog)
    for found in _MODULE.finditer(plain):
        first, last = (plain.count("\n", 0, place) + 1 for place in (found.start(1), found.end()))
        text = re.sub(rf"\b{re.escape(found[1])}(?=_|\b)", "@", " ".join(found[0].split()))
        yield found[1], first, last, hashlib.sha256(text.encode()).hexdigest()


def raw_points(path: Path) -> Iterator[tuple[str, str, int, str, int]]:
    """(file, kind, line, name, count) of a file that Verilator wrote.

    Raises ValueError for a file that is none.
    """
    with open(path, encoding="utf-8", errors="replace") as lines:
        if not next(lines, "").startswith("# SystemC::Coverage"):
            raise ValueError(f"coverage file {path} must start with '# SystemC::Coverage'")
        for line in lines:
            if not line.startswith("C '"):
                continue
            body, _, count = line.rpartition("' ")
            fields = _fields(body[3:])
            kind = KINDS.get(fields.get("page", "").split("/")[0])
            if kind:
                yield fields["f"], kind, int(fields["l"]), fields.get("o", ""), int(count)


def _fields(body: str) -> dict[str, str]:
    return dict(part.split("\x02", 1) for part in body.split("\x01") if "\x02" in part)


class Coverage:
    """Counts of the points of one design: ``sources`` maps file names to their Verilog."""

    def __init__(self, sources: Mapping[str, str]):
        self.counts: dict[Point, int] = {}
        self._known: dict[str, list[str]] = {}
        for text in sources.values():
            for name, _, _, same in modules(text):
                self._known.setdefault(same, []).append(name)

    def add(self, data: Path, folder: Path) -> int:
        """Add one run's counts; ``folder``: of the program's Verilog. Returns how many points of this design it had."""
        places = functools.cache(lambda name: self._places(folder / name))
        found = 0
        for name, kind, line, what, count in raw_points(data):
            for first, last, same in places(name):
                if first <= line <= last:
                    found += 1
                    for module in same:
                        point = Point(module, kind, line - first, what)
                        self.counts[point] = self.counts.get(point, 0) + count
                    break
        return found

    def _places(self, path: Path) -> list[tuple[int, int, list[str]]]:
        found = modules(path.read_text()) if path.exists() else ()
        return [(first, last, self._known[same]) for _, first, last, same in found if same in self._known]

    def absorb(self, folder: Path, programs: Path) -> int:
        """Add and remove every finished file in ``folder``; ``programs``: the cache. Returns the number of files."""
        files = sorted(folder.glob("*.dat"))
        for path in files:
            self.add(path, programs / path.name.split(".")[0])
            path.unlink()
        return len(files)
