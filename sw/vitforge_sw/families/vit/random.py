"""A small random ViT whose tensors are alive, for tests and benches: made from numbers, no quantizer and no torch."""

import dataclasses
import fnmatch

import numpy as np

from ...graph.ir import Graph, Node
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax
from .bits import layer_name, with_bits
from .shapes import shape_graph

SMALL = dict(depth=2, dim=32, heads=2, mlp=64, tokens=17, patch_k=16, classes=10)


def random_graph(
    seed: int = 1, residual: str = "int12", rule: str = "maxrel", four: tuple[str, ...] = (), **shape
) -> Graph:
    """shape_graph with random weights and shifts that keep every tensor within its format and varied.

    ``four``: patterns of the layers whose weights have 4 bits.
    """
    rng = np.random.default_rng(seed)
    graph = shape_graph(**(SMALL | shape), residual=residual)
    names = {layer_name(node) for node in graph.nodes if isinstance(node, Matmul)}
    graph = with_bits(graph, {n: 4 for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in four)})
    graph.nodes[:] = [_random(rng, graph, node, residual, rule) for node in graph.nodes]
    t = graph.tensors["pos_embed"]
    graph.constants["pos_embed"] = rng.integers(-600, 600, (t.tokens, t.channels)) >> (2 if residual == "int8" else 0)
    return graph


def _random(rng: np.random.Generator, graph: Graph, node: Node, residual: str, rule: str) -> Node:
    """A node of the shapes with random constants."""
    new: dict = {}
    if isinstance(node, Matmul):
        n, k = node.weight.shape
        wide = graph.tensors[node.out.name].fmt == "int12"
        few = node.nibbles
        new["weight"] = rng.integers(*((-7, 8) if few else (-127, 128)), (n, k)).astype(np.int8)
        new["bias"] = rng.integers(-3000, 3000, n)
        # acc has a deviation of about 60 * 70 * sqrt(K): down to about 300 in the 12-bit p; weights of 4 bits: / 16
        new["s1"] = np.full(n, max(0, round(np.log2(14 * np.sqrt(k))) - 4 * few)) + rng.integers(0, 2, n)
        new["bias"] = new["bias"] >> 4 * few
        new["er"] = np.full(n, 1 if node.residual is not None else 0)
        new["eh"] = rng.integers(0, 2, n)
        new["s2"] = rng.integers(1, 3, n) + (0 if wide else 2) + new["eh"]
        if node.role.part == "embed":
            new["bias"] = new["bias"] * 0
        new["offset"] = rng.integers(-3, 4, n) * (node.residual is None)
        if node.act == "relu":
            new["offset"] = np.full(n, -128)
        new["gelu_exp"] = int(rng.integers(7, 9))
    elif isinstance(node, Scores):
        new |= dict(s1=5, s2=1)
    elif isinstance(node, LayerNorm):
        n = len(node.gamma)
        new |= dict(gamma=rng.integers(20, 90, n), beta=rng.integers(-9000, 9000, n))
        new["a"] = rng.integers(0, 4, n) * (graph.tensors[node.x.name].fmt == "int8")
    elif node.role.part.startswith("pool."):
        pass  # an average is what it is
    elif isinstance(node, Softmax):
        new["rule"] = rule
    elif isinstance(node, Attend):
        new |= dict(rule=rule, shift=8)
    return dataclasses.replace(node, **new)


def random_images(graph, count: int, seed: int = 2):
    """Input tensors (count, tokens, K) of int8."""
    t = graph.tensors[graph.input]
    return np.random.default_rng(seed).integers(-128, 128, (count, t.tokens, t.channels)).astype(np.int8)
