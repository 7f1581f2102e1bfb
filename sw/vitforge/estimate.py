"""The module's former name, now ``estimation``: importing it leaves ``vitforge.estimate`` a function all the same."""

import sys
import types

from . import road
from .estimation import *  # noqa: F403


class _Function(types.ModuleType):
    """A module that is called as ``road.estimate``: Python binds a submodule's name in its package."""

    def __call__(self, *args, **options):
        return road.estimate(*args, **options)


sys.modules[__name__].__class__ = _Function
__doc__ = road.estimate.__doc__
