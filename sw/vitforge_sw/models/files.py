"""Which image files lie in a folder, and a fair choice of some of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def _walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Image files below ``folder``; links followed (but to a folder above them), hidden names skipped."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):  # .ipynb_checkpoints, .DS_Store, macOS' ._x.jpg
            continue
        image = path.suffix.lower() in SUFFIXES
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif image and path.is_file():
            yield path
        elif path.is_symlink() and (image or not path.suffix):
            raise ValueError(f"image {path}: is a link to {os.readlink(path)}, which does not exist")


def list_images(folder: str | Path) -> list[Path]:
    """Image files below ``folder``, recursively, sorted by path. Missing or empty folders are a ValueError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"image folder {folder}: no such folder")
    found = sorted(_walk(folder))
    if not found:
        raise ValueError(f"image folder {folder}: holds no image ({' '.join(SUFFIXES)})")
    return found


def spread(groups: Sequence, count: int, seed: int = 0) -> list[int]:
    """``count`` positions in ``groups`` (each image's class or folder), as evenly over them as their sizes allow.

    Which of a group, and which groups get one more, is random by ``seed``; the positions come back in rising order.
    """
    rng = np.random.default_rng(seed)
    members: dict = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    keys = sorted(members)
    turns = []  # (round, random, position): everybody's first before anybody's second
    for k in rng.permutation(len(keys)):
        chosen = rng.permutation(members[keys[k]])
        turns += [(turn, len(turns), int(i)) for turn, i in enumerate(chosen)]
    return sorted(i for _, _, i in sorted(turns)[:count])


def some_images(folder: str | Path, count: int | None, notes: list[str] | None = None, seed: int = 0) -> list[Path]:
    """``count`` images below ``folder``: its first ones, or spread over its subfolders where it has several."""
    files = list_images(folder)
    if count is None or count >= len(files):
        return files
    tops = [path.relative_to(folder).parts[0] if path.parent != Path(folder) else "" for path in files]
    if len(set(tops)) == 1:
        return files[:count]
    if notes is not None:
        notes.append(f"images: {count} of {len(files)}, spread over {len(set(tops))} subfolders (seed {seed})")
    return [files[i] for i in spread(tops, count, seed)]
