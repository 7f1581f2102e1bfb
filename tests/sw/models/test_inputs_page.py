"""docs/inputs.md names a test for every kind of input: they exist."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[2] / "docs" / "inputs.md"
FILES = {name: f"test_{name}.py" for name in ("labels", "pixels", "images", "checkpoint")} | {
    name: f"test_checkpoint_{name}.py" for name in ("files", "nesting", "names", "libraries", "adapted", "tensors")
}


def named() -> list[tuple[str, str]]:
    """(file, test) of the tables' last column."""
    out = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("|") and "`" in (cell := line.split("|")[-2]):
            for part in cell.split(";"):
                file, _, names = part.partition(":")
                out += [(FILES[file.strip()], name) for name in re.findall(r"`(\w+)`", names)]
    return out


@pytest.mark.parametrize("file", sorted(set(FILES.values())))
def test_every_test_named_exists(file):
    functions = set(re.findall(r"^def test_(\w+)", (FOLDER / file).read_text(), re.M))
    mentioned = {name for where, name in named() if where == file}
    assert mentioned and mentioned <= functions, mentioned - functions
