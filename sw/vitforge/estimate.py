"""The module's former name (now ``estimation``): ``vitforge.estimate`` is the function."""

from .estimation import *  # noqa: F403
