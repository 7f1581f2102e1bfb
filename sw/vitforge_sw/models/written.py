"""Files that people write: JSON as any editor saves it, never without an end, nothing said twice."""

import json
from pathlib import Path

LARGEST = 1 << 28  #: bytes of a table or description; devices have no end


def read_written(path: str | Path) -> bytes:
    """The bytes of a file that somebody wrote. Raises OSError; ValueError where it does not end."""
    with open(path, "rb") as file:
        blob = file.read(LARGEST + 1)
    if len(blob) > LARGEST:
        raise ValueError(f"longer than {LARGEST >> 20} MiB")
    return blob


def _once(pairs: list[tuple[str, object]]) -> dict:
    """An object whose names stand once: of two values JSON would take the last and say nothing."""
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return out


def read_json(path: str | Path) -> object:
    """What a JSON file says; UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises OSError, ValueError with the reason, RecursionError.
    """
    return json.loads(read_written(path), object_pairs_hook=_once)
