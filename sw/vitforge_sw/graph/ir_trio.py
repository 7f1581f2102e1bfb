"""Nodes of the EfficientViT family, each one instruction family of the hybrid machine.

| node | engine |
|---|---|
| Pointwise | MAT or R-MAC in down-forward accumulation; grouped: one group after another |
| Depthwise | R-MAC in self-accumulation |
| KeyValue | R-MAC, outer products: Z = relu(K)^T V of every head |
| KeySum | adder tree: sum over tokens of relu(K) |
| LinearAttend | MAT: Q Z, beside it the divisor lane, then shifter array or reciprocal unit |
| Pool | adder tree: exact sum over pixels |
| NormAct | LayerNorm unit with Hardswish behind it |

Spatial tensors are (pixels, channels), pixels row by row; their TensorInfo has height and width. qkv tensors hold q, k,
v one after the other, each (head, channel). Constants are those of arith_trio.postprocess.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from .ir import Node, Ref


@dataclasses.dataclass
class Post(Node):
    """Base: post-processing constants per output channel, int (N,); ``m2`` None: 1 (what the hardware has)."""

    bias: np.ndarray = None
    m1: np.ndarray = None
    s1: np.ndarray = None
    eh: np.ndarray = None
    er: np.ndarray = None
    s2: np.ndarray = None
    offset: np.ndarray = None
    m2: np.ndarray | None = None
    act: str = "identity"  #: identity | hardswish
    q3: int = 0  #: 3 in steps of p, per instruction
    q6: int = 0  #: 6 in steps of p
    residual: Ref | None = None
    narrow: bool = False  #: saturate to -127: operands of activation products

    READS: ClassVar[tuple[str, ...]] = ("x",)

    @property
    def inputs(self) -> list[Ref]:
        refs = [getattr(self, name) for name in self.READS]
        return refs if self.residual is None else [*refs, self.residual]


@dataclasses.dataclass
class Pointwise(Post):
    """``acc = x @ weight.T`` per pixel; weight int8 (N, K / groups), group g owns rows and inputs g of ``groups``.

    The stem's convolution is pointwise as well: its input tensor holds windows (models.windows).
    """

    x: Ref = None
    weight: np.ndarray = None
    groups: int = 1


@dataclasses.dataclass
class Depthwise(Post):
    """Odd kernel k, padded by k // 2 with ``pad`` (the input's zero-point); weight int8 (C, k * k), row by row."""

    x: Ref = None
    weight: np.ndarray = None
    kernel: int = 3
    stride: int = 1
    pad: int = 0


@dataclasses.dataclass
class KeySum(Post):
    """Ksum: out (1, C) = post(sum over tokens of relu(x))."""

    x: Ref = None


@dataclasses.dataclass
class KeyValue(Post):
    """Z of every head: out (dim, C), out[d, h * dim + e] = post(sum over tokens of relu(k[h, d]) * v[h, e])."""

    k: Ref = None
    v: Ref = None
    heads: int = 1

    READS: ClassVar[tuple[str, ...]] = ("k", "v")


@dataclasses.dataclass
class LinearAttend(Node):
    """Dividend = relu(q) Z and divisor = relu(q) Ksum of every head, then arith_trio.divide.

    ``shift`` int (C,) 0..31. rule: log2 | reciprocal; exact | uniform8 are software modes (``m1``, ``s1``: uniform8's
    divisor grid).
    """

    q: Ref = None
    z: Ref = None
    ksum: Ref = None
    heads: int = 1
    rule: str = "reciprocal"
    lo: int = 0  #: log2: r of code 0
    shift: np.ndarray = None
    m1: int = 1
    s1: int = 0

    @property
    def inputs(self) -> list[Ref]:
        return [self.q, self.z, self.ksum]


@dataclasses.dataclass
class Pool(Post):
    """Average over all pixels: out (1, C) = post(sum of x), 1 / N within m1 and s1."""

    x: Ref = None


@dataclasses.dataclass
class NormAct(Node):
    """LayerNorm of 12-bit (or int8) rows, then Hardswish (arith_trio.layernorm_hardswish); gamma, beta, shift (C,)."""

    x: Ref = None
    gamma: np.ndarray = None
    beta: np.ndarray = None
    shift: np.ndarray = None
    q3: int = 0
    q6: int = 0
    s2: int = 0
    offset: int = 0

    @property
    def inputs(self) -> list[Ref]:
        return [self.x]


NODES = (Pointwise, Depthwise, KeySum, KeyValue, LinearAttend, Pool, NormAct)
HARDWARE_RULES = ("log2", "reciprocal")
DIVISION_RULES = (*HARDWARE_RULES, "exact", "uniform8")


def software_only(node: Node) -> str:
    """Why the machine cannot run ``node`` (an ablation's mode); empty for what it runs."""
    if isinstance(node, Post) and node.m2 is not None:
        return f"{node.name}: multipliers m2 behind the activation exist in software only (power-of-two factors run)"
    if isinstance(node, LinearAttend) and node.rule not in HARDWARE_RULES:
        return f"{node.name}: division rule {node.rule!r} exists in software only ({' and '.join(HARDWARE_RULES)} run)"
    return ""
