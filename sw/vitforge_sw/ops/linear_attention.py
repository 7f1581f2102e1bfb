"""Linear attention (MAT: Q Z, beside it the divisor lane, then shifter or reciprocal)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.enums import DivisionRule
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import Graph, Node, Ref
from .post import SPANS
from .registry import operation

SOFTWARE_RULES = ("exact", "uniform8")  #: divisions to compare with
DIVISION_RULES = (*DivisionRule.words(), *SOFTWARE_RULES)


@operation("linear_attention")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LinearAttention(Node):
    """Dividend = relu(q) Z and divisor = relu(q) Ksum of every head, then arith.divide.

    ``shift`` int (C,) 0..31. rule: log2 | reciprocal; exact | uniform8 are software modes (``m1``, ``s1``: uniform8's
    divisor grid).
    """

    q: Ref
    z: Ref
    ksum: Ref
    heads: int = 1
    rule: str = "reciprocal"
    lo: int = 0  #: log2: r of code 0
    shift: np.ndarray
    m1: int = 1
    s1: int = 0

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.MAT,)
    READS: ClassVar[tuple[str, ...]] = ("q", "z", "ksum")

    def acc_bound(self, graph: Graph) -> int:
        return graph.channels(self.q) // self.heads * 127 * 127

    def check(self, graph: Graph) -> None:
        where = self.name
        q, c = rules.ref(graph, self.q, where)
        z, cz = rules.ref(graph, self.z, where)
        s, cs = rules.ref(graph, self.ksum, where)
        rules.scalar(self.heads, where, "heads", (1, c))
        dim = c // self.heads
        rules.need(dim * self.heads == c, where, f"{self.heads} heads must divide {c} channels")
        fits = (z.tokens, cz, s.tokens, cs) == (dim, c, 1, c)
        rules.need(fits, where, f"Z must be {dim} x {c} and Ksum 1 x {c}")
        rules.need(rules.output(graph, self, q.tokens) == c, where, f"output must have {c} channels")
        rules.narrow(graph, self.z, where, "an operand of a product of activations")
        rules.accumulator(self.acc_bound(graph), where)
        rules.word(self.rule, where, "rule", DIVISION_RULES)
        rules.array(self.shift, where, "shift", (c,), rules.spans(isa.POST_PARAM_FIELDS)["s1"])
        rules.scalar(self.lo, where, "lo", (0, arith.CODE_MAX))
        rules.scalar(self.m1, where, "m1", SPANS["m1"])
        rules.scalar(self.s1, where, "s1", SPANS["s1"])

    def golden(self, graph: Graph) -> Any:
        from ..golden.linear_attention import LinearAttentionOp

        return LinearAttentionOp(self, graph.channels(self.q))

    def macs(self, graph: Graph) -> int:
        channels = graph.channels(self.q)
        return graph.tensor(self.q).tokens * channels * (channels // self.heads + 1)

    def ends(self, fmt: str) -> tuple[int, int]:
        return -127, 127

    def software_only(self) -> str:
        if self.rule in SOFTWARE_RULES:
            run = " and ".join(DivisionRule.words())
            return f"{self.name}: division rule {self.rule!r} exists in software only ({run} run)"
        return ""

    def columns(self, channels: int) -> dict[str, np.ndarray]:
        return {"s1": np.asarray(self.shift)}  # the shift alone: mantissa and exponent come from the divisor

    def division_fields(self, ksum: int) -> dict[str, int]:
        """Fields of the instruction; ``ksum``: first word in the Ksum memory."""
        act1 = ksum | DivisionRule.of(self.rule) << isa.KSUM_BITS
        return dict(relu=1, divide=1, narrow=1, act0=self.lo, act1=act1)
