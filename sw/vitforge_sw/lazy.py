"""Packages whose names are imported when they are first asked for, so that importing one of them costs nothing."""

import importlib
from collections.abc import Callable, Mapping


def lazy(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """``__getattr__`` (PEP 562) of a package's ``__init__``: name -> submodule that it is taken from.

    The command line reads names and choices (schemes, presets, options) out of packages whose other modules need
    torch; with this it does not import them.
    """

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return find
