"""Images in any form that Python programs have them in, to the accelerator's input bytes.

Files are read as everywhere. Pixels (uint8) go the same way as a file's: resize, crop. Floating-point batches are what
a data loader with the model's own transform yields: already resized and normalised, so they are turned back into
bytes, and refused where they are none.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .files import some_images
from .images import ImageConfig, input_patches, load_patches, pixels_to_patches
from .pixels import Oddities

TOLERANCE = 0.02  #: of a byte, by which a normalised value may miss it (float16 misses by more and is refused)


def as_patches(
    images: object,
    config: ImageConfig,
    *,
    limit: int | None = None,
    progress: bool = False,
    notes: list[str] | None = None,
) -> tuple[np.ndarray, list[int] | None]:
    """(input bytes int8 (B, patches, K), labels or None) of ``images``.

    images: a folder; a file or list of files; a PIL image or list of them; input bytes int8 (B, patches, K); pixels
    uint8 (B, H, W) or (B, H, W, C) of any size; normalised floats (B, C, H, W) of the model's size; a DataLoader (any
    iterable) of the latter two, alone or in tuples whose second item are the labels. numpy or torch.
    limit: the first so many (of a folder spread over its subfolders). Raises ValueError for anything else.
    """
    if isinstance(images, str | Path):
        if not Path(images).is_file():  # a missing one is refused as a folder
            return load_patches(some_images(images, limit, notes), config, progress, notes), None
        images = [images]
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, np.ndarray | torch.Tensor):
        return _batch(images[:limit], config), None
    if isinstance(images, list | tuple) and images and all(isinstance(i, str | Path) for i in images):
        return load_patches([Path(i) for i in images[:limit]], config, progress, notes), None
    if isinstance(images, list | tuple) and images and all(isinstance(i, Image.Image) for i in images):
        return np.stack([input_patches(i, config, Oddities()) for i in images[:limit]]), None
    if isinstance(images, Iterable):
        return _loader(images, config, limit)
    raise ValueError(f"images: must be a folder, files, arrays or a data loader, not {type(images).__name__}")


def _loader(batches: Iterable, config: ImageConfig, limit: int | None) -> tuple[np.ndarray, list[int] | None]:
    """All batches of a data loader, up to ``limit`` images."""
    parts: list[np.ndarray] = []
    labels: list[int] = []
    for batch in batches:
        data, *rest = batch if isinstance(batch, list | tuple) else (batch,)
        if not isinstance(data, np.ndarray | torch.Tensor):
            raise ValueError(f"images: a data loader must yield arrays or tensors, not {type(data).__name__}")
        parts.append(_batch(data, config))
        labels += [int(v) for v in rest[0]] if rest else []
        if limit is not None and sum(map(len, parts)) >= limit:
            break
    if not parts:
        raise ValueError("images: the data loader yields nothing")
    patches = np.concatenate(parts)[:limit]
    if labels and len(labels) < len(patches):
        raise ValueError(f"images: the data loader yields {len(labels)} labels for {len(patches)} images")
    return patches, labels[: len(patches)] or None


def _batch(data: np.ndarray | torch.Tensor, config: ImageConfig) -> np.ndarray:
    """Input bytes of one array."""
    array = data.detach().cpu().float().numpy() if _floating(data) else np.asarray(data)
    if not len(array):
        raise ValueError("images: the array holds no image")
    shape = tuple(array.shape)
    if array.dtype == np.int8 and shape[1:] == (config.patches, config.patch_bytes):
        return array
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        if array.ndim == 4 and array.shape[3] not in (1, 3, 4):
            raise ValueError(f"images: pixels (uint8) must be (B, H, W) or (B, H, W, C) with C 1, 3 or 4, not {shape}")
        pictures = [Image.fromarray(a[..., 0] if a.ndim == 3 and a.shape[2] == 1 else a) for a in array]
        return np.stack([input_patches(p, config, Oddities()) for p in pictures])
    size = config.image_size
    if np.issubdtype(array.dtype, np.floating) and shape[1:] == (config.in_chans, size, size):
        return np.stack([pixels_to_patches(p, config) for p in _bytes(array, config)])
    raise ValueError(
        f"images: arrays must be pixels uint8 (B, H, W, C), normalised floats (B, {config.in_chans}, {size}, {size}) "
        f"or input bytes int8 (B, {config.patches}, {config.patch_bytes}), not {array.dtype} {shape}"
    )


def _floating(data: np.ndarray | torch.Tensor) -> bool:
    return isinstance(data, torch.Tensor) and data.is_floating_point()


def _bytes(array: np.ndarray, config: ImageConfig) -> np.ndarray:
    """uint8 (B, H, W, C) of normalised floats (B, C, H, W)."""
    shape = (1, config.in_chans, 1, 1)
    values = (array.astype(np.float64) * np.reshape(config.std, shape) + np.reshape(config.mean, shape)) * 255
    if not np.isfinite(values).all() or values.min() < -0.5 or values.max() > 255.5:
        raise ValueError(
            f"images: floats must be pixels normalised with mean {config.mean} and std {config.std}; undone they reach "
            f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g}, not 0 to 255"
        )
    whole = np.round(values)
    if (off := float(np.abs(values - whole).max())) > TOLERANCE:
        raise ValueError(
            f"images: floats must be 8-bit pixels normalised with mean {config.mean} and std {config.std}; undone they "
            f"miss whole bytes by {off:.3f} (augmentations and float16 do that)"
        )
    return whole.astype(np.uint8).transpose(0, 2, 3, 1)
