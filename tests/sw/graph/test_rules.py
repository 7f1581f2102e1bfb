"""Each rule of the integer graph can fail, and its message names the place and the value."""

import copy
import dataclasses

import numpy as np
import pytest

from vitforge_sw.graph.ir import Linear, Ref
from vitforge_sw.graph.rules import accumulator_bound, check_graph


def node(graph, name):
    return next(n for n in graph.nodes if n.name == name)


def test_graph_of_the_digits_passes(graph):
    assert check_graph(graph) is graph


def test_no_float_anywhere(graph):
    for n in graph.nodes:
        for field in dataclasses.fields(n):
            value = getattr(n, field.name)
            assert not isinstance(value, float), (n.name, field.name)
            if isinstance(value, np.ndarray):
                assert value.dtype.kind == "i", (n.name, field.name)
    assert all(value.dtype.kind == "i" for value in graph.constants.values())


def test_order_of_nodes(digits, graph):
    names = [n.name for n in graph.nodes]
    head = ["k", "v", "q", "scores", "softmax", "attend"]
    block = ["norm1"] + [f"attn.{part}.h{h}" for h in range(3) for part in head]
    block += ["attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    want = ["embed"] + [f"blocks.{b}.{part}" for b in range(4) for part in block] + ["norm", "head"]
    assert names == want
    assert node(graph, "embed").token_offset == -1 and graph.tensors["norm"].tokens == 1


def test_accumulator_bound_is_reached_by_the_worst_input():
    weight = np.array([[127, -127, 3], [1, 1, 1]], dtype=np.int8)
    linear = Linear("n", Ref("y"), x=Ref("x"), weight=weight, bias=np.array([-1000, 5], np.int32))
    assert accumulator_bound(linear) == 128 * 257 + 1000


BREAKS = {
    "float": (
        lambda g: setattr(node(g, "head"), "bias", node(g, "head").bias.astype(float)),
        "head: bias must be an integer array",
    ),
    "weight": (lambda g: node(g, "head").weight.__setitem__((0, 0), -128), r"head: weight must be in -127\.\.127"),
    "bias": (lambda g: node(g, "head").bias.__setitem__(0, 1 << 25), "head: bias must be in"),
    "shift": (lambda g: node(g, "head").s1.__setitem__(0, 48), r"head: s1 must be in 0\.\.47, has \d+\.\.48"),
    "sum": (
        lambda g: [getattr(node(g, "embed"), f).__setitem__(0, v) for f, v in (("eh", 15), ("er", 15), ("s2", 31))],
        "embed: .* must fit 32 bits",
    ),
    "act": (lambda g: setattr(node(g, "head"), "act", "relu"), "head: act must be one of identity, gelu, not 'relu'"),
    "shape": (
        lambda g: setattr(node(g, "head"), "weight", node(g, "head").weight[:, :-1]),
        r"head: weight must have shape \(10, 48\)",
    ),
    "narrow": (
        lambda g: setattr(node(g, "blocks.0.attn.k.h0"), "narrow", False),
        "keys blocks.0.attn.k.h0 must be saturated",
    ),
    "rule": (
        lambda g: setattr(node(g, "blocks.1.attn.softmax.h2"), "rule", "exp"),
        "rule must be one of maxrel, log2, not 'exp'",
    ),
    "c": (lambda g: setattr(node(g, "blocks.1.attn.softmax.h2"), "c", 1024), r"c must be in 0\.\.1023, not 1024"),
    "factor": (
        lambda g: setattr(node(g, "blocks.1.attn.attend.h0"), "rule", "other"),
        "rule 'other' must be that of its codes",
    ),
    "order": (lambda g: g.nodes.insert(0, g.nodes.pop(5)), "order of nodes"),
    "twice": (lambda g: g.nodes.append(g.nodes[-1]), "head: two nodes have this name"),
    "missing": (lambda g: g.nodes.pop(), "'head' is never written completely"),
    "part": (lambda g: g.nodes.remove(node(g, "blocks.3.attn.attend.h1")), "out of order"),
    "unknown": (lambda g: setattr(node(g, "norm"), "x", Ref("nothing")), "reads nothing before it is complete"),
    "gamma": (lambda g: node(g, "norm").gamma.__setitem__(0, 1 << 15), "norm: gamma must be in"),
    "constant": (
        lambda g: g.constants.__setitem__("pos_embed", g.constants["pos_embed"][:-1]),
        "pos_embed: constant must have shape",
    ),
    "format": (
        lambda g: g.tensors.__setitem__("head", dataclasses.replace(g.tensors["head"], fmt="fp8")),
        "head: format must be one of",
    ),
    "bool": (
        lambda g: setattr(node(g, "blocks.0.attn.attend.h0"), "shift", True),
        "shift must be an integer, not True",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_rule_can_fail(graph, name):
    broken = copy.deepcopy(graph)
    change, text = BREAKS[name]
    change(broken)
    with pytest.raises(ValueError, match=text):
        check_graph(broken)


def test_accumulator_rule_can_fail(graph, monkeypatch):
    """Biases of 26 bits leave room for K up to 2064: narrower accumulators show the rule."""
    monkeypatch.setattr("vitforge_hw.arch.config.ACC_BITS", 16)
    with pytest.raises(ValueError, match=r"\|acc \+ bias\| must be below 2\^15, may reach"):
        check_graph(graph)
