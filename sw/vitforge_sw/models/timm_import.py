"""Importing timm beside a CPU-only torch.

torchvision's wheel is built for CUDA; with a CPU torch its import dies with "operator torchvision::nms does not
exist", and timm cannot be imported without torchvision. Defining the schemas of the two operators first is enough:
vitforge never calls them. Every module of the project gets timm from `import_timm()`, never by `import timm`.
"""

import warnings
from types import ModuleType

import torch

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # a Library's definitions vanish when it is collected


def _define_missing_operators() -> None:
    if _libraries or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        try:
            library.define(f"{name}{_SIGNATURE}")
        except RuntimeError as error:  # torchvision was imported before us and has it
            warnings.warn(f"torchvision::{name} is defined already: {error}", stacklevel=3)
    _libraries.append(library)


def import_timm() -> ModuleType:
    """Returns the `timm` module, with torchvision's missing operators defined first. Cheap after the first call."""
    _define_missing_operators()
    import timm
    import timm.data

    return timm
