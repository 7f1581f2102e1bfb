"""The quantizer of EfficientViT: walks the float model once, builds and executes each integer node."""

import dataclasses
import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from ...graph.ir import Graph, Ref, Role, TensorInfo
from ...models.images import ImageConfig, patches_to_float
from ...ops import LayerNorm, TokenSum
from ...progress import steps
from ..vit.lower import layernorm_fields
from . import lower
from .attention import attention
from .blocks import HEAD_DEPTH, hardswish_layer, stream_base, stream_layer
from .builder import Act, Builder
from .formats import shifted, symmetric
from .frontend import Conv, FloatEfficientViT, LiteMLA, Local, float_windows, layer_norm
from .reconstruct import reconstruct
from .schemes import TrioScheme

LOGIT_ROOM = 1.25  #: logits of other images may exceed the calibration images' by this factor
ROOM = 1.1  #: on channel ranges behind pooling, where an image gives one value
HSWISH_LOW = -0.375


def input_act(image: ImageConfig) -> Act:
    """The stem's windows: mean and standard deviation belong to the scales of the bytes."""
    area = image.patch_size**2
    std = torch.tensor(image.std, dtype=torch.float64).repeat_interleave(area)
    mean = torch.tensor(image.mean, dtype=torch.float64).repeat_interleave(area)
    return Act("input", 1 / (255 * std), 255 * mean - 128)


class Quantizer:
    """Quantizes ``net`` with ``scheme`` on calibration ``windows`` int8 (B, P, K); ``run`` returns the graph,
    in whose ``meta`` are ``steps`` and ``zeros`` of every tensor (one, or by channel): value = (q - zero) * step."""

    def __init__(self, net: FloatEfficientViT, image: ImageConfig, scheme: TrioScheme, windows: np.ndarray):
        self.net, self.image, self.scheme = net, image, scheme
        side = image.side
        info = TensorInfo("input", windows.shape[1], windows.shape[2], "int8", None, 0, side, side)
        self.graph = Graph([], {"input": info}, {}, "input", "head.classifier.4", {})
        self.b = Builder(self.graph, windows, scheme)
        self.windows = windows

    def float_input(self, part: slice = slice(None)) -> torch.Tensor:
        """Normalised windows (B, H, W, K) of the same bytes."""
        c = self.image
        pixels = torch.from_numpy(patches_to_float(self.windows[part], c))
        return float_windows(pixels, c.patch_size, c.stride, c.padding)

    def stream_tops(self, batch: int = 50) -> dict[str, float]:
        """The largest |value| of every float tensor on the calibration images."""
        tops: dict[str, float] = {}

        def record(name: str, value: torch.Tensor) -> None:
            tops[name] = max(tops.get(name, 0.0), float(value.abs().max()))

        for start in range(0, len(self.windows), batch):
            self.net(self.float_input(slice(start, start + batch)), record)
        return tops

    def _bases(self) -> dict[int, float]:
        """Step of the stream (up to powers of two) for each block that starts a stage: index -> base."""
        tops, bases = self.stream_tops(), {}
        starts = [i for i, block in enumerate(self.net.blocks) if not block.residual]
        for start, end in zip(starts, [*starts[1:], len(self.net.blocks)], strict=True):
            names = [(k.proj if isinstance(k, LiteMLA) else k.layers[-1]).name for k in self.net.blocks[start:end]]
            bases[start] = stream_base([tops[n] for n in names])
        return bases

    def _reader(self, index: int) -> torch.Tensor | None:
        """Weights (N, C) of the pointwise layer that reads the stream written by block ``index``; None: depthwise."""
        if index + 1 == len(self.net.blocks):
            return self.net.head.conv.weight
        block = self.net.blocks[index + 1]
        first = block.qkv if isinstance(block, LiteMLA) else block.layers[0]
        return None if first.depthwise else first.weight

    def _local(self, block: Local, index: int, x: Act, fx: torch.Tensor, base: float) -> tuple[Act, torch.Tensor]:
        y, fy = x, fx
        for layer, after in zip(block.layers[:-1], block.layers[1:], strict=True):
            reader = "depthwise" if after.depthwise else "pointwise"
            new, fy = hardswish_layer(self.b, y, layer, fy, reader, None if after.depthwise else after.weight)
            if y is not x:
                self.b.stream.drop(y.name)
            y = new
        before = (x, fx) if block.residual else (None, None)
        out = stream_layer(self.b, y, block.layers[-1], fy, base, self._reader(index), *before)
        self.b.stream.drop(x.name, y.name)
        return out

    def _lite_mla(self, block: LiteMLA, index: int, x: Act, fx: torch.Tensor, base: float) -> tuple[Act, torch.Tensor]:
        y, fy = attention(self.b, x, block, fx)
        before = (x, fx) if block.residual else (None, None)
        out = stream_layer(self.b, y, block.proj, fy, base, self._reader(index), *before)
        self.b.stream.drop(x.name, y.name)
        return out

    def _stem(self) -> tuple[Act, torch.Tensor]:
        first = self.net.blocks[0]
        depthwise = isinstance(first, Local) and first.layers[0].depthwise
        after = None if depthwise else self._reader(-1)
        reader = "depthwise" if depthwise else "pointwise"
        return hardswish_layer(
            self.b, input_act(self.image), self.net.stem, self.float_input(), reader, after, plain=True
        )

    # ------------------------------------------------------------ head

    def _pool(self, x: Act, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
        """Average pooling with one rounding; its channels' scales fold into the next layer."""
        name, info = "head.pool", self.graph.tensors[x.name]
        y, n = self.b.real(x).mean((1, 2), keepdim=True), len(x.step)
        weight = self.net.head.fc.weight
        fmt = shifted(y, weight, HEAD_DEPTH, room=ROOM) if self.scheme.head_zero_points else symmetric(y)
        step, zero = fmt.steps(fmt.base), fmt.zeros(fmt.base)
        scale = lower.scaled(name, x.step / (info.tokens * step))
        bias = lower.to_int(-info.tokens * x.zero)
        fields = lower.plain_fields(n, offset=lower.to_int(zero)) | dict(bias=bias, **scale)
        node = TokenSum(name=name, out=Ref(name), role=Role(name), x=Ref(x.name), **fields)
        self.b.add(node, Act(name, step, zero), 1)
        return Act(name, step, zero), fx.mean((1, 2), keepdim=True)

    def _norm_act(self, x: Act, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
        """LayerNorm and Hardswish; one scale and zero-point."""
        name, norm, n = "head.classifier.1", self.net.head.norm, len(x.step)
        f_norm = layer_norm(fx, norm)
        got = layer_norm(self.b.real(x), norm)
        y = F.hardswish(got)
        low = HSWISH_LOW if self.scheme.shifting else 0.0
        base = (float(y.max()) - low) / 255 if low else float(y.abs().max()) / 127
        hs = lower.hardswish(name, base, float(got.max()))
        zero = round(-128 - low / hs.step) if low else 0
        flat = torch.zeros(n, dtype=torch.int32)
        gamma, beta = norm.gamma.double() / hs.p_step, norm.beta.double() / hs.p_step
        fields = layernorm_fields(name, gamma, beta, flat, flat)
        fields.pop("a")
        node = LayerNorm(
            name=name, out=Ref(name), role=Role(name), x=Ref(x.name), act="hardswish", q3=hs.q3, q6=hs.q6, s2=hs.k,
            offset=zero, **fields,
        )  # fmt: skip
        ones = torch.ones(n, dtype=torch.float64)
        return self.b.add(node, Act(name, hs.step * ones, zero * ones), 1), F.hardswish(f_norm)

    def _head(self, x: Act, fx: torch.Tensor) -> None:
        head, b = self.net.head, self.b
        x, fx = hardswish_layer(b, x, head.conv, fx, "pool", head.fc.weight)
        x, fx = self._pool(x, fx)
        fc = Conv("head.classifier.0", head.fc.weight, head.fc.bias, role=Role("head.classifier.0"))
        f_fc = fc.before(fx)
        p = b.product(x, fc, f_fc)
        wide = self.scheme.norm_input == "int12"
        ones = torch.ones(len(p.step), dtype=torch.float64)
        step = float(p.h.abs().max()) / (2047 / 1.1 if wide else 127) * ones
        x = b.conv_node(p, x, Act(fc.name, step, 0 * step), step, fmt="int12" if wide else "int8")
        x, fx = self._norm_act(x, f_fc)
        out = Conv("head.classifier.4", head.out.weight, head.out.bias, role=Role("head.classifier.4"))
        p = b.product(x, out, out.before(fx))
        exponent = math.ceil(math.log2(float(p.h.abs().max()) * LOGIT_ROOM / 2047))
        step = 2.0**exponent * torch.ones(len(p.step), dtype=torch.float64)
        b.conv_node(p, x, Act(out.name, step, 0 * step), step, fmt="int12")
        self.graph.tensors[out.name] = dataclasses.replace(self.graph.tensors[out.name], exponent=exponent)

    @torch.no_grad()
    def run(self, progress: bool = True) -> Graph:
        net, bases = self.net, self._bases()
        x, fx = self._stem()
        base = float(x.step.max())
        blocks = steps(net.blocks, "blocks", progress)
        for i, block in enumerate(blocks):
            base = bases.get(i, base)
            step = self._lite_mla if isinstance(block, LiteMLA) else self._local
            build = functools.partial(step, block, i, x, fx, base)
            if self.scheme.reconstruction == "block":
                x, fx = reconstruct(self.b, block, x, build, progress)
            else:
                x, fx = build()
        self._head(x, fx)
        return self.graph
