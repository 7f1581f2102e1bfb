"""Functional points of the coverage report: every field of every instruction, in the payload that carries it."""

import re

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.enums import Kind
from vitforge_hw.control.sequencer import Sequencer
from vitforge_sim.run import functional


@pytest.mark.parametrize("name", ["tiny_w4", "tiny_hybrid"])
def test_points(name):
    config = get_config(name)
    points = functional.points(config)
    for chunk in config.chunks:
        bits = len(Sequencer(chunk, config.w4).ctl.op.payload.as_value())
        ends = {
            field: int(m[1]) + int(m[2]) for field, text in points.items()
            if (m := re.search(rf"sequencer_{chunk.name.lower()}\.ctl__op__payload\[(\d+) \+: (\d+)\] != 0", text))
        }  # fmt: skip
        assert max(ends.values()) == bits, chunk
        for kind in Kind if chunk == isa.Chunk.RMAC else (None,):
            left_out = functional.WITHOUT.get(kind, ())
            names = {field.name for field in isa.op_fields(chunk, int(kind or 0))}
            assert {name.removesuffix("_set").removesuffix("_zero") for name in left_out} <= names
            for field in isa.op_fields(chunk, int(kind or 0)):
                if field.name != "kind" and (field is not isa.W4_FIELD or config.w4):
                    known = any(f.endswith(f"_{field.name}_set") for f in ends)
                    assert known or {field.name, f"{field.name}_set"} & set(left_out), field.name
    text = functional.verilog(config)
    assert text.count(" wire ") == len(points) and all(f" {name} = " in text for name in points)
    assert ("error_drain" in points) and ("w_stalls" in points) and ("layernorm_writes_the_smallest" in points)
