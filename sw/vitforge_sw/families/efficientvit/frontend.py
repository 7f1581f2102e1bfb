"""Front end: a timm EfficientVit (B0 to B3, any resolution) to a plain float description, BatchNorm folded.

Spatial tensors are (B, height, width, channels). qkv's channels are regrouped from timm's (head, part, channel) to
(part, head, channel), so that q, k and v are three runs of channels; the multi-scale branches follow. The 1e-5 that
LiteMLA adds to the divisor has no place in the integer units (a divisor of 0 gives 0) and is kept only here.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ...graph.ir import Role
from ..vit.check import check_model
from ..vit.frontend import Affine, Norm, _affine, _norm, layer_norm

DIVISOR_EPS = 1e-5
Record = Callable[[str, torch.Tensor], None]  #: (layer name, float output) of a run


@dataclasses.dataclass
class Conv:
    """A convolution with its BatchNorm folded in and its activation.

    weight: pointwise (N, K / groups), K ordered (channel, row, column) for the stem's windows; depthwise (C, k * k).
    """

    name: str
    weight: torch.Tensor
    bias: torch.Tensor
    hardswish: bool = False
    kernel: int = 1  #: of a depthwise layer, else 1
    stride: int = 1
    groups: int = 1  #: of a grouped pointwise layer
    role: Role = Role()

    depthwise = property(lambda s: s.kernel > 1)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, K) to (B, H', W', N) without bias and activation."""
        if self.depthwise:
            k, c = self.kernel, x.shape[-1]
            y = F.conv2d(x.permute(0, 3, 1, 2), self.weight.view(c, 1, k, k), None, self.stride, k // 2, groups=c)
            return y.permute(0, 2, 3, 1)
        if self.groups > 1:
            w = self.weight.view(self.groups, -1, self.weight.shape[1])
            return torch.einsum("bhwgk,gnk->bhwgn", x.unflatten(-1, (self.groups, -1)), w).flatten(-2)
        return F.linear(x, self.weight)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        """Before the activation."""
        return self.product(x) + self.bias

    def __call__(self, x: torch.Tensor, record: Record | None = None) -> torch.Tensor:
        y = self.before(x)
        y = F.hardswish(y) if self.hardswish else y
        if record:
            record(self.name, y)
        return y


@dataclasses.dataclass
class Local:
    """DSConv (depthwise, pointwise) or MBConv (pointwise, depthwise, pointwise), with or without a residual."""

    name: str
    layers: list[Conv]
    residual: bool

    def __call__(self, x: torch.Tensor, record: Record | None = None) -> torch.Tensor:
        y = x
        for layer in self.layers:
            y = layer(y, record if layer is not self.layers[-1] else None)
        y = x + y if self.residual else y
        if record:
            record(self.layers[-1].name, y)
        return y


@dataclasses.dataclass
class LiteMLA:
    """Multi-scale ReLU linear attention with a residual; ``branches``: (depthwise, grouped pointwise) on qkv."""

    name: str
    qkv: Conv
    branches: list[tuple[Conv, Conv]]
    proj: Conv
    dim: int  #: channels of one head
    residual: bool

    channels = property(lambda s: len(s.qkv.bias) // 3)
    heads = property(lambda s: s.channels // s.dim)

    def parts(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, H, W, 3 C) to q, k (after ReLU), v: (B, heads, H * W, dim)."""
        q, k, v = (t.flatten(1, 2).unflatten(-1, (-1, self.dim)).transpose(1, 2) for t in qkv.chunk(3, -1))
        return F.relu(q), F.relu(k), v

    def attend(self, qkv: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3 C) to the attention output (B, H, W, C)."""
        q, k, v = self.parts(qkv)
        out = (q @ (k.transpose(-1, -2) @ v)) / (q @ k.sum(2)[..., None] + DIVISOR_EPS)
        return out.transpose(1, 2).flatten(2).view(*qkv.shape[:3], -1)

    def __call__(self, x: torch.Tensor, record: Record | None = None) -> torch.Tensor:
        scales = [self.qkv(x, record)]
        scales += [point(depth(scales[0], record), record) for depth, point in self.branches]
        out = torch.cat([self.attend(s) for s in scales], -1)
        if record:
            record(f"{self.name}.attend", out)
        y = self.proj(out)
        y = x + y if self.residual else y
        if record:
            record(self.proj.name, y)
        return y


@dataclasses.dataclass
class Head:
    """Pointwise layer, average pooling, linear layer, LayerNorm, Hardswish, classifier."""

    conv: Conv
    fc: Affine
    norm: Norm
    out: Affine

    def __call__(self, x: torch.Tensor, record: Record | None = None) -> torch.Tensor:
        record = record or (lambda name, value: None)
        x = self.conv(x, record).mean((1, 2))
        record("head.pool", x)
        x = F.linear(x, self.fc.weight, self.fc.bias)
        record("head.classifier.0", x)
        x = F.hardswish(layer_norm(x, self.norm))
        record("head.classifier.1", x)
        x = F.linear(x, self.out.weight, self.out.bias)
        record("head.classifier.4", x)
        return x


@dataclasses.dataclass
class FloatEfficientViT:
    """The float model. ``stem`` acts on normalised windows (channel, row, column); stages: block counts for reports."""

    stem: Conv
    blocks: list[Local | LiteMLA]
    head: Head

    def __call__(self, windows: torch.Tensor, record: Record | None = None) -> torch.Tensor:
        """Normalised float windows (B, H, W, 27) to logits (B, classes)."""
        x = self.stem(windows, record)
        for block in self.blocks:
            x = block(x, record)
        return self.head(x, record)


def float_windows(pixels: torch.Tensor, kernel: int, stride: int, padding: int) -> torch.Tensor:
    """Normalised images (B, C, size, size) to the stem's windows (B, H, W, C * kernel^2), zero-padded."""
    side = (pixels.shape[-1] + 2 * padding - kernel) // stride + 1
    x = F.unfold(pixels, kernel, stride=stride, padding=padding).transpose(1, 2)
    return x.unflatten(1, (side, side))


# ---------------------------------------------------------------- import


def _fold(name: str, layer: torch.nn.Module, hardswish: bool, role: Role) -> Conv:
    """A ConvNormAct: w' = w g / sqrt(var + eps), b' = (b - mean) g / sqrt(var + eps) + beta."""
    conv, norm = layer.conv, layer.norm
    weight = conv.weight.detach().double()
    bias = conv.bias.detach().double() if conv.bias is not None else weight.new_zeros(len(weight))
    if isinstance(norm, torch.nn.BatchNorm2d):
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        factor = factor * norm.weight.detach().double() if norm.weight is not None else factor
        weight = weight * factor[:, None, None, None]
        bias = (bias - norm.running_mean.double()) * factor
        bias = bias + norm.bias.detach().double() if norm.bias is not None else bias
    depthwise = conv.groups > 1
    kernel = conv.kernel_size[0] if depthwise else 1
    stride = conv.stride[0] if depthwise else 1
    return Conv(name, weight.flatten(1).float(), bias.float(), hardswish, kernel, stride, role=role)


def _local(name: str, number: int, block: torch.nn.Module, residual: bool) -> Local:
    parts = ("inverted_conv", "depth_conv", "point_conv")
    layers = [
        _fold(f"{name}.{p}", getattr(block, p), p != "point_conv", Role(p, number)) for p in parts if hasattr(block, p)
    ]
    return Local(name, layers, residual)


def _lite_mla(name: str, number: int, block: torch.nn.Module, residual: bool) -> LiteMLA:
    qkv, proj = (_fold(f"{name}.{p}", getattr(block, p), False, Role(p, number)) for p in ("qkv", "proj"))
    d = block.dim
    heads = len(qkv.bias) // (3 * d)
    order = torch.arange(3 * heads * d).view(heads, 3, d).transpose(0, 1).flatten()

    def regroup(layer_name: str, weight: torch.Tensor, bias: torch.Tensor | None, **kw) -> Conv:
        bias = bias.detach().float() if bias is not None else weight.detach().float().new_zeros(len(weight))
        return Conv(layer_name, weight.detach().float().flatten(1)[order].contiguous(), bias[order], **kw)

    branches = []
    for i, (depth, point) in enumerate(block.aggreg):
        branches.append((
            regroup(f"{name}.aggreg.{i}.0", depth.weight, depth.bias, kernel=depth.kernel_size[0],
                    role=Role("aggreg.0", number, branch=1 + i)),
            regroup(f"{name}.aggreg.{i}.1", point.weight, point.bias, groups=3 * heads,
                    role=Role("aggreg.1", number, branch=1 + i)),
        ))  # fmt: skip
    return LiteMLA(name, regroup(qkv.name, qkv.weight, qkv.bias, role=qkv.role), branches, proj, d, residual)


def import_efficientvit(model: torch.nn.Module) -> FloatEfficientViT:
    """The float description of a timm EfficientVit.

    Raises ValueError naming the first unsupported layer (``check_model`` lists all).
    """
    for row in check_model(model):
        if not row.supported:
            raise ValueError(f"model: {row.layer} ({row.kind}) is not supported: {row.reason}")
    blocks = []

    def add(name: str, block: torch.nn.Module) -> None:
        residual = block.shortcut is not None
        make = _lite_mla if type(block.main).__name__ == "LiteMLA" else _local
        blocks.append(make(name, len(blocks), block.main, residual))

    for name, block in model.stem.named_children():
        if name != "in_conv":
            add(f"stem.{name}", block)
    for name, module in model.stages.named_modules(prefix="stages"):
        if type(module).__name__ == "ResidualBlock":
            add(name, module)
    head = model.head
    fc, norm, _, _, out = head.classifier
    return FloatEfficientViT(
        _fold("stem.in_conv", model.stem.in_conv, True, Role("stem")), blocks,
        Head(_fold("head.in_conv", head.in_conv, True, Role("head.in_conv")), _affine(fc), _norm(norm), _affine(out)),
    )  # fmt: skip
