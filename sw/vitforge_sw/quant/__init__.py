"""Quantizers: a float model and calibration images to an integer graph; ViT with power-of-two scales only (this
folder), EfficientViT with dyadic scales (``trio``)."""

from .build import quantize_model
from .families import known_scheme, scheme_for
from .schemes import SCHEMES, Scheme, get_scheme

__all__ = ["SCHEMES", "Scheme", "get_scheme", "known_scheme", "quantize_model", "scheme_for"]
