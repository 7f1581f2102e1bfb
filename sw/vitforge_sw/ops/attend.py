"""Attention x value by shifts (shifter array)."""

import dataclasses
from typing import Any, ClassVar

from vitforge_hw.arch import isa
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Node, Ref
from .registry import operation

SPANS = rules.spans(isa.OP_FIELDS[isa.Chunk.SHIFTER])


@operation("attend")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Attend(Node):
    """codes x v by shifts, row factor, re-quantization (arith.attend)."""

    codes: Ref
    v: Ref
    rule: str = "maxrel"
    shift: int = 0
    factor: bool = True

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.SHIFTER,)
    READS: ClassVar[tuple[str, ...]] = ("codes", "v")

    def check(self, graph: Graph) -> None:
        where = self.name
        codes, keys = rules.ref(graph, self.codes, where, ("code4",))
        v, d = rules.ref(graph, self.v, where)
        y, n = rules.ref(graph, self.out, where)
        rules.need(keys == v.tokens, where, f"codes have {keys} keys, values {v.tokens} tokens")
        fits = n == d and y.tokens == codes.tokens
        rules.need(fits, where, f"output must be {codes.tokens} x {d}, not {y.tokens} x {n}")
        producer = next((p for p in graph.nodes if p.out.name == self.codes.name), None)
        same = getattr(producer, "rule", None) == self.rule
        rules.need(same, where, f"rule {self.rule!r} must be that of its codes")
        rules.word(self.rule, where, "rule", CodeRule.words())
        factor = isinstance(self.factor, bool) and (self.factor or self.rule == "log2")
        rules.need(factor, where, "maxrel codes need the row factor")
        rules.scalar(self.shift, where, "shift", SPANS["shift"])

    def golden(self, graph: Graph) -> Any:
        from ..golden.attend import AttendOp

        return AttendOp(self)
