"""Weight bits layer by layer, by the names that schemes use: put into a graph of shapes, and counted."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from ...graph.ir import Graph, Node
from ...ops import Matmul


def layer_name(node: Node) -> str:
    """The scheme's name of a node's layer: a head's q, k and v are parts of one (``Scheme.bits``)."""
    return re.sub(r"\.h\d+$", "", node.name)


def with_bits(graph: Graph, bits: Mapping[str, int]) -> Graph:
    """A graph of shapes (zero weights) with these bits per layer, 8 where none are given.

    The same graph with other ``weight_bits``: nothing is quantized. ValueError: a layer that the graph has not.
    """
    known = {layer_name(node) for node in graph.nodes if isinstance(node, Matmul)}
    if unknown := sorted(set(bits) - known):
        raise ValueError(f"weight bits: layer {unknown[0]!r} is none of {', '.join(sorted(known)[:4])}, ...")

    def changed(node: Node) -> Node:
        if not isinstance(node, Matmul):
            return node
        own = bits.get(layer_name(node), 8)
        weight = np.zeros_like(node.weight) if own < 8 and node.weight.any() else node.weight
        return dataclasses.replace(node, weight=weight, weight_bits=own)

    return dataclasses.replace(graph, nodes=[changed(node) for node in graph.nodes])


def average_bits(graph: Graph) -> tuple[float, dict[int, list[str]]]:
    """Mean bits of a weight, and the layers of each width, in order."""
    layers: dict[int, list[str]] = {}
    total = count = 0
    for node in graph.nodes:
        if isinstance(node, Matmul):
            total += node.weight.size * node.weight_bits
            count += node.weight.size
            names = layers.setdefault(node.weight_bits, [])
            if (name := layer_name(node)) not in names:
                names.append(name)
    return total / max(1, count), layers
