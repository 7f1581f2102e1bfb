"""Barriers that take away the overlap of chunks, for P2-ViT's ablation."""

from vitforge_hw.arch.isa import Chunk

from ..layers.vit import role
from .steps import Step


def add_barriers(steps: list[Step], pipelining: str):
    """P2-ViT's ablation: without pipelining each computing step begins when the one before has ended.

    ``inter`` pipelines layers, but not the steps of attention among each other; ``intra`` only those.
    """
    if pipelining == "both":
        return
    before, attended = None, None
    for i, step in enumerate(steps):
        if step.chunk in (Chunk.WEIGHT_DMA, Chunk.IMAGE_DMA, Chunk.RESULT_DMA):
            continue
        kind, block, head = role(step.layer)
        inside = before is not None and head is not None and role(steps[before].layer)[1:2] == (block,)
        inside = inside and role(steps[before].layer)[2] is not None
        if before is not None and {"none": True, "inter": inside, "intra": not inside}[pipelining]:
            # behind attention as a whole stands its last step of the shifter array
            leaves = pipelining == "intra" and head is None and role(steps[before].layer)[2] is not None
            step.barriers = (attended if leaves else before,)
        before = i
        if step.chunk == Chunk.SHIFTER:
            attended = i
