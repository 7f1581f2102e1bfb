"""Which schemes a model has: those of the ViT family (power-of-two scales), or of EfficientViT (dyadic scales)."""

import torch

from .efficientvit.schemes import TRIO_SCHEMES, TrioScheme, get_trio_scheme
from .vit.schemes import SCHEMES, Scheme, get_scheme

SCHEME_NAMES = tuple(sorted({*SCHEMES, *TRIO_SCHEMES}))


def known_scheme(name: str) -> str:
    """``name``, or ValueError if no family has such a scheme."""
    if name not in SCHEME_NAMES:
        raise ValueError(f"scheme {name!r} is unknown; schemes are {', '.join(SCHEME_NAMES)}")
    return name


def scheme_for(model: torch.nn.Module, name: str, **options) -> Scheme | TrioScheme:
    """The scheme ``name`` of the model's family with options replaced; unknown names and options are a ValueError."""
    known_scheme(name)
    return (get_trio_scheme if type(model).__name__ == "EfficientVit" else get_scheme)(name, **options)
