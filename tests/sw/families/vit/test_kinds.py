"""Kinds of ViT beside the plain one: random networks on the emulator, and why their parts need no new unit."""

import dataclasses

import numpy as np
import pytest

from vitforge_hw.arch import arith
from vitforge_hw.arch.config import PRESETS
from vitforge_sw.compiler import compile_graph
from vitforge_sw.emulator import emulate
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.golden.model import run
from vitforge_sw.graph.ir import Ref
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.ops import LayerNorm

KINDS = {
    "registers": dict(prefix=3, tokens=18),
    "distilled": dict(prefix=2, distilled=True),
    "relu": dict(act="relu"),
    "norms": dict(norms=("q", "k")),
    "norm of queries": dict(norms=("q",)),
    "average": dict(pool="before"),
    "average, no class token": dict(pool="before", prefix=0, tokens=16),
    "average behind": dict(pool="behind", prefix=4, tokens=21, depth=1),
}


@pytest.mark.parametrize("preset", ["tiny", "tiny_hybrid"])
@pytest.mark.parametrize("kind", KINDS)
def test_emulator(kind, preset):
    """Every tensor of two images, in random legal order."""
    seed = list(KINDS).index(kind)
    graph = check_graph(random_graph(seed, residual=("int12", "int8")[seed % 2], **KINDS[kind]))
    build, images = compile_graph(graph, PRESETS[preset]), random_images(graph, 2)
    golden = {k: np.asarray(v) for k, v in run(graph, images).items()}
    assert np.ptp(golden[graph.output]) > 100 and (golden[graph.output][0] != golden[graph.output][1]).any()
    for i, result in enumerate(emulate(build, list(images), seed)):
        assert set(result.tensors) == set(graph.tensors)
        for name, value in result.tensors.items():
            assert np.array_equal(golden[name][i], value), name
        assert np.array_equal(golden[graph.output][i][0], result.logits)


@pytest.mark.parametrize("c", [8, 64])
def test_normalised_keys_cannot_reach_the_lowest_code(c):
    """The bound of LayerNorm.narrow: never exceeded by the rows with the largest |z|, and nearly reached."""
    one = np.ones(c, np.int64)
    node = LayerNorm(name="k", out=Ref("k"), x=Ref("x"), gamma=one * 8000, beta=one * -900, shift=one)
    rows = [[0] * i + [-x] + [0] * (c - 1 - i) for i in (0, c - 1) for x in (1, 2, 77, 2048)]
    lowest = {}
    for shift in range(12, 24):
        fields = [v.tolist() for v in (one * 0, node.gamma, node.beta, one * shift)]
        lowest[shift] = min(min(arith.layernorm(row, *fields)) for row in rows)
        proven = dataclasses.replace(node, shift=one * shift).narrow
        assert not proven or lowest[shift] >= -127
        assert proven or lowest[shift] <= -126  # not refused for nothing
    assert -128 in lowest.values() and max(lowest.values()) > -128


def test_relu_is_saturation_at_the_zero_point():
    """What the graph calls relu runs as the identity: negative values end at the lowest code."""
    for s2 in range(6):
        for p in range(-2048, 2048, 3):
            plain = arith.postprocess(p, bias=0, s1=0, s2=s2, offset=-128)
            assert plain == arith.postprocess(max(p, 0), bias=0, s1=0, s2=s2, offset=-128)


def test_relu_needs_its_zero_point():
    graph = random_graph(act="relu")
    at = next(i for i, n in enumerate(graph.nodes) if n.role.part == "mlp.fc1")
    graph.nodes[at] = dataclasses.replace(graph.nodes[at], offset=graph.nodes[at].offset + 1)
    with pytest.raises(ValueError, match="mlp.fc1: relu needs the offset -128 in every channel"):
        check_graph(graph)
