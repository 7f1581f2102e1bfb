"""Sum over tokens (R-MAC's adder tree): Ksum of linear attention, average pooling."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Ref
from .post import Post
from .registry import operation


@operation("token_sum")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TokenSum(Post):
    """out (1, C) = post(sum over tokens of x), exact; an average has 1 / tokens within m1 and s1.

    ``keys``: Ksum of linear attention, the sum over tokens of relu(x), which goes to the Ksum memory.
    """

    x: Ref
    keys: bool = False

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.RMAC,)

    def products(self, graph: Graph) -> np.ndarray:
        return np.full(len(self.bias), (127 if self.keys else 128) * graph.tensor(self.x).tokens, dtype=np.int64)

    def check(self, graph: Graph) -> None:
        _, c = rules.ref(graph, self.x, self.name)
        rules.need(rules.output(graph, self, 1) == c, self.name, f"output must have {c} channels")
        rules.need(isinstance(self.keys, bool), self.name, f"keys must be true or false, not {self.keys!r}")
        rules.need(self.residual is None, self.name, "a sum over tokens has no residual")
        self.check_post(graph, c)

    def golden(self, graph: Graph) -> Any:
        from ..golden.spatial import TokenSumOp

        return TokenSumOp(self, graph.tensor(self.out).fmt)
