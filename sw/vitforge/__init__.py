"""vitforge: Vision Transformer checkpoint -> integer-only model -> accelerator -> bit-exact simulation."""

__version__ = "0.1.0"
