"""What all engine operations share: the post-processing of their accumulators (arith.postprocess)."""

import dataclasses
import functools

import numpy as np
from numpy.typing import ArrayLike

from vitforge_hw.arch import arith, isa
from vitforge_hw.arch.enums import Act

from ..graph import rules
from ..graph.ir import FORMATS, Graph, Node, Ref
from .entries import addition, dyadic

E_MAX = rules.spans(isa.POST_PARAM_FIELDS)["e"][1]  #: an entry holds eh - er
#: ranges of the constants; those of fields are the encoder's
SPANS = rules.spans(isa.POST_PARAM_FIELDS) | dict(
    m1=(1, (1 << arith.M1_BITS) - 1), s1=(0, arith.S1_MAX), eh=(0, E_MAX), er=(0, E_MAX)
)
FIELDS = rules.spans(isa.OP_FIELDS[isa.Chunk.MAT])
SOURCE = {
    f.name: f"field {f.name} of isa.POST_PARAM_FIELDS, {f.bits} bits"
    for f in isa.POST_PARAM_FIELDS
    if f.range == SPANS[f.name]
}
#: activations of the hardware, and ReLU, which is the identity with the lowest code as zero-point
ACTS = (*Act.words(), "relu")
SUM_LIMIT = 1 << 31  #: (h << eh) + (residual << er) and its rounding fit 32 bits signed
WIDE_LIMIT = 1 << 46  #: the same with multipliers m2, in software only


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Post(Node):
    """Base: post-processing constants per output channel, int (N,).

    p = sat12(round_shift((acc + bias) * m1, s1));  h = act(p)
    y = sat(round_shift((h * m2 << eh) + (residual << er), s2) + offset)      8 or 12 bits

    ``m1`` None: scales are powers of two, m1 = 1. ``m2`` None: 1 (what the hardware has).
    """

    bias: np.ndarray
    m1: np.ndarray | None = None
    s1: np.ndarray
    eh: np.ndarray
    er: np.ndarray
    s2: np.ndarray
    offset: np.ndarray
    m2: np.ndarray | None = None
    act: str = "identity"  #: ACTS
    gelu_exp: int = 0  #: GELU: fraction bits of p
    q3: int = 0  #: Hardswish: 3 in steps of p
    q6: int = 0  #: Hardswish: 6 in steps of p
    residual: Ref | None = None
    narrow: bool = False  #: saturate to -127: operands of activation products

    def products(self, graph: Graph) -> np.ndarray:
        """Per output channel: what |acc| and every partial sum cannot exceed."""
        raise NotImplementedError

    def acc_bound(self, graph: Graph) -> int:
        return int((self.products(graph) + np.abs(self.bias.astype(np.int64))).max())

    # ------------------------------------------------------------ rule

    def check_post(self, graph: Graph, n: int, residuals: tuple[str, ...] = ("int8", "int12")) -> None:
        """The rule behind that of the output; ``n``: output channels, ``residuals``: formats of an addend."""
        where = self.name
        for field in ("bias", "s1", "eh", "er", "s2", "offset"):
            rules.array(getattr(self, field), where, field, (n,), SPANS[field], SOURCE.get(field, ""))
        for field in ("m1", "m2"):
            if getattr(self, field) is not None:
                rules.array(getattr(self, field), where, field, (n,), SPANS["m1"])
        self._check_act()
        rules.accumulator(self.acc_bound(graph), where)
        top = np.full(n, 2048, dtype=np.int64) * (self.q6 if self.act == "hardswish" else 1)
        top = (top if self.m2 is None else top * self.m2.astype(np.int64)) << self.eh.astype(np.int64)
        if self.residual is not None:
            r, channels = rules.ref(graph, self.residual, where, residuals)
            y = graph.tensor(self.out)
            fits = channels == n and r.tokens >= y.tokens
            rules.need(fits, where, f"residual {r.name} must have {y.tokens} tokens of {n} channels, "
                       f"not {r.tokens} x {channels}")  # fmt: skip
            top = top + (np.int64(-FORMATS[r.fmt][0]) << self.er.astype(np.int64))
        reach = int((top + (np.int64(1) << self.s2.astype(np.int64) >> 1)).max())
        limit = SUM_LIMIT if self.m2 is None else WIDE_LIMIT
        rules.need(reach < limit, where, f"(h << eh) + (residual << er) must be below {limit}, may reach {reach}")
        self.columns(n)  # what no entry can hold

    def _check_act(self) -> None:
        rules.word(self.act, self.name, "act", ACTS)
        if self.act == "relu":  # saturation is its lower branch
            lowest = FORMATS["int8"][0]
            fits = bool((self.offset == lowest).all()) and self.residual is None and not self.narrow
            rules.need(fits, self.name, f"relu needs the offset {lowest} in every channel and no residual")
        if self.act == "gelu":
            rules.scalar(self.gelu_exp, self.name, "gelu_exp", (arith.GELU_EXP_MIN, arith.GELU_EXP_MAX))
        if self.act == "hardswish":
            for field in ("q3", "q6"):
                rules.scalar(getattr(self, field), self.name, field, (1, arith.Q6_MAX))
        rules.need(isinstance(self.narrow, bool), self.name, f"narrow must be true or false, not {self.narrow!r}")
        for field, name in (("gelu_exp", "act0"), ("q3", "act0"), ("q6", "act1")):  # as fields, used or not
            rules.scalar(getattr(self, field), self.name, field, FIELDS[name])

    # ------------------------------------------------------------ parameters and fields

    def columns(self, channels: int) -> dict[str, np.ndarray]:
        m1, s1 = dyadic(self.name, self.m1, self.s1, channels)
        e, s2 = addition(self.name, self.eh, self.er, self.s2, self.residual is not None, channels)
        return dict(bias=np.asarray(self.bias), m1=m1, s1=s1, e=e, s2=s2, offset=np.asarray(self.offset))

    def post_fields(self) -> dict[str, int]:
        """Fields of the instruction: activation and saturation."""
        first = self.q3 if self.act == "hardswish" else self.gelu_exp
        act = Act.IDENTITY if self.act == "relu" else Act.of(self.act)
        return dict(narrow=int(self.narrow), act=int(act), act0=first, act1=self.q6)

    def software_only(self) -> str:
        if self.m2 is not None:
            return (
                f"{self.name}: multipliers m2 behind the activation exist in software only (power-of-two factors run)"
            )
        return ""

    # ------------------------------------------------------------ saturation

    def ends(self, fmt: str) -> tuple[int, int]:
        low, high = clipped_ends(self, fmt)
        lo, hi, _ = FORMATS[fmt]
        lo = -hi if self.narrow else lo
        return lo if low else lo - 1, hi if high else hi + 1


@functools.cache
def gelu_table(exp: int) -> np.ndarray:
    """arith.gelu of every 12-bit p: int64 (4096,), index p + 2048."""
    return np.array([arith.gelu(p, exp) for p in range(-2048, 2048)], dtype=np.int64)


def clipped_ends(node: Post, fmt: str) -> tuple[bool, bool]:
    """Whether any accumulator can make the output saturate at its low, at its high end.

    GELU and Hardswish have a minimum, and a zero-point often puts it at the lowest code: the many values there are
    exact, not clipped.
    """
    if node.act == "identity" or node.residual is not None or node.m2 is not None:
        return True, True
    if node.act == "relu":
        h = np.arange(2048, dtype=np.int64)
    elif node.act == "gelu":
        h = gelu_table(node.gelu_exp)
    else:
        p = np.arange(-2048, 2048, dtype=np.int64)
        h = p * np.clip(p + node.q3, 0, node.q6)
    return ends_of(h, node.eh, node.s2, node.offset, fmt)


def ends_of(h: np.ndarray, eh: ArrayLike, s2: ArrayLike, offset: ArrayLike, fmt: str) -> tuple[bool, bool]:
    """Whether activation values ``h`` leave the format at its low, at its high end."""
    ends = np.array([[h.min()], [h.max()]]) << np.atleast_1d(eh).astype(np.int64)
    s2 = np.atleast_1d(s2).astype(np.int64)
    y = ((ends + ((1 << s2) >> 1)) >> s2) + offset
    lo, hi, _ = FORMATS[fmt]
    return bool(y[0].min() < lo), bool(y[1].max() > hi)
