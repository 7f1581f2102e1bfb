"""Which schemes a model has: those of the ViT family (power-of-two scales), or of EfficientViT (dyadic scales)."""

from typing import TYPE_CHECKING

from vitforge_hw.arch.parameter import did_you_mean

from .choices import checked
from .efficientvit.schemes import TRIO_SCHEMES, TrioScheme, get_trio_scheme
from .vit.schemes import SCHEMES, Scheme, get_scheme
from .vit.simulated.schemes import SIMULATED

if TYPE_CHECKING:
    import torch

SCHEME_NAMES = tuple(sorted({*SCHEMES, *TRIO_SCHEMES}))


def known_scheme(name: str) -> str:
    """``name``, or ValueError if no family has such a scheme."""
    if name in SIMULATED:
        raise ValueError(
            f"scheme {name}: is simulated in float and cannot be compiled ({SIMULATED[name].reason}); "
            "vitforge compare measures it"
        )
    if name not in SCHEME_NAMES:
        raise ValueError(
            f"scheme {name!r} is unknown{did_you_mean(name, SCHEME_NAMES)}; schemes are {', '.join(SCHEME_NAMES)}"
        )
    return name


def described() -> dict[str, dict[str, Scheme | TrioScheme]]:
    """Scheme name -> family -> scheme."""
    families = {"ViT": SCHEMES, "EfficientViT": TRIO_SCHEMES}
    return {n: {f: known[n] for f, known in families.items() if n in known} for n in SCHEME_NAMES}


def scheme_for(model: "torch.nn.Module", name: str, **options) -> Scheme | TrioScheme:
    """The scheme ``name`` of the model's family with options replaced; unknown names and options are a ValueError."""
    known_scheme(name)
    kind, get = (TrioScheme, get_trio_scheme) if type(model).__name__ == "EfficientVit" else (Scheme, get_scheme)
    return get(name, **checked(kind, name, options))
