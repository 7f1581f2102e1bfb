"""Families of models: how a float checkpoint becomes operations, and how its scales are chosen."""

from ..lazy import lazy

__getattr__ = lazy(__name__, {"known_scheme": "schemes", "quantize_model": "quantize", "scheme_for": "schemes"})
