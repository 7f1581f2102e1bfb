"""Layouts of tensors in buffer rows and in DRAM, against loops over single elements."""

import numpy as np
import pytest

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import get_config


@pytest.mark.parametrize("height, width, channels", [(3, 7, 16), (2, 8, 40), (5, 15, 3), (1, 1, 16)])
@pytest.mark.parametrize("wide", [False, True])
def test_map_rows(height, width, channels, wide):
    """Pixel (y, x): token x % cores of group y * G + x // cores; the padding has the fill value."""
    c = get_config("trio")
    rng = np.random.default_rng(height * 100 + width)
    lo, hi = (-2048, 2048) if wide else (-128, 128)
    x = rng.integers(lo, hi, (height * width, channels))
    rows = memmap.to_map_rows(x, height, width, c.cores, c.word, wide, fill=-5)
    groups, blocks = -(-width // c.cores), -(-channels // c.word)
    assert rows.shape == (height * groups, blocks * (1 + wide), c.row_bytes) and rows.dtype == np.uint8
    for y in range(height):
        for column in range(groups * c.cores):
            for channel in range(blocks * c.word):
                row = rows[y * groups + column // c.cores]
                block, byte = channel // c.word, column % c.cores * c.word + channel % c.word
                got = int(row[2 * block, byte]) | int(row[2 * block + 1, byte]) << 8 if wide else int(row[block, byte])
                inside = column < width and channel < channels
                want = x[y * width + column, channel] if inside else -5
                assert got == int(want) & (0xFFFF if wide else 0xFF), (y, column, channel)
    assert (memmap.from_map_rows(rows, height, width, channels, c.cores, c.word, wide) == x).all()


def test_not_spatial():
    """Width 0: tokens one after the other."""
    x = np.random.default_rng(3).integers(-128, 128, (10, 24))
    rows = memmap.to_map_rows(x, 10, 0, 4, 8)
    assert (rows == memmap.to_rows(x, 4, 8)).all()
    assert (memmap.from_map_rows(rows, 10, 0, 24, 4, 8) == x).all()


@pytest.mark.parametrize(
    "row_bytes, beat_bytes, beats", [(112, 64, 2), (128, 64, 2), (32, 16, 2), (80, 16, 5), (32, 64, 1)]
)
def test_rows_to_beats(row_bytes, beat_bytes, beats):
    """Every row begins on a beat, zeros behind it."""
    rows = np.random.default_rng(1).integers(1, 256, (3, 2, row_bytes)).astype(np.uint8)
    out = memmap.rows_to_beats(rows, beat_bytes)
    assert out.shape == (3, 2, beats * beat_bytes) and out.dtype == np.uint8
    assert (out[..., :row_bytes] == rows).all() and not out[..., row_bytes:].any()
    assert (memmap.beats_to_rows(out, row_bytes) == rows).all()
