"""The sloped form of a wait: the first one, in the order of preference, that is neither too early nor too late."""

import numpy as np
import pytest

from vitforge_sw.compiler.program.waits import fit


def thresholds(found, rows: int) -> np.ndarray:
    """Of arch.isa.Wait, row by row."""
    base, a, b, s, cap = found
    return base + np.minimum((np.arange(1, rows + 1) * a + b) >> s, cap)


def right(found, lower, known, total: int, current: bool) -> bool:
    """Waits for what is needed and for nothing that is not finished anyway."""
    t = thresholds(found, len(lower))
    allowed = np.maximum(t, 0) + total if current else np.maximum(t, 1)
    return bool((t[lower > 0] >= lower[lower > 0]).all() and (allowed <= known).all())


def first(lower, known, total: int, current: bool):
    """By trying every slope in turn."""
    top = int(lower.max())
    slopes = [(a, b, s) for s in range(4) for a in range(1, 8) if not s or a % 2 for b in range(1 << s)]
    for a, b, s in [(0, 0, 0), *slopes]:
        slope = (np.arange(1, len(lower) + 1) * a + b) >> s
        base = int((lower - slope)[lower > 0].max())
        if top - base <= 4095 and right((base, a, b, s, top - base), lower, known, total, current):
            return base, a, b, s, top - base
    return None


def case(rng):
    rows, total, current = int(rng.integers(1, 30)), int(rng.integers(1, 900)), bool(rng.integers(2))
    slope = (np.arange(1, rows + 1) * int(rng.integers(0, 8)) + int(rng.integers(0, 4))) >> int(rng.integers(0, 4))
    lower = np.where(rng.random(rows) < 0.6, np.minimum(slope + int(rng.integers(1, 50)), total), 0)
    lower[rng.integers(rows)] = total
    offset = total if current else 0
    known = np.maximum.accumulate(lower + rng.integers(-1, 4)) + offset
    return lower, np.maximum(known, int(rng.integers(-3, 3)) + offset), total, current


@pytest.mark.parametrize("seed", range(4))
def test_first_of_the_preferred_slopes(seed):
    rng, found = np.random.default_rng(seed), 0
    for _ in range(300):
        lower, known, total, current = case(rng)
        got = fit(lower, known, total, current)
        assert got == first(lower, known, total, current), (lower, known, total, current)
        assert got is None or right(got, lower, known, total, current)
        found += got is not None
    assert 30 < found < 270


def test_known_forms():
    rows = np.arange(1, 9)
    far = np.full(8, 1000)
    assert fit(np.full(8, 5), far, 20, True) == (5, 0, 0, 0, 0)
    assert fit(2 * rows, 20 + 2 * rows, 20, True) == (0, 2, 0, 0, 16)
    assert fit(rows // 2 + 1, 20 + rows // 2 + 1, 20, True)[1:4] == (1, 0, 1)
    assert fit(2 * rows, 19 + 2 * rows, 20, True) is None
