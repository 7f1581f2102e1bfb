"""Barriers that take away the overlap of chunks, for P2-ViT's ablation."""

from vitforge_hw.arch.isa import Chunk

from ...graph.ir import Role
from ..program.steps import Step


def add_barriers(steps: list[Step], pipelining: str, roles: dict[str, Role]) -> None:
    """P2-ViT's ablation: without pipelining each computing step begins when the one before has ended.

    ``inter`` pipelines layers, but not the steps of attention among each other; ``intra`` only those. ``roles``: of
    the layers.
    """
    if pipelining == "both":
        return
    before: tuple[int, ...] = ()  # a layer's steps on the engines that share its rows count as one
    attended = 0
    for i, step in enumerate(steps):
        if step.chunk in (Chunk.WEIGHT_DMA, Chunk.IMAGE_DMA, Chunk.RESULT_DMA):
            continue
        if before and (last := steps[before[-1]]).layer == step.layer and last.chunk < step.chunk == Chunk.RMAC:
            step.barriers, before = steps[before[0]].barriers, (*before, i)
            continue
        mine, other = roles[step.layer], roles[steps[before[0]].layer] if before else Role()
        inside = mine.head is not None and other.head is not None and mine.block == other.block
        if before and {"none": True, "inter": inside, "intra": not inside}[pipelining]:
            # behind attention as a whole stands its last step of the shifter array
            leaves = pipelining == "intra" and mine.head is None and other.head is not None
            step.barriers = (attended,) if leaves else before
        before = (i,)
        if step.chunk == Chunk.SHIFTER:
            attended = i
