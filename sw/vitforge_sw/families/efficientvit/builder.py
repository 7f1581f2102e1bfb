"""Building integer nodes from float layers: weights, products on the calibration images, constants, execution.

``Act`` is an integer tensor and its meaning; ``Builder`` holds the graph and the calibration stream. All decisions see
the integer tensors that a layer will really get, and the float tensors that it should produce.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from ...graph.ir import Graph, Node, Ref, TensorInfo
from ...ops import Depthwise, Matmul
from ...quant.quality import Quality
from ...quant.stream import Stream
from . import lower
from .frontend import Conv
from .schemes import TrioScheme
from .weights import quantize_weight

HESSIAN_ROWS = 20000


@dataclasses.dataclass
class Act:
    """An integer tensor: value = (q - zero) * step, per channel. ``zero`` is fractional for the input bytes only."""

    name: str
    step: torch.Tensor  #: float64 (C,)
    zero: torch.Tensor  #: float64 (C,)


@dataclasses.dataclass
class Product:
    """A layer's weights and its product on the calibration images, bias included."""

    conv: Conv
    weight: torch.Tensor  #: integers, float32
    step: torch.Tensor  #: of the accumulator, float64 (N,)
    weight_sum: torch.Tensor  #: contribution of the input's zero-points to the accumulator
    bias: torch.Tensor  #: real-valued
    h: torch.Tensor  #: real-valued result (B, H, W, N), float32


@dataclasses.dataclass
class Made:
    """What a layer's integer weights were made from: ``real`` (N, K) in units per input step of ``x``."""

    real: torch.Tensor
    weight: torch.Tensor
    step: torch.Tensor
    bias: torch.Tensor
    x_step: torch.Tensor


@dataclasses.dataclass
class Learned:
    """Reconstruction's result for a layer: integers and bias (None: by the scheme's rule), the output step's factor."""

    made: Made
    weight: torch.Tensor
    bias: torch.Tensor | None
    factor: float

    def step(self, x_step: torch.Tensor) -> torch.Tensor:
        """Of the accumulator: all input steps may differ from the first ones by one common factor."""
        ratio = x_step / self.made.x_step
        assert float((ratio / ratio[0] - 1).abs().max()) < 1e-6, "the input's factors per channel have changed"
        return self.made.step * ratio[0]


@dataclasses.dataclass
class State:
    """The builder at one moment, to return to."""

    nodes: list[Node]
    tensors: dict
    env: dict
    steps: dict
    zeros: dict


def columns(conv: Conv, v: torch.Tensor) -> torch.Tensor:
    """Values per input channel in the shape of ``conv.weight``."""
    n, k = conv.weight.shape
    if conv.depthwise:
        return v[:, None].expand(n, k)
    return v.view(conv.groups, 1, k).expand(conv.groups, n // conv.groups, k).reshape(n, k)


class Builder:
    """The graph under construction with its calibration stream."""

    def __init__(self, graph: Graph, windows: np.ndarray, scheme: TrioScheme, batch: int = 50):
        self.graph, self.scheme = graph, scheme
        self.stream = Stream(graph, windows, batch)
        self.steps: dict[str, float | list[float]] = graph.meta.setdefault("steps", {})
        self.zeros: dict[str, int | list[int]] = graph.meta.setdefault("zeros", {})
        self.acts: dict[str, Act] = {}
        # block reconstruction builds a block twice: the second time with the first one's formats
        self.kept: dict[str, object] = {}
        self.made: dict[str, Made] = {}
        self.learned: dict[str, Learned] = {}
        self.quality = Quality()

    def keep(self, name: str, make: Callable, *args):
        """``make(*args)``, or what it gave the first time."""
        if name not in self.kept:
            self.kept[name] = make(*args)
        return self.kept[name]

    def state(self) -> State:
        copies = (dict(t) for t in (self.graph.tensors, self.stream.env, self.steps, self.zeros))
        return State(list(self.graph.nodes), *copies)

    def restore(self, state: State) -> None:
        self.graph.nodes[:] = state.nodes
        mine = (self.graph.tensors, self.stream.env, self.steps, self.zeros)
        for table, old in zip(mine, (state.tensors, state.env, state.steps, state.zeros), strict=True):
            table.clear()
            table.update(old)

    # ------------------------------------------------------------ calibration tensors

    def integers(self, x: Act) -> torch.Tensor:
        """q - zero, float32 (B, H, W, C)."""
        info = self.graph.tensors[x.name]
        q = self.stream.env[x.name].float() - x.zero.float()
        return q.unflatten(1, (info.height, info.width) if info.height else (1, -1))

    def real(self, x: Act) -> torch.Tensor:
        """Values (B, H, W, C), float32."""
        return self.integers(x) * x.step.float()

    def hessian(self, q: torch.Tensor) -> torch.Tensor:
        """Second moment (covariance with bias correction) of the inputs' integers: (K, K)."""
        rows = q.flatten(0, 2)
        if len(rows) > HESSIAN_ROWS:
            pick = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(rows)))[:HESSIAN_ROWS]
            rows = rows[pick]
        if self.scheme.bias_correction:
            rows = rows - rows.mean(0)
        return rows.T @ rows / len(rows)

    def product(self, x: Act, conv: Conv, target: torch.Tensor | None = None) -> Product:
        """Quantize ``conv``'s weights for input ``x`` and run it; bias correction towards ``target``'s means."""
        q = self.integers(x)
        gptq = self.scheme.weight_rounding == "gptq" and not conv.depthwise and conv.groups == 1
        real_columns = conv.weight.double() * columns(conv, x.step)
        learned = self.learned.get(conv.name)
        if learned is None:
            weight, step = quantize_weight(real_columns, conv.bias, self.hessian(q) if gptq else None)
        else:
            weight, step = learned.weight, learned.step(x.step)
        blank = torch.zeros_like(conv.bias)
        h = dataclasses.replace(conv, weight=weight, bias=blank).product(q).mul_(step.float())
        bias = conv.bias.double()
        if learned is not None and learned.bias is not None:
            bias = learned.bias
        elif target is not None and self.scheme.bias_correction:
            bias = (target - h).double().mean((0, 1, 2))
        h = h.add_(bias.float())
        if target is not None:
            self.quality.note(conv.name, h, target)
        weight_sum = (weight.double() * columns(conv, x.zero)).sum(1)
        if learned is None:
            self.made[conv.name] = Made(real_columns, weight, step, bias, x.step)
        return Product(conv, weight, step, weight_sum, bias, h)

    # ------------------------------------------------------------ nodes

    def add(self, node: Node, act: Act, tokens: int, height: int = 0, width: int = 0, fmt: str = "int8") -> Act:
        """Append and execute ``node``, whose whole output tensor ``act`` describes."""
        n = len(act.step)
        zero = int(act.zero[0]) if bool((act.zero == act.zero[0]).all()) else 0
        self.describe(act)
        self.stream.add(node, TensorInfo(act.name, tokens, n, fmt, None, zero, height, width))
        return act

    def describe(self, act: Act) -> None:
        """Note what ``act`` stands for in the graph's metadata: one value, or one per channel."""
        self.acts[act.name] = act
        for table, values, kind in ((self.steps, act.step, float), (self.zeros, act.zero, int)):
            one = bool((values == values[0]).all())
            table[act.name] = kind(values[0]) if one else [kind(v) for v in values]

    def conv_node(self, p: Product, x: Act, out: Act, p_step: torch.Tensor, fmt: str = "int8", **post) -> Act:
        """The Matmul or Depthwise node of a product; ``post``: eh, er, s2, offset, act, residual, ..."""
        conv, name, n = p.conv, p.conv.name, len(p.step)
        info = self.graph.tensors[x.name]
        shifts = lower.plain_fields(n, **{f: post.pop(f) for f in ("eh", "er", "s2", "offset") if f in post})
        ratio = p.step / p_step
        if post.get("act", "identity") == "identity":
            scale = lower.scaled(name, ratio)
            shifts["eh"] = shifts["eh"] + scale.pop("eh")
        else:
            scale = dict(zip(("m1", "s1"), lower.dyadic(name, ratio)))
        fields = dict(
            name=name, out=Ref(name), role=conv.role, x=Ref(x.name),
            weight=np.ascontiguousarray(p.weight.to(torch.int8).numpy()), **scale,
            bias=lower.bias_int(name, p.bias, p.step, p.weight_sum), **shifts, **post,
        )  # fmt: skip
        if conv.depthwise:
            pad = int(x.zero[0])
            node = Depthwise(kernel=conv.kernel, stride=conv.stride, pad=pad, **fields)
        else:
            node = Matmul(groups=conv.groups, **fields)
        _, height, width, _ = p.h.shape
        height, width = (height, width) if info.height else (0, 0)
        return self.add(node, out, p.h.shape[1] * p.h.shape[2], height, width, fmt)
