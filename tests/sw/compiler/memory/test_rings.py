"""Rings of weights: a layer that uses a piece after it was overwritten is refused."""

import pytest

from vitforge_sw.compiler.memory.rings import Ring, RingError


def test_overwritten_piece_is_refused():
    """Also where a later piece covers the same address."""
    ring = Ring(100, "weight buffer")
    at = ring.take(60, "proj")
    ring.use(at, "proj", "proj", 0, 1)
    ring.take(60, "fc1")  # starts at 0 again and covers proj's rows
    with pytest.raises(RingError, match="too few to keep the pieces of proj"):
        ring.use(at, "proj", "proj", 2, 3)


def test_partly_overwritten_piece_is_refused():
    ring = Ring(100, "weight buffer")
    first = ring.take(50, "a")
    second = ring.take(40, "b")
    ring.take(20, "c")
    with pytest.raises(RingError):
        ring.use(first + 30, "a", "a", 0, 1)
    ring.use(second, "b", "b", 0, 1)
