"""Depthwise convolution (R-MAC in self-accumulation)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch import arith
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Ref
from .post import Post
from .registry import operation

KERNELS = (3, 5, 7)  #: of R-MAC's windows


@operation("depthwise")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise(Post):
    """Odd kernel k, padded by k // 2 with ``pad`` (the input's zero-point); weight int8 (C, k * k), row by row."""

    x: Ref
    weight: np.ndarray
    kernel: int = 3
    stride: int = 1
    pad: int = 0

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.RMAC,)

    def products(self, graph: Graph) -> np.ndarray:
        return np.abs(self.weight.astype(np.int64)).sum(1) * 128

    def check(self, graph: Graph) -> None:
        x, c = rules.ref(graph, self.x, self.name)
        where = self.name
        rules.need(self.kernel in KERNELS, where, f"kernel must be one of {KERNELS}, not {self.kernel!r}")
        rules.need(self.stride in (1, 2), where, f"stride must be 1 or 2, not {self.stride!r}")
        spatial = x.height * x.width == x.tokens
        rules.need(spatial, where, f"{x.name} must be spatial, has {x.height} x {x.width} for {x.tokens} tokens")
        h, w = (arith.conv_size(s, self.stride) for s in (x.height, x.width))
        y, channels = rules.ref(graph, self.out, where)
        rules.need((y.height, y.width) == (h, w), where, f"output must be {h} x {w}, not {y.height} x {y.width}")
        rules.need(y.tokens == h * w, where, f"output must have {h * w} tokens, not {y.tokens}")
        rules.need(channels == c, where, f"output must have {c} channels")
        rules.scalar(self.pad, where, "pad", (-128, 127))
        pads = self.pad == x.zero_point
        rules.need(pads, where, f"pad must be the input's zero-point {x.zero_point}, not {self.pad}")
        rules.array(self.weight, where, "weight", (c, self.kernel**2), (-127, 127))
        rules.need(self.residual is None, where, "a depthwise layer has no residual")
        self.check_post(graph, c)

    def golden(self, graph: Graph) -> Any:
        from ..golden.spatial import DepthwiseOp

        x = graph.tensor(self.x)
        return DepthwiseOp(self, graph.tensor(self.out).fmt, x.height, x.width)

    def macs(self, graph: Graph) -> int:
        return graph.tensor(self.out).tokens * self.weight.size
