"""Which image files lie in a folder, and a fair choice of some of them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
#: pictures too, which are not read
OTHERS = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".dng", ".cr2", ".nef", ".arw", ".psd", ".npy")


def _walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Picture files below ``folder``; links followed (but to a folder above them), hidden names skipped."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):  # .ipynb_checkpoints, .DS_Store, macOS' ._x.jpg
            continue
        image = path.suffix.lower() in SUFFIXES
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif (image or path.suffix.lower() in OTHERS) and path.is_file():
            yield path
        elif path.is_symlink() and (image or not path.suffix):
            raise ValueError(f"image {path}: is a link to {os.readlink(path)}, which does not exist")


def list_images(folder: str | Path, notes: list[str] | None = None) -> list[Path]:
    """Image files below ``folder``, recursively, sorted by path. Missing or empty folders are a ValueError.

    ``notes``: gets a line where pictures of other kinds are left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"image folder {folder}: no such folder")
    pictures = sorted(_walk(folder))
    found = [p for p in pictures if p.suffix.lower() in SUFFIXES]
    kinds = Counter(p.suffix.lower() for p in pictures if p.suffix.lower() in OTHERS)
    others = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    if not found:
        held = f", but {others}" if others else ""
        raise ValueError(f"image folder {folder}: holds no image ({' '.join(SUFFIXES)}){held}")
    if others and notes is not None:
        notes.append(f"images: files that are not read are left out: {others}")
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
    files = list_images(folder, notes)
    if count is None or count >= len(files):
        return files
    tops = [path.relative_to(folder).parts[0] if path.parent != Path(folder) else "" for path in files]
    if len(set(tops)) == 1:
        return files[:count]
    if notes is not None:
        notes.append(f"images: {count} of {len(files)}, spread over {len(set(tops))} subfolders (seed {seed})")
    return [files[i] for i in spread(tops, count, seed)]
