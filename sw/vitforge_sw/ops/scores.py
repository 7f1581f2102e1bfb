"""Attention scores (MAT, keys as weights)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Node, Ref
from .entries import power_shift
from .post import SPANS
from .registry import operation


@operation("scores")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scores(Node):
    """``acc = q @ k.T`` of one head; y = sat8(round_shift(sat12(round_shift(acc, s1)), s2))."""

    q: Ref
    k: Ref
    s1: int = 0
    s2: int = 0

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.MAT, Chunk.RMAC)
    READS: ClassVar[tuple[str, ...]] = ("q", "k")

    def acc_bound(self, graph: Graph) -> int:
        return graph.channels(self.k) * 128 * 127

    def check(self, graph: Graph) -> None:
        where = self.name
        q, d = rules.ref(graph, self.q, where)
        k, dk = rules.ref(graph, self.k, where)
        y, keys = rules.ref(graph, self.out, where)
        rules.need(d == dk, where, f"q and k must have the same channels, not {d} and {dk}")
        fits = keys == k.tokens and y.tokens == q.tokens
        rules.need(fits, where, f"output must be {q.tokens} x {k.tokens}, not {y.tokens} x {keys}")
        rules.scalar(self.s1, where, "s1", SPANS["s1"])
        rules.scalar(self.s2, where, "s2", SPANS["s2"])
        rules.accumulator(self.acc_bound(graph), where)
        rules.narrow(graph, self.k, where, "keys become weights")

    def golden(self, graph: Graph) -> Any:
        from ..golden.scores import ScoresOp

        return ScoresOp(self, graph.channels(self.k))

    def macs(self, graph: Graph) -> int:
        return graph.tensor(self.q).tokens * graph.tensor(self.k).tokens * graph.channels(self.q)

    def columns(self, channels: int) -> dict[str, np.ndarray]:
        return {"s1": power_shift(self.s1), "s2": np.asarray(self.s2)}
