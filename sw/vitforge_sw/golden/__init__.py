"""The golden model: exact, vectorised integer execution of the graph in PyTorch.

``linear`` (PE array and post-processing), ``layernorm``, ``softmax``, ``attend``: one file per chunk, each tested
against the plain-int definitions of ``vitforge_hw.arch.arith``; ``model`` runs the whole graph.
"""

from .model import Golden, run

__all__ = ["Golden", "run"]
