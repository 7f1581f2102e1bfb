"""``check`` rows of timm's EfficientVit (B0 to B3): what the hybrid machine runs, layer by layer.

A layer has the name of its operation in the integer graph.
"""

from collections.abc import Iterator

from torch import nn

from vitforge_hw.arch.config import MAX_CHANNELS, MAX_K

from ...ops.depthwise import KERNELS
from ..vit.check import Row, _identity, _shape

MAX_HEAD = 64  #: channels of one head


def _row(layer: str, module, *problems) -> Row:
    found = [p for p in problems if p]
    return Row(layer, type(module).__name__, _shape(module), not found, "; ".join(found))


def _conv(name: str, layer: nn.Module, *problems, act: bool) -> Iterator[Row]:
    """A ConvNormAct: convolution, foldable BatchNorm, Hardswish or nothing."""
    conv = getattr(layer, "conv", None)
    if not isinstance(conv, nn.Conv2d):
        yield _row(name, layer, "must be a convolution with BatchNorm and activation")
        return
    k = conv.kernel_size[0]
    yield _row(
        name, conv, *problems,
        conv.kernel_size[0] != conv.kernel_size[1] and f"kernel must be square, not {conv.kernel_size}",
        conv.padding not in ((k // 2, k // 2), "same") and f"padding must be {k // 2}, not {conv.padding}",
        conv.dilation != (1, 1) and f"dilation must be 1, not {conv.dilation}: the engines read neighbouring pixels",
        conv.stride not in ((1, 1), (2, 2)) and f"stride must be 1 or 2, not {conv.stride}",
        conv.padding_mode != "zeros" and f"padding must be zeros, not {conv.padding_mode}",
    )  # fmt: skip
    norm, activation = getattr(layer, "norm", None), getattr(layer, "act", None)
    if not _identity(norm):
        yield _row(
            f"{name}.norm",
            norm,
            not isinstance(norm, nn.BatchNorm2d)
            and f"must be BatchNorm2d (folded into the weights), not {type(norm).__name__}",
            getattr(norm, "running_mean", 0) is None and "BatchNorm must keep running statistics",
        )
    if act:
        yield _row(
            f"{name}.act",
            activation,
            not isinstance(activation, nn.Hardswish)
            and f"activation must be Hardswish, not {type(activation).__name__}: retrain or fine-tune with it",
        )
    elif not _identity(activation):
        yield _row(f"{name}.act", activation, f"no activation is supported here, found {type(activation).__name__}")


def _pointwise(name: str, layer: nn.Module, act: bool) -> Iterator[Row]:
    conv = getattr(layer, "conv", None)
    yield from _conv(
        name, layer,
        getattr(conv, "kernel_size", None) != (1, 1) and "must be a 1 x 1 convolution",
        getattr(conv, "groups", 1) != 1 and f"groups must be 1, not {getattr(conv, 'groups', 1)}",
        getattr(conv, "in_channels", 0) > MAX_K and f"more than {MAX_K} inputs exceed the accumulators",
        act=act,
    )  # fmt: skip


def _depthwise(name: str, layer: nn.Module) -> Iterator[Row]:
    conv = getattr(layer, "conv", None)
    k = getattr(conv, "kernel_size", (0,))[0]
    yield from _conv(
        name, layer,
        getattr(conv, "groups", 0) != getattr(conv, "in_channels", 1) and "must be depthwise (groups = channels)",
        k not in KERNELS and f"kernel must be one of {', '.join(map(str, KERNELS))}, not {k}",
        act=True,
    )  # fmt: skip


def _local(name: str, block: nn.Module) -> Iterator[Row]:
    kind = type(block).__name__
    if kind == "MBConv":
        yield from _pointwise(f"{name}.inverted_conv", block.inverted_conv, act=True)
    elif kind != "DSConv":
        yield _row(name, block, f"must be DSConv or MBConv, not {kind}: EfficientViT-L's fused blocks do not run")
        return
    yield from _depthwise(f"{name}.depth_conv", block.depth_conv)
    yield from _pointwise(f"{name}.point_conv", block.point_conv, act=False)


def _attention(name: str, block: nn.Module) -> Iterator[Row]:
    if type(block).__name__ != "LiteMLA":
        yield _row(name, block, f"attention must be LiteMLA, not {type(block).__name__}")
        return
    dim = block.dim
    yield from _pointwise(f"{name}.qkv", block.qkv, act=False)
    for i, branch in enumerate(block.aggreg):
        depth, point = branch[0], branch[1]
        k = depth.kernel_size[0]
        yield _row(
            f"{name}.aggreg.{i}.0",
            depth,
            k not in KERNELS and f"kernel must be one of {KERNELS}, not {k}",
            depth.groups != depth.in_channels and "must be depthwise",
        )
        yield _row(
            f"{name}.aggreg.{i}.1",
            point,
            point.in_channels // point.groups != dim
            and f"groups must hold one head's {dim} channels, not {point.in_channels // point.groups}",
        )
    yield _row(
        f"{name}.kernel_func",
        block.kernel_func,
        not isinstance(block.kernel_func, nn.ReLU)
        and f"linear attention needs ReLU, not {type(block.kernel_func).__name__}",
    )
    good = dim <= MAX_HEAD and dim % 8 == 0
    reason = "" if good else f"head dimension must be a multiple of 8 up to {MAX_HEAD}, not {dim}"
    yield Row(f"{name}.attn", "linear attention", (dim,), good, reason)
    yield from _pointwise(f"{name}.proj", block.proj, act=False)


def efficientvit_rows(model: nn.Module) -> Iterator[Row]:
    """Every layer of an EfficientVit in execution order."""
    stem = model.stem.in_conv.conv
    yield from _conv(
        "stem.in_conv", model.stem.in_conv,
        stem.groups != 1 and f"groups must be 1, not {stem.groups}",
        stem.in_channels not in (1, 3) and f"in_chans must be 1 or 3, not {stem.in_channels}",
        act=True,
    )  # fmt: skip
    for name, block in model.stem.named_children():
        if name != "in_conv":
            yield from _local(f"stem.{name}", block.main)
    for name, module in model.named_modules():
        kind = type(module).__name__
        if not name.startswith("stages.") or kind != "ResidualBlock":
            continue
        if not _identity(module.pre_norm):
            yield _row(f"{name}.pre_norm", module.pre_norm, "a normalisation before the block is not supported")
        if not _identity(module.shortcut):
            yield _row(f"{name}.shortcut", module.shortcut, "the shortcut must be the identity or absent")
        attention = type(module.main).__name__ == "LiteMLA"
        yield from (_attention if attention else _local)(name, module.main)
    head = model.head
    yield from _pointwise("head.in_conv", head.in_conv, act=True)
    pool = getattr(head.global_pool, "pool_type", "")
    yield _row("head.pool", head.global_pool, pool != "avg" and f"pooling must be 'avg', not {pool!r}")
    fc, norm, act, _, out = head.classifier
    yield _row("head.classifier.0", fc, not isinstance(fc, nn.Linear) and "must be one linear layer")
    width = norm.normalized_shape[0] if isinstance(norm, nn.LayerNorm) else 0
    yield _row(
        "head.classifier.1",
        norm,
        not width and f"must be LayerNorm, not {type(norm).__name__}",
        width > MAX_CHANNELS and f"{width} channels exceed the LayerNorm unit's {MAX_CHANNELS}",
    )
    yield _row(
        "head.classifier.2", act, not isinstance(act, nn.Hardswish) and f"must be Hardswish, not {type(act).__name__}"
    )
    yield _row(
        "head.classifier.4",
        out,
        not isinstance(out, nn.Linear) and "must be one linear layer (num_classes must not be 0)",
    )
