"""The module's former name (now ``simulation``): ``vitforge.simulate`` is the function."""

from .simulation import *  # noqa: F403
from .simulation import prepare, simulate, write_run  # noqa: F401
