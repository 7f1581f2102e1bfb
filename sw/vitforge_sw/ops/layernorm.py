"""LayerNorm, with Hardswish behind it where asked (LayerNorm chunk)."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch import arith, config, isa
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import FORMATS, Graph, Node, Ref
from .post import ends_of
from .registry import operation

SPANS = rules.spans(isa.LN_PARAM_FIELDS) | {"shift": (0, 47)}
FIELDS = rules.spans(isa.OP_FIELDS[isa.Chunk.LAYERNORM])
SOURCE = {f.name: f"field {f.name} of isa.LN_PARAM_FIELDS, {f.bits} bits" for f in isa.LN_PARAM_FIELDS}
ACTS = ("identity", "hardswish")


@operation("layernorm")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerNorm(Node):
    """Rows of ``x`` (int8 or 12 bits; the first ones, as many as the output has tokens); gamma, beta, shift int (C,).

    ``a``: PTF exponents int (C,) of an int8 input, None: 0 (arith.layernorm). act hardswish: the result has 12 bits,
    then y = sat8(round_shift(hardswish(p), s2) + offset) (arith.layernorm_hardswish).
    """

    x: Ref
    gamma: np.ndarray
    beta: np.ndarray
    shift: np.ndarray
    a: np.ndarray | None = None
    act: str = "identity"
    q3: int = 0
    q6: int = 0
    s2: int = 0
    offset: int = 0

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.LAYERNORM,)

    def check(self, graph: Graph) -> None:
        where = self.name
        x, c = rules.ref(graph, self.x, where, ("int8", "int12"))
        y, n = rules.ref(graph, self.out, where)
        fits = n == c and y.tokens <= x.tokens
        rules.need(fits, where, f"output must have {c} channels and at most {x.tokens} tokens, not {y.tokens} x {n}")
        top = config.MAX_CHANNELS
        rules.need(c <= top, where, f"channels must be at most {top} (config.MAX_CHANNELS), not {c}")
        for field in ("gamma", "beta", "shift", "a"):
            if field != "a" or self.a is not None:
                rules.array(getattr(self, field), where, field, (c,), SPANS[field], SOURCE[field])
        wide = self.a is not None and self.a.any()
        rules.need(x.fmt == "int8" or not wide, where, "PTF exponents need an int8 input")
        rules.word(self.act, where, "act", ACTS)
        if self.act == "hardswish":
            for field in ("q3", "q6"):
                rules.scalar(getattr(self, field), where, field, (1, arith.Q6_MAX))
            rules.scalar(self.s2, where, "s2", FIELDS["s2"])
            rules.scalar(self.offset, where, "offset", FIELDS["offset"])

    @property
    def narrow(self) -> bool:
        """No row can take the output to -128: |z| is at most sqrt(C - 1), and the error of 1/sqrt below 2^-13."""
        c = len(self.gamma)
        z = math.ceil((1 << arith.LN_Z_FRAC) * math.sqrt(c - 1) * (1 + 2**-13)) + 1
        gamma, beta, shift = (v.astype(np.int64) for v in (self.gamma, self.beta, self.shift))
        low = (beta - np.abs(gamma) * z + ((1 << shift) >> 1)) >> shift
        return self.act == "identity" and bool(low.min() >= -127)

    def golden(self, graph: Graph) -> Any:
        from ..golden.layernorm import LayerNormOp

        return LayerNormOp(self, graph.tensor(self.out).tokens)

    def ends(self, fmt: str) -> tuple[int, int]:
        lo, hi, _ = FORMATS[fmt]
        if self.act == "identity":
            return lo, hi
        p = np.arange(-2048, 2048, dtype=np.int64)
        low, high = ends_of(p * np.clip(p + self.q3, 0, self.q6), 0, self.s2, self.offset, fmt)
        return lo if low else lo - 1, hi if high else hi + 1

    def columns(self, channels: int) -> dict[str, np.ndarray]:
        found = dict(gamma=self.gamma, beta=self.beta, shift=self.shift, a=self.a)
        return {name: np.asarray(value) for name, value in found.items() if value is not None}

    def post_fields(self) -> dict[str, int]:
        """Fields of the instruction: Hardswish and what follows it; none without."""
        if self.act == "identity":
            return {}
        return dict(act=1, q3=self.q3, q6=self.q6, s2=self.s2, offset=self.offset)
