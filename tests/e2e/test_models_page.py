"""docs/models.md is what its command writes: some of its rows, made again."""

import importlib.util
import re
from pathlib import Path

import pytest

from vitforge_hw.arch.config import PRESETS

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("models_page", ROOT / "scripts" / "models_page.py")
models_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(models_page)
LINES = models_page.PAGE.read_text().splitlines()


def test_every_name_has_its_row_in_order():
    assert re.findall(r"^\| `(\w+)` \|", "\n".join(LINES), re.M) == models_page.NAMES
    assert len(set(models_page.NAMES)) == len(models_page.NAMES) >= 40
    assert f"| {' | '.join(models_page.COLUMNS)} |" in LINES
    seconds = re.search(r"written by one command \((\d+) s of one core\)", "\n".join(LINES))
    assert int(seconds[1]) < 120


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "vit_tiny_patch16_384", "vit_large_patch32_384", "efficientvit_b0", "resnet50"]
)
def test_rows_are_made_again(name):
    assert models_page.Table().row(name) in LINES


def test_no_row_is_silent():
    """What fits nowhere says what is in the way, what fits says nothing."""
    for line in LINES[LINES.index(models_page.RULE) + 1 :]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(models_page.COLUMNS) and bool(cells[2]) == (cells[3] == ""), line
        assert set(filter(None, cells[2].split(", "))) <= set(PRESETS), line
