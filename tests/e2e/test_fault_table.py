"""Cases of the fault table (scripts/faults.py plays all of them and writes docs/faults.md)."""

import pytest

from vitforge.rtl import ensure_rtl
from vitforge_hw.arch.config import get_config
from vitforge_sim.run.faults import BOOT_STATES, STATES, Resets, state_monitors, table
from vitforge_sim.run.topbench import build_bench

CONFIG = get_config("tiny")
KINDS = ("stalls", "responses", "program", "memory image", "second and tenth run")


def test_state_names_are_those_of_the_design():
    """What the monitors see are numbers: Amaranth numbers states in the order in which they are first named."""
    import inspect
    import re

    from vitforge_hw.control.sequencer import Sequencer
    from vitforge_hw.host.boot import Boot

    for part, names in ((Boot, BOOT_STATES), (Sequencer, STATES)):
        named = re.findall(r'(?:m\.State\(|m\.next = |fsm\.ongoing\()"(\w+)"', inspect.getsource(part))
        assert tuple(dict.fromkeys(named)) == names


@pytest.mark.parametrize("kind", KINDS)
def test_some_of_each_kind(digits, kind):
    cases = [f for f in table(digits) if f.kind == kind]
    assert len(cases) >= 3
    for fault in cases[:: max(1, len(cases) // 5)]:
        assert fault.run(digits), fault.name


@pytest.mark.campaign
@pytest.mark.parametrize("way", ["aresetn", "soft reset"])
def test_reset_in_states(digits, tmp_path, way):
    """Every state of boot and of one sequencer."""
    bench = build_bench("verilator", ensure_rtl(CONFIG, tmp_path), monitors=state_monitors(CONFIG.chunks))
    hits = Resets(digits, bench).run((way,), only=("boot", "mat"))
    assert {h.state for h in hits if h.machine == "mat"} == set(range(len(STATES)))
