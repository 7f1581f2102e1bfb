"""What the schedule is made of: steps, their labels in a build, and pieces of the memory image."""

import dataclasses

import numpy as np

from vitforge_hw.arch.isa import Chunk


@dataclasses.dataclass
class Step:
    """One instruction before waits: ``first`` is the first group, ``channel`` the first channel that it writes of its
    tensor, ``barriers`` the steps that must be finished whole before its first row (ablation)."""

    chunk: Chunk
    layer: str
    first: int
    rows: int
    op: dict[str, int]
    channel: int = 0
    barriers: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Label:
    """What an instruction works on: layer (node, tensor or weight piece), tensor that it writes ("" if none), first
    group and first channel of what it writes, image of the batch (-1: all of them, side by side as tokens)."""

    layer: str
    tensor: str
    first: int
    channel: int
    image: int = 0


@dataclasses.dataclass(frozen=True)
class Piece:
    """Bytes of the memory image behind the instructions; ``beat`` counts from there. ``layers``: their shares."""

    name: str
    beat: int
    data: np.ndarray
    layers: dict[str, int]
