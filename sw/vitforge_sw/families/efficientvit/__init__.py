"""EfficientViT (Trio-ViT): dyadic scales, linear attention with coded divisors."""

from ...lazy import lazy

__getattr__ = lazy(__name__, {
    "TRIO_SCHEMES": "schemes", "TrioScheme": "schemes", "get_trio_scheme": "schemes",
    "Quantizer": "quantizer", "import_efficientvit": "frontend",
})  # fmt: skip
