"""Verilog of softmax, code ring and shifter array: one module per block, nothing for Verilator's lint to say."""

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.attention.code_ring import CodeRing
from vitforge_hw.attention.shifter import ShifterArray
from vitforge_hw.attention.softmax import Softmax
from vitforge_hw.emit import convert, emitting
from vitforge_sim.run.lint import lint


@pytest.mark.parametrize("preset", ["tiny", "p2vit"])
@pytest.mark.parametrize("block,lanes", [(Softmax, 1), (CodeRing, 0), (ShifterArray, 1)])
def test_lint(preset, block, lanes, tmp_path):
    with emitting() as modules:
        text = convert(block(get_config(preset)), "top")
    assert len(modules) == lanes  # the slice of a token is emitted once
    assert lint({**modules, "top": text}, "top", tmp_path) == ""
