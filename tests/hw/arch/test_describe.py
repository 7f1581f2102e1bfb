"""The generated pages in docs/ are those of the declarations."""

from pathlib import Path

import pytest

from vitforge_hw.arch.describe import PAGES

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert (DOCS / name).read_text() == PAGES[name](), "run python -m vitforge_hw.arch.describe docs"
