"""Tensors, operations and the graph of an integer model.

Node order is execution order. A node's output tensor has the node's name; the heads' and branches' attention nodes
write slices of one tensor (see ``out``). What a node is, apart from its arithmetic, says its ``role``: names are for
people. The operations are classes of the package ``ops``.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from vitforge_hw.arch.isa import Chunk

FORMATS = {
    # name: (lowest, highest, byte planes)
    "int8": (-128, 127, 1),
    "int12": (-2048, 2047, 2),
    "int16": (-32768, 32767, 2),
    "code4": (0, 15, 0),  # lives in the code ring, not in the activation buffer
}


#: metadata of a node's field that files of this schema may lack: written only where it differs from its default
LATER = {"later": True}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A tensor of one image: ``tokens`` x ``channels`` integers. ``exponent``: the value of one step is 2^exponent."""

    name: str
    tokens: int
    channels: int
    fmt: str
    exponent: int | None = None  #: None where the step differs by channel (PTF) or codes are stored
    zero_point: int = 0  #: real value = (q - zero_point) * 2^exponent
    height: int = 0  #: of a spatial tensor: tokens are its pixels row by row, height * width = tokens
    width: int = 0


@dataclasses.dataclass(frozen=True)
class Ref:
    """A tensor, or channels ``start : start + count`` of it."""

    name: str
    start: int = 0
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Role:
    """What a node does in its network: ``part`` of a ``block`` (numbered through), of an attention ``head`` or a
    multi-scale ``branch`` (0: qkv itself); ``image``: of a batch (batch.EVERY: of all its images together)."""

    part: str = ""
    block: int | None = None
    head: int | None = None
    branch: int | None = None
    image: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """Base of the operations: ``name``, output ``out`` (a Ref: heads write slices of one tensor), ``role``.

    The methods are what the road asks of an operation; an operation that has no weights, no parameters or no
    multiplications keeps the answer given here.
    """

    name: str
    out: Ref
    role: Role = Role()

    CHUNKS: ClassVar[tuple[Chunk, ...]] = ()  #: chunks that can take it
    READS: ClassVar[tuple[str, ...]] = ("x",)  #: fields of the tensors that it reads, an optional residual last

    @property
    def inputs(self) -> list[Ref]:
        """The tensors that it reads, residual last."""
        refs = [getattr(self, name) for name in self.READS]
        residual = getattr(self, "residual", None)
        return refs if residual is None else [*refs, residual]

    def check(self, graph: "Graph") -> None:
        """ValueError at the first broken rule: shapes, ranges of the instruction's fields, accumulators."""
        raise NotImplementedError

    def golden(self, graph: "Graph") -> Any:
        """Prepared execution ``op(*inputs, taps=None)`` on (B, tokens, channels) integers, inputs as listed above."""
        raise NotImplementedError

    def macs(self, graph: "Graph") -> int:
        """Multiplications of the engines for one image."""
        return 0

    def ends(self, fmt: str) -> tuple[int, int]:
        """Values that count as saturated in the output. An end that no value can exceed lies out of reach: values there
        were not clipped."""
        return FORMATS[fmt][:2]

    def software_only(self) -> str:
        """Why the machine cannot run it (an ablation's mode); empty for what it runs."""
        return ""

    def columns(self, channels: int) -> dict[str, np.ndarray]:
        """Fields of its parameter entries, a column per field; empty: it has none."""
        return {}

    def acc_bound(self, graph: "Graph") -> int:
        """What |acc + bias| and every partial sum cannot exceed, from the actual weights or the operands' ranges."""
        return 0


@dataclasses.dataclass
class Graph:
    """The whole integer model of one image size.

    ``tensors``: every tensor by name, ``input`` and the constants included. ``constants``: int arrays (tokens,
    channels), e.g. ``pos_embed`` (int16 addend of the patch embedding, class token included). ``meta``: JSON-able;
    ``model`` (ModelSpec), ``image`` (ImageConfig), ``scheme`` (every option), ``labels``, ``float_hash``, ``trained``.
    """

    nodes: list[Node]
    tensors: dict[str, TensorInfo]
    constants: dict[str, np.ndarray]
    input: str
    output: str
    meta: dict

    def tensor(self, ref: Ref) -> TensorInfo:
        """The tensor that a reference points into."""
        return self.tensors[ref.name]

    def channels(self, ref: Ref) -> int:
        """Channels of a reference."""
        return self.tensors[ref.name].channels - ref.start if ref.count is None else ref.count
