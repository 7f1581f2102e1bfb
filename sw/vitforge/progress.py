"""The progress display (``vitforge_sw.progress``) for what stands on top of it."""

import sys

from vitforge_sw.progress import steps, working

__all__ = ["bars", "steps", "working"]


def bars() -> bool:
    """Whether somebody watches: stderr is a terminal."""
    return sys.stderr.isatty()
