"""R-MAC's window buffer in the cycle model."""

from vitforge_hw.engines.window import issue
from vitforge_sw.kinds import depthwise
from vitforge_sw.kinds.kind import Window


def test_the_gap_between_instructions_is_the_hardwares():
    assert depthwise.PREPARED == issue.PREPARED


def test_a_ring():
    """Rows are free when the row that needs them last has ended, also those of an instruction before."""
    window, first, second = Window(), [], []
    assert window.take(3, 10, first, 0, 8) == 10 and window.take(3, 11, first, 1, 8) == 11
    first += [50, 70]
    assert window.take(3, 12, second, 0, 8) == 51, "the first three leave a cycle after 50"
    assert window.take(2, 60, second, 0, 8) == 60, "there is room"
    assert window.take(1, 61, second, 1, 8) == 71
    assert window.take(2, 62, second, 1, 8) == 62
