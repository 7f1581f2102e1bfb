"""The boards, as data: boards/*.toml."""

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "boards"


def board(name: str) -> dict[str, Any]:
    """A board's data. ValueError: unknown name."""
    names = sorted(p.stem for p in FOLDER.glob("*.toml"))
    if name not in names:
        raise ValueError(f"board: must be one of {', '.join(names)}, not {name!r}")
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())
