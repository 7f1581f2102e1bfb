"""Matrix product with weights: linear and pointwise layers, the patch embedding, the stem, grouped layers."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch import isa
from vitforge_hw.arch.isa import Chunk

from ..graph import rules
from ..graph.ir import LATER, Graph, Ref
from .post import Post
from .registry import operation

TOKEN_OFFSET = rules.spans(isa.OP_FIELDS[isa.Chunk.MAT])["in_offset"]


@operation("matmul")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matmul(Post):
    """``acc = x @ weight.T`` per token; weight int8 (N, K / groups) in -127..127, group g owns rows and inputs g of
    ``groups``. On MAT or R-MAC.

    ``weight_bits``: 2 to 8, weights are in +-(2^(bits-1) - 1); the model's file has as many bits of each.
    ``token_offset``: output token t reads input token t + token_offset; tokens outside the input read as zero (patch
    embedding: -1, the class token's row has acc = 0). Output tokens: those of the output tensor, the first ones of the
    input's. The stem's convolution is a product as well: its input tensor holds windows (models.windows).
    """

    x: Ref
    weight: np.ndarray
    groups: int = 1
    token_offset: int = 0
    weight_bits: int = dataclasses.field(default=8, metadata=LATER)

    CHUNKS: ClassVar[tuple[Chunk, ...]] = (Chunk.MAT, Chunk.RMAC)

    @property
    def nibbles(self) -> bool:
        """Whether two weights fit a byte, and a machine with ``w4`` runs two tiles a step."""
        return self.weight_bits <= 4

    def products(self, graph: Graph) -> np.ndarray:
        wide = np.int16 if self.weight.itemsize == 1 else np.int64  # -128 has no absolute value in 8 bits
        return np.abs(self.weight.astype(wide)).sum(1, dtype=np.int64) * 128

    def check(self, graph: Graph) -> None:
        x, k = rules.ref(graph, self.x, self.name)
        y, n = rules.ref(graph, self.out, self.name, ("int8", "int12"))
        rules.scalar(self.groups, self.name, "groups", (1, min(n, k)))
        fits = n % self.groups == 0 and k % self.groups == 0
        rules.need(fits, self.name, f"{self.groups} groups must divide {k} and {n} channels")
        rules.scalar(self.weight_bits, self.name, "weight_bits", (2, 8))
        top = (1 << self.weight_bits - 1) - 1
        source = f"weight_bits {self.weight_bits}" if self.weight_bits < 8 else ""
        rules.array(self.weight, self.name, "weight", (n, k // self.groups), (-top, top), source)
        rules.scalar(self.token_offset, self.name, "token_offset", TOKEN_OFFSET)
        if self.token_offset == 0:
            rules.need(y.tokens <= x.tokens, self.name, f"output has {y.tokens} tokens, its input {x.tokens}")
        self.check_post(graph, n, ("int8", "int12", "int16"))

    def golden(self, graph: Graph) -> Any:
        from ..golden.matmul import MatmulOp

        y = graph.tensor(self.out)
        return MatmulOp(self, y.fmt, y.tokens)

    def macs(self, graph: Graph) -> int:
        return min(graph.tensor(self.out).tokens, graph.tensor(self.x).tokens) * self.weight.size
