"""Quantizer of the EfficientViT family (Trio-ViT): dyadic scales, linear attention with coded divisors."""

from .quantizer import quantize_efficientvit
from .schemes import TRIO_SCHEMES, TrioScheme, get_trio_scheme

__all__ = ["TRIO_SCHEMES", "TrioScheme", "get_trio_scheme", "quantize_efficientvit"]
