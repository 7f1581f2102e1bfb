"""ViT and DeiT (P2-ViT): pre-norm blocks with softmax attention, power-of-two scales."""

from .schemes import SCHEMES, Scheme, get_scheme

__all__ = ["SCHEMES", "Scheme", "get_scheme"]
