"""Quantizers: a float model and calibration images to an integer graph; ViT with power-of-two scales only (this
folder), EfficientViT with dyadic scales (``trio``)."""

from ..lazy import lazy

__getattr__ = lazy(__name__, {
    "SCHEMES": "schemes", "Scheme": "schemes", "get_scheme": "schemes", "known_scheme": "families",
    "quantize_model": "build", "scheme_for": "families",
})  # fmt: skip
