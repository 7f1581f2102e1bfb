"""The golden model: exact, vectorised integer execution of the graph in PyTorch.

``post`` (what the engines share), ``matmul``, ``spatial``, ``layernorm``, ...: each operation prepared, each tested
against the plain-int definitions of ``vitforge_hw.arch.arith``; ``model`` runs the whole graph.
"""

from .model import Golden, run

__all__ = ["Golden", "run"]
