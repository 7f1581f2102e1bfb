"""The backbone of an EfficientViT in RTL: from the first step of its stem to the last row of its last stage written.

Only the first and the last rows of a job are looked at, so a run may have any number of jobs.
"""

from collections.abc import Iterator

from vitforge_hw.arch.isa import Chunk
from vitforge_hw.engines.step_issue import ArrayState
from vitforge_sw.compiler import Build
from vitforge_sw.cycles.estimate import ENGINES, HEAD, STAGES

from .monitors import Timeline


def has_backbone(build: Build) -> bool:
    """An EfficientViT without a deferred classifier, whose rows would lie between the backbone's."""
    return not build.lag and any(name.startswith(STAGES) for name in build.macs)


def backbone(build: Build, timeline: Timeline, start: int, last: int | None = None) -> dict:
    """Of every job, or of the ``last`` ones: cycles of its backbone and the utilization of the multipliers in them;
    empty for models and builds without. ``start``: cycle of the first submit. The first job's image is still arriving.
    """
    if not has_backbone(build):
        return {}
    macs = build.batch * sum(n for name, n in build.macs.items() if not name.startswith(HEAD))
    ends = {Chunk.MAT: timeline.row_end, Chunk.RMAC: timeline.rmac_row_end}
    arrays = {Chunk.MAT: timeline.array, Chunk.RMAC: timeline.rmac_array}
    rows = {c: _backbone_rows(build, c) for c in ENGINES}
    totals = {c: sum(i.rows for i in build.programs[c]) for c in ENGINES}
    jobs = max(len(ends[c]) // totals[c] for c in ENGINES if totals[c])

    def steps(chunk: Chunk, row: int) -> Iterator[tuple[int, int]]:
        """Stretches of an engine's steps in a row."""
        before = int(ends[chunk][row - 1]) + 1 if row else start
        cut = arrays[chunk].cut(before, int(ends[chunk][row]) + 1)
        return ((a, b) for a, b, state in cut if state == ArrayState.STEP)

    cycles = []
    for job in range(max(0, jobs - last) if last else 0, jobs):
        begin, end = [], []
        for chunk in ENGINES:
            own = [job * totals[chunk] + row for row in rows[chunk]]
            first = next((found for row in own if (found := next(steps(chunk, row), None))), None)
            busy = next((row for row in reversed(own) if next(steps(chunk, row), None)), None)
            if first is not None and busy is not None:
                begin.append(first[0])
                end.append(int(timeline.chunks[chunk].done[busy]))
        cycles.append(max(end) - min(begin))
    return {"cycles": cycles, "macs": macs, "utilization": [macs / (build.config.multipliers * n) for n in cycles]}


def _backbone_rows(build: Build, chunk: Chunk) -> list[int]:
    """Numbers of a chunk's rows, from 0 in a job, that do not belong to the classifier."""
    out, row = [], 0
    for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
        if not label.layer.startswith(HEAD):
            out += range(row, row + instruction.rows)
        row += instruction.rows
    return out
