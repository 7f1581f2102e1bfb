"""docs/inputs.md names a test for every kind of input: they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "inputs.md"
_OF = {name: f"checkpoint_{name}" for name in ("files", "nesting", "names", "libraries", "adapted", "tensors")}
_OF |= {name: name for name in ("labels", "pixels", "images", "checkpoint")}
FILES = {short: f"tests/sw/models/test_{name}.py" for short, name in _OF.items()}  #: the page's short names


def named() -> list[tuple[str, str]]:
    """(file, test) of the tables' last column: `name` in `file`, or the page's short names of files of this folder."""
    out = []
    for section in PAGE.read_text().split("\n## "):
        whole = re.search(r"^Functions of `(tests/[\w/]+\.py)`", section, re.M)
        for line in section.splitlines():
            if line.startswith("|") and "`" in (cell := line.split("|")[-2]):
                for part in cell.split(";"):
                    short, _, names = part.rpartition(": ")
                    names, _, file = names.partition(" in ")
                    file = file.strip(" `") or (whole[1] if whole else FILES.get(short.strip(), ""))
                    out += [(file, name) for name in re.findall(r"`(\w+)`", names) if file]
    return out


@pytest.mark.parametrize("file", sorted({file for file, _ in named()}))
def test_every_test_named_exists(file):
    functions = set(re.findall(r"^def test_(\w+)", (ROOT / file).read_text(), re.M))
    mentioned = {name for where, name in named() if where == file}
    assert mentioned and mentioned <= functions, mentioned - functions


def test_every_kind_has_its_test():
    assert len(named()) > 100 and set(FILES.values()) <= {file for file, _ in named()}
