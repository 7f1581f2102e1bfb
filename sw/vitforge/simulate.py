"""The module's former name, now ``simulation``: importing it leaves ``vitforge.simulate`` a function all the same."""

import sys
import types

from . import road
from .simulation import *  # noqa: F403


class _Function(types.ModuleType):
    """A module that is called as ``road.simulate``: Python binds a submodule's name in its package."""

    def __call__(self, *args, **options):
        return road.simulate(*args, **options)


sys.modules[__name__].__class__ = _Function
__doc__ = road.simulate.__doc__
