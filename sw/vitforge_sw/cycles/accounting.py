"""The authors' own account of Trio-ViT's cycles (2405.03882), to stand beside the cycle model's.

Two engines of 8 x 8 multipliers in each of 16 cores. A pointwise layer takes ceil(Cout / 16) ceil(Cin / 8) cycles a
pixel on both engines, pixels spread over the cores; a depthwise layer ceil(W / 8) ceil(C / 8) H k^2 cycles on R-MAC,
spread over the cores. The pointwise layer behind a depthwise one is fused with it: MAT begins ceil(C / 8) k^2 cycles
after it, R-MAC joins when the depthwise layer has ended. What the description leaves open is read so: the start is not
divided by the cores; the depthwise layers of multi-scale attention are not fused (a grouped layer follows); the
products of attention, for which no rule is given, and the head, which is no part of the backbone, count neither as
cycles nor as multiplications.
"""

import dataclasses

from ..graph.ir import Graph
from ..kinds.access import cdiv
from ..ops import Depthwise, Matmul

CORES, LANES, WIDTH = 16, 8, 8
MULTIPLIERS = 2 * CORES * LANES * WIDTH
HEAD = "head."  #: names of layers behind the backbone

#: published utilization in per cent: (model, image size)
PUBLISHED = {
    ("efficientvit_b1", 224): 95.45,
    ("efficientvit_b1", 256): 96.28,
    ("efficientvit_b1", 288): 93.91,
    ("efficientvit_b2", 224): 96.55,
}


@dataclasses.dataclass(frozen=True)
class Account:
    """``layers``: (name, cycles, multiplications); a fused pointwise layer has what remains behind its depthwise."""

    layers: tuple[tuple[str, float, int], ...]

    cycles = property(lambda s: sum(cycles for _, cycles, _ in s.layers))
    macs = property(lambda s: sum(macs for _, _, macs in s.layers))
    utilization = property(lambda s: s.macs / (MULTIPLIERS * s.cycles))


def pointwise_cycles(node: Matmul, pixels: int) -> float:
    """Both engines."""
    n, k = node.weight.shape
    return pixels / CORES * node.groups * cdiv(n // node.groups, 2 * LANES) * cdiv(k, WIDTH)


def fused(depthwise: float, start: int, pointwise: float) -> float:
    """End of a depthwise layer and the pointwise one behind it: MAT alone from ``start``, then both engines."""
    covered = (depthwise - start) / 2  # of the cycles that both engines would take
    return depthwise + pointwise - covered if pointwise > covered else max(depthwise, start + 2 * pointwise)


def account(graph: Graph) -> Account:
    """Cycles of an EfficientViT's backbone by the authors' rules."""
    layers: list[tuple[str, float, int]] = []
    before: tuple[str, float, int] | None = None  # depthwise layer, its cycles, MAT's start
    for node in graph.nodes:
        if node.name.startswith(HEAD) or not isinstance(node, (Matmul, Depthwise)):
            continue
        y = graph.tensors[node.out.name]
        macs = y.tokens * node.weight.size
        if isinstance(node, Depthwise):
            taps = node.kernel**2
            cycles = cdiv(y.width, LANES) * cdiv(y.channels, WIDTH) * y.height * taps / CORES
            before = node.name, cycles, cdiv(y.channels, WIDTH) * taps
        else:
            cycles = pointwise_cycles(node, y.tokens)
            if before and before[0] == node.x.name and node.groups == 1:
                cycles = fused(*before[1:], cycles) - before[1]
            before = None
        layers.append((node.name, cycles, macs))
    return Account(tuple(layers))


def published(architecture: str, size: int) -> float | None:
    """Their utilization of a model at an image size, in per cent."""
    return PUBLISHED.get((architecture.split(".")[0], size))
