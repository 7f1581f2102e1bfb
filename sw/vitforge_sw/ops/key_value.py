"""K^T V of linear attention (R-MAC, outer products)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Ref
from .post import Post
from .registry import operation


@operation("key_value")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class KeyValue(Post):
    """Z of every head: out (dim, C), out[d, h * dim + e] = post(sum over tokens of relu(k[h, d]) * v[h, e]).

    k and v hold (head, channel).
    """

    k: Ref
    v: Ref
    heads: int = 1

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.RMAC,)
    READS: ClassVar[tuple[str, ...]] = ("k", "v")

    def products(self, graph: Graph) -> np.ndarray:
        return np.full(len(self.bias), 127 * 127 * graph.tensor(self.k).tokens, dtype=np.int64)

    def check(self, graph: Graph) -> None:
        where = self.name
        k, c = rules.ref(graph, self.k, where)
        v, cv = rules.ref(graph, self.v, where)
        same = (k.tokens, c) == (v.tokens, cv)
        rules.need(same, where, f"k and v must agree, not {k.tokens} x {c} and {v.tokens} x {cv}")
        rules.scalar(self.heads, where, "heads", (1, c))
        rules.need(c % self.heads == 0, where, f"{self.heads} heads must divide {c} channels")
        rules.need(rules.output(graph, self, c // self.heads) == c, where, f"output must have {c} channels")
        rules.need(self.narrow, where, "Z must be saturated to -127 (narrow): an operand of Q Z")
        rules.narrow(graph, self.v, where, "an operand of a product of activations")
        rules.need(self.residual is None, where, "K^T V has no residual")
        self.check_post(graph, c)

    def golden(self, graph: Graph) -> Any:
        from ..golden.linear_attention import KeyValueOp

        return KeyValueOp(self, graph.tensor(self.out).fmt, graph.tensor(self.k).tokens)

    def macs(self, graph: Graph) -> int:
        return graph.tensor(self.k).tokens * graph.channels(self.k) ** 2 // self.heads
