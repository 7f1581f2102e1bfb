"""The notebook runs from its first cell to its last, its assertions hold, and what it shows is what it gives."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[2] / "docs" / "digits.ipynb"
NUMBERS = re.compile(r"[\d.]+")


def said(book) -> list[str]:
    """What each code cell printed."""
    cells = (c for c in book.cells if c.cell_type == "code")
    return ["".join(o.text for o in c.outputs if o.get("name") == "stdout") for c in cells]


def test_notebook(tmp_path):
    stored = nbformat.read(BOOK, as_version=4)
    nbformat.validate(stored)
    fresh = nbformat.from_dict(stored)
    before = said(stored)
    NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = said(fresh)
    assert sum("assert" in c.source for c in fresh.cells) >= 6 and "none differs" in "".join(after)
    assert [NUMBERS.sub("#", text.split("hash")[0]) for text in before] == [
        NUMBERS.sub("#", text.split("hash")[0]) for text in after
    ], "the outputs that are shown have other words: run the notebook again"
    shown = re.search(r"classes \[(\d) (\d) (\d)\]", "".join(after))
    assert len(set(shown.groups())) >= 2, shown
    assert any("image/png" in o.get("data", {}) for c in fresh.cells if c.cell_type == "code" for o in c.outputs)
    assert (tmp_path / "build" / "simulate.json").is_file()
