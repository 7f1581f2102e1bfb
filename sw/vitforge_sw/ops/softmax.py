"""Softmax to 4-bit codes (softmax chunk)."""

import dataclasses
from typing import Any, ClassVar

from vitforge_hw.arch import config, isa
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Node, Ref
from .registry import operation

SPANS = rules.spans(isa.OP_FIELDS[isa.Chunk.SOFTMAX])


@operation("softmax")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Node):
    """4-bit codes of each row of scores: ``rule`` maxrel | log2, constants c and sc (arith.softmax_u)."""

    x: Ref
    rule: str = "maxrel"
    c: int = 0
    sc: int = 0

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.SOFTMAX,)

    def check(self, graph: Graph) -> None:
        x, keys = rules.ref(graph, self.x, self.name)
        y, n = rules.ref(graph, self.out, self.name, ("code4",))
        fits = (y.tokens, n) == (x.tokens, keys)
        rules.need(fits, self.name, f"codes must be {x.tokens} x {keys}, not {y.tokens} x {n}")
        top = config.MAX_TOKENS
        rules.need(keys <= top, self.name, f"keys must be at most {top} (config.MAX_TOKENS), not {keys}")
        rules.word(self.rule, self.name, "rule", CodeRule.words())
        rules.scalar(self.c, self.name, "c", SPANS["c"])
        rules.scalar(self.sc, self.name, "sc", SPANS["sc"])

    def golden(self, graph: Graph) -> Any:
        from ..golden.softmax import SoftmaxOp

        return SoftmaxOp(self)
