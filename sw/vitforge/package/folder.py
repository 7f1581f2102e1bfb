"""The folder of a package: written beside its place, then put there; what is not ours in it stays."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "package.json"  #: in every package; says which files are its own
SCHEMA = "vitforge/package/2"


def replaceable(folder: Path) -> set[str]:
    """The files of ``folder`` that an earlier package wrote. ValueError: it holds other files and no package."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder}: must be a folder, is a file")
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        info = json.loads((folder / PACKAGE).read_text())
        if info["schema"] == SCHEMA and isinstance(info["written"], list):
            return {str(name) for name in info["written"]}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    raise ValueError(f"output {folder}: must be empty or an earlier package ({PACKAGE}), holds something else")


def install(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` hold ``files`` (paths from it), whole or not at all; an earlier package's go, a user's stay.

    ValueError: cannot be written, or a user's file lies where one of ``files`` belongs.
    """
    place = folder.resolve()
    keep = _kept(place, replaceable(folder), files)
    made = [p for p in place.parents if not p.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            for name, data in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(data)
            _swap(place, new, old, keep)
    except BaseException as error:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError):  # a full disk
            raise ValueError(f"output {folder}: cannot be written ({error.strerror})") from None
        raise


def _kept(place: Path, own: set[str], files: Mapping[str, bytes], within: str = "") -> list[str]:
    """Paths of what is no earlier package's: a Vivado project, sources of the user's; whole folders where they are."""
    keep: list[str] = []
    for entry in sorted(os.scandir(place / within), key=lambda e: e.name) if place.exists() else ():
        name = f"{within}/{entry.name}" if within else entry.name
        if name in own:
            continue
        inside = any(n.startswith(f"{name}/") for n in (*own, *files))
        if inside and entry.is_dir(follow_symlinks=False):
            keep += _kept(place, own, files, name)
        elif inside or name in files:
            raise ValueError(f"output {place / name}: is not of the earlier package, and would be lost; move it away")
        else:
            keep.append(name)
    return keep


def _swap(place: Path, new: Path, old: Path, keep: list[str]) -> None:
    """``new`` takes the place, with what is kept of the folder there; on a failure all is as it was."""
    moved = []
    try:
        for name in keep:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(place / name, new / name)
            moved.append(name)
        if place.exists():
            os.rename(place, old)
        os.rename(new, place)
    except BaseException:
        if old.exists() and not place.exists():
            os.rename(old, place)
        for name in moved:
            os.rename(new / name, place / name)
        raise
