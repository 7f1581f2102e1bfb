"""The quantizer of ViTs: walks the float model once, builds each integer node and executes it on calibration images.

Every decision sees the integer tensors that the layer will really get, and the float tensors that it should produce.
``builder`` turns a float layer into an integer node; ``embed``, ``smooth``, ``attention``, ``mlp``, ``residual`` and
``classifier`` choose the scales of one part each; ``reconstruct`` learns a branch's roundings behind that; ``network``
goes through the model.
"""

from .builder import Builder
from .network import quantize_network

__all__ = ["Builder", "quantize_network"]
