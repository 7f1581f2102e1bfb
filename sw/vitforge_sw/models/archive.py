"""Images inside a zip archive, one folder per class: ``train/<class>/*`` and ``test/<class>/*`` (CIFAR-10 as JPEG)."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from .files import SUFFIXES
from .images import ImageConfig, input_patches


def archive_images(path: str | Path, split: str, count: int | None = None, seed: int = 0) -> list[tuple[str, int]]:
    """(member name, class index) of ``split``, classes alphabetical; ``count``: a seeded random choice, else all.

    The names are in a seeded random order, so that the first n are a fair sample. ValueError: no such archive or split.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.startswith(f"{split}/") and n.lower().endswith(SUFFIXES))
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"image archive {path}: cannot be read ({error})") from None
    if not names:
        raise ValueError(f"image archive {path}: holds no image in {split}/")
    classes = sorted({n.split("/")[1] for n in names})
    order = np.random.default_rng(seed).permutation(len(names))[:count]
    return [(names[i], classes.index(names[i].split("/")[1])) for i in order]


def archive_patches(path: str | Path, names: list[str], config: ImageConfig) -> np.ndarray:
    """Input bytes of members: int8 (B, patches, patch bytes)."""
    out = np.empty((len(names), config.patches, config.patch_bytes), dtype=np.int8)
    with zipfile.ZipFile(path) as archive:
        for i, name in enumerate(names):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                out[i] = input_patches(image, config)
    return out
