"""MAT and R-MAC, which must not differ: the same pointwise instructions give the same tiles and factors."""

import dataclasses
import random
import runpy
from pathlib import Path

import pytest

from vitforge_hw.arch import isa

MAT, RMAC = (runpy.run_path(str(Path(__file__).with_name(f"test_{name}.py"))) for name in ("mat", "rmac"))
BASE, DIVIDED, FOUR, GROUPS, FIVE = (MAT[name] for name in ("BASE", "DIVIDED", "FOUR", "GROUPS", "FIVE"))
MatBench, random_program, surroundings = (MAT[name] for name in ("MatBench", "random_program", "surroundings"))
RMacBench = RMAC["RMacBench"]


def values(record, name):
    return [value for _, value in record.watched[name]]


@pytest.mark.slow  # test_mat.py and test_rmac.py hold each against plain numbers on every run
@pytest.mark.parametrize(
    "config, stall, seed",
    [
        pytest.param(config, stall, seed, id=f"{config.name}-{stall}")
        for config, stall, seed in ((FOUR, 0.0, 1), (FOUR, 0.3, 2), (FIVE, 0.3, 2), (FIVE, 0.0, 1))
    ],
)
def test_same_results(config, stall, seed):
    """Groups, skipped rows, grouped layers, relu, division by both rules, whole and half words, random programs."""
    c = dataclasses.replace(config, window_rows=64)
    random_ones = random_program(FIVE, random.Random(seed), 8)
    program = [{**BASE, **fields} for fields in [*GROUPS, *DIVIDED, *random_ones]]
    both = [{**fields, "kind": isa.POINTWISE} for fields in program]
    around = surroundings(c, seed)
    options = dict(seed=seed, stall=stall, stalled=("rd", "go", "op", "post_op", "pop"), simulators=())
    mat = MatBench(c, program, *around, **options).run(20000)
    rmac = RMacBench(c, both, *around, **options).run(20000)
    for name in ("tile", "factor"):
        assert values(mat, name) == values(rmac, name), name
    assert len(values(mat, "tile")) == sum(i["rows"] * (i["groups"] + 1) * i["tiles"] for i in program)
    assert len(set(values(mat, "tile"))) > 50 and len(set(values(mat, "factor"))) > 20, "results are alive"
