"""Nodes and tensors of the integer graph.

One node is one instruction family of the machine (``linear``, ``scores``: PE array; ``attend``: shifter array;
``layernorm``; ``softmax``), so a node's constants are exactly the constants of 20-integer-contract. Heads are
separate nodes: ``blocks.0.attn.q.h1`` has N = head dimension.

Node order is execution order. Names: ``embed``, ``blocks.B.norm1``, ``blocks.B.attn.{k,v,q}.hH``,
``blocks.B.attn.scores.hH``, ``blocks.B.attn.softmax.hH``, ``blocks.B.attn.attend.hH``, ``blocks.B.attn.proj``,
``blocks.B.norm2``, ``blocks.B.mlp.fc1``, ``blocks.B.mlp.fc2``, ``norm``, ``head``. A node's output tensor has the
node's name; the attend nodes of a block write slices of one tensor (see ``out``).
"""

import dataclasses

import numpy as np

FORMATS = {
    # name: (lowest, highest, byte planes)
    "int8": (-128, 127, 1),
    "int12": (-2048, 2047, 2),
    "int16": (-32768, 32767, 2),
    "code4": (0, 15, 0),  # lives in the code ring, not in the activation buffer
}


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


@dataclasses.dataclass
class Node:
    """Base: ``name``, output ``out`` (a Ref: heads write slices of one tensor)."""

    name: str
    out: Ref


@dataclasses.dataclass
class Linear(Node):
    """``acc = x @ weight.T``; then the post-processing formula per output channel.

    weight int8 (N, K) in -127..127; bias int32, s1, eh, er, s2, offset: int (N,). ``residual``: None or a tensor of the
    output's tokens and channels. ``token_offset``: output token t reads input token t + token_offset; tokens outside
    the input read as zero (patch embedding: -1, the class token's row has acc = 0). ``tokens``: output tokens
    (the first ``tokens`` of the input's: head: 1).
    """

    x: Ref = None
    weight: np.ndarray = None
    bias: np.ndarray = None
    s1: np.ndarray = None
    eh: np.ndarray = None
    er: np.ndarray = None
    s2: np.ndarray = None
    offset: np.ndarray = None
    act: str = "identity"  #: identity | gelu
    gelu_exp: int = 8
    residual: Ref | None = None
    token_offset: int = 0
    narrow: bool = False  #: saturate to -127 (keys)


@dataclasses.dataclass
class Scores(Node):
    """``acc = q @ k.T`` of one head; y = sat8(round_shift(sat12(round_shift(acc, s1)), s2))."""

    q: Ref = None
    k: Ref = None
    s1: int = 0
    s2: int = 0


@dataclasses.dataclass
class Softmax(Node):
    """4-bit codes of each row: ``rule`` maxrel | log2, constants c and sc (arith.softmax_u)."""

    x: Ref = None
    rule: str = "maxrel"
    c: int = 0
    sc: int = 0


@dataclasses.dataclass
class Attend(Node):
    """codes x v by shifts, row factor, re-quantization (arith.attend)."""

    codes: Ref = None
    v: Ref = None
    rule: str = "maxrel"
    shift: int = 0
    factor: bool = True


@dataclasses.dataclass
class LayerNorm(Node):
    """Rows of ``x`` (first ``tokens`` of the output tensor); gamma, beta, shift, a: int (C,) (arith.layernorm)."""

    x: Ref = None
    gamma: np.ndarray = None
    beta: np.ndarray = None
    shift: np.ndarray = None
    a: np.ndarray = None


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


def inputs_of(node: Node) -> list[Ref]:
    """The tensors that a node reads, residual last."""
    if hasattr(node, "inputs"):  # ir_trio
        return node.inputs
    if isinstance(node, Linear):
        return [node.x] if node.residual is None else [node.x, node.residual]
    if isinstance(node, Scores):
        return [node.q, node.k]
    if isinstance(node, Attend):
        return [node.codes, node.v]
    return [node.x]
