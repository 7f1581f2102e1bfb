"""Names and reasons from outside inside a one-line message: nothing in them may be a line or an escape code."""

import os
from collections.abc import Iterable
from pathlib import Path


def shown(text: object, limit: int = 80) -> str:
    """``text`` as it is, or with what cannot be printed escaped, cut to ``limit`` characters."""
    text = str(text)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= limit else text[: limit - 3] + "..."


def few(names: Iterable[object], count: int = 3) -> str:
    """The first ``count`` names."""
    names = list(names)
    return ", ".join(shown(n) for n in names[:count]) + (", ..." if len(names) > count else "")


def missing(path: str | Path) -> str:
    """What to say of a path that is no ordinary file."""
    if os.path.isdir(path):
        return "no such file (it is a folder)"
    return "is no ordinary file (a pipe, a device)" if os.path.exists(path) else "no such file"


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says, or its kind."""
    return shown(str(error).split("\n")[0], 160) or type(error).__name__
