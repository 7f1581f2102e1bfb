"""Quantizers: a float model and calibration images to an integer graph with power-of-two scales only."""

from .build import quantize_model
from .schemes import SCHEMES, Scheme, get_scheme

__all__ = ["SCHEMES", "Scheme", "get_scheme", "quantize_model"]
