"""Tensors of a checkpoint to finite float32 ones; every other kind is refused by its name."""

import torch

from ..text import shown

COUNTER = "num_batches_tracked"  #: BatchNorm's count of training steps: an integer, and not needed


def _kind(value: torch.Tensor) -> str | None:
    """What a tensor is that cannot be a weight, None if it can."""
    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return f"quantized ({dtype})"
    if value.layout != torch.strided:
        return f"sparse ({str(value.layout).removeprefix('torch.')})"
    if value.is_meta:
        return "without data (saved from the meta device)"
    if value.is_complex():
        return f"complex ({dtype})"
    if dtype.startswith(("float8", "float4")):
        return f"{dtype}, whose scale is unknown"
    if not value.is_floating_point():
        return f"of integers ({dtype})"
    return None


def check_stored(state: dict[str, torch.Tensor], where: str) -> None:
    """ValueError for a tensor with more values than its file: a view of few, which copying would make gigabytes of."""
    for name, value in state.items():
        dense = value.layout == torch.strided and not value.is_nested and not value.is_meta
        if dense and value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(f"{where}: {shown(name)} must have all of its {value.numel()} values in the file")


def check_kinds(state: dict[str, torch.Tensor], where: str) -> None:
    """ValueError naming the first tensor that is quantized, sparse, complex, 8-bit float, integer or without data."""
    for name, value in state.items():
        if (kind := _kind(value)) and not name.endswith(COUNTER):
            raise ValueError(f"{where}: {shown(name)} must be a dense float tensor (16 bits or more), is {kind}")


def as_weight(name: str, value: torch.Tensor, where: str) -> torch.Tensor:
    """float32, contiguous. ValueError for NaN, Inf, values beyond float32 and a variance below zero."""
    if name.endswith(COUNTER):
        return value
    result = value.detach().float().contiguous()
    if not torch.isfinite(result).all():
        count = int((~torch.isfinite(result)).sum())
        beyond = "NaN or Inf" if not torch.isfinite(value).all() else "values beyond float32"
        raise ValueError(f"{where}: {shown(name)} must be finite, has {count} {beyond} of {value.numel()}")
    if name.endswith("running_var") and bool((result < 0).any()):
        count, least = int((result < 0).sum()), float(result.min())
        raise ValueError(
            f"{where}: {shown(name)} must be a variance of at least 0, has {count} below it of {value.numel()} "
            f"(least {least:.3g})"
        )
    return result
