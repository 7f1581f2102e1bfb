"""Waits of depthwise instructions, whose rows share the map rows that their windows hold."""

import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import DEPTHWISE, Chunk
from vitforge_sw.compiler import OrderError, prove
from vitforge_sw.compiler.program.steps import Label, Step
from vitforge_sw.compiler.program.waits import _derive, derive

TINY = PRESETS["tiny_hybrid"]
HEIGHT = 8


def mat(first, rows, at, name="pointwise"):
    """Map rows ``first`` ... of one group and one block at ``at``; the input is never written."""
    op = dict(
        tiles=1, ksteps=1, in_addr=900, in_stride=1, weight_addr=0, param_addr=0, out_addr=at + first, out_stride=1
    )
    return Step(Chunk.MAT, name, first, rows, op)


def depthwise(stride, at=100):
    rows = (HEIGHT - 1) // stride + 1
    op = dict(
        kind=DEPTHWISE, in_addr=0, in_stride=1, in_groups=1, width=4, height=HEIGHT, blocks=1, weight_addr=8,
        param_addr=8, out_addr=at, out_stride=1, out_groups=1, kernel=3, stride=stride - 1, window_stride=1,
    )  # fmt: skip
    return Step(Chunk.RMAC, "depthwise", 0, rows, op)


def programs(pairs):
    found = {c: [i for s, i in pairs if s.chunk == c] for c in Chunk}
    labels = {c: [Label(s.layer, "", s.first, 0) for s, _ in pairs if s.chunk == c] for c in Chunk}
    return found, labels


@pytest.mark.parametrize("stride", [1, 2])
def test_one_instruction_follows_its_producer(stride):
    """Row y starts when map row y * stride + 1 is there; what overwrites the map follows the rows."""
    steps = [mat(0, HEIGHT, 0), depthwise(stride), mat(0, HEIGHT, 0, "next")]
    pairs = derive(steps, TINY)
    assert [i.chunk for _, i in pairs] == [Chunk.MAT, Chunk.RMAC, Chunk.MAT]
    found, labels = programs(pairs)
    prove(found, labels, TINY)
    (wait,) = (w for w in found[Chunk.RMAC][0].waits if w.src == Chunk.MAT)
    rows = found[Chunk.RMAC][0].rows
    assert [wait.threshold(r) for r in range(rows)] == [min(r * stride + 2, HEIGHT) for r in range(rows)]


@pytest.mark.parametrize("stride", [1, 2])
def test_cut_instruction_reads_its_halo_again(stride):
    """The producer's rows are far apart, so no single wait does: the second part's first rows are still protected."""
    steps = []
    for first, rows, other in ((0, 3, 11), (3, 1, 29), (4, 2, 2), (6, 2, 0)):
        steps.append(mat(first, rows, 0))
        if other:
            steps.append(mat(0, other, 200, "other"))
    steps += [depthwise(stride), mat(0, HEIGHT, 0, "next")]
    pairs = derive(steps, TINY)
    parts = [i for s, i in pairs if s.chunk == Chunk.RMAC]
    assert len(parts) > 1 and sum(i.rows for i in parts) == steps[-2].rows
    assert [s.first for s, _ in pairs if s.chunk == Chunk.RMAC] == [i.op.get("first", 0) for i in parts]
    prove(*programs(pairs), TINY)
    with pytest.raises(OrderError, match="read of RMAC depthwise .* and write of MAT next"):
        prove(*programs([p for part in _derive(steps, TINY) for p in part]), TINY)
