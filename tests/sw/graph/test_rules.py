"""Each rule of the integer graph can fail, and its message names the place and the value."""

import copy
import dataclasses

import numpy as np
import pytest

from vitforge_sw.graph.ir import Ref, Role
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.ops import Matmul


def node(graph, name):
    return next(n for n in graph.nodes if n.name == name)


def put(graph, name, field, value):
    """Replace a node by one with another value."""
    graph.nodes[:] = [dataclasses.replace(n, **{field: value}) if n.name == name else n for n in graph.nodes]


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
    constants = {f: np.zeros(2, np.int32) for f in ("s1", "eh", "er", "s2", "offset")}
    constants["bias"] = np.array([-1000, 5], np.int32)
    linear = Matmul(name="n", out=Ref("y"), x=Ref("x"), weight=weight, **constants)
    assert linear.acc_bound(None) == 128 * 257 + 1000


BREAKS = {
    "float": (
        lambda g: put(g, "head", "bias", node(g, "head").bias.astype(float)),
        "head: bias must be an integer array",
    ),
    "weight": (lambda g: node(g, "head").weight.__setitem__((0, 0), -128), r"head: weight must be in -127\.\.127"),
    "bias": (
        lambda g: node(g, "head").bias.__setitem__(0, 1 << 25),
        r"head: bias must be in .*\(field bias of isa.POST_PARAM_FIELDS, 26 bits\)",
    ),
    "shift": (lambda g: node(g, "head").s1.__setitem__(0, 48), r"head: s1 must be in 0\.\.47, has \d+\.\.48"),
    "sum": (
        lambda g: [getattr(node(g, "embed"), f).__setitem__(0, v) for f, v in (("eh", 15), ("er", 15), ("s2", 31))],
        r"embed: \(h << eh\) \+ \(residual << er\) must be below 2147483648, may reach",
    ),
    "act": (
        lambda g: put(g, "head", "act", "tanh"),
        "head: act must be one of identity, gelu, hardswish, relu, not 'tanh'",
    ),
    "shape": (
        lambda g: put(g, "head", "weight", node(g, "head").weight[:, :-1]),
        r"head: weight must have shape \(10, 48\)",
    ),
    "narrow": (
        lambda g: put(g, "blocks.0.attn.k.h0", "narrow", False),
        r"blocks.0.attn.k.h0 must be saturated to -127 \(narrow\): keys become weights",
    ),
    "rule": (
        lambda g: put(g, "blocks.1.attn.softmax.h2", "rule", "exp"),
        "rule must be one of maxrel, log2, not 'exp'",
    ),
    "c": (lambda g: put(g, "blocks.1.attn.softmax.h2", "c", 1024), r"c must be in 0\.\.1023, not 1024"),
    "factor": (
        lambda g: put(g, "blocks.1.attn.attend.h0", "rule", "other"),
        "rule 'other' must be that of its codes",
    ),
    "order": (lambda g: g.nodes.insert(0, g.nodes.pop(5)), "order of nodes"),
    "twice": (lambda g: g.nodes.append(g.nodes[-1]), "head: two nodes have this name"),
    "missing": (lambda g: g.nodes.pop(), "'head' is never written completely"),
    "part": (lambda g: g.nodes.remove(node(g, "blocks.3.attn.attend.h1")), "out of order"),
    "unknown": (lambda g: put(g, "norm", "x", Ref("nothing")), "reads nothing before it is complete"),
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
        lambda g: put(g, "blocks.0.attn.attend.h0", "shift", True),
        "shift must be an integer, not True",
    ),
    "unused": (lambda g: put(g, "head", "q6", None), "head: q6 must be an integer, not None"),  # of another activation
    "saturation": (lambda g: put(g, "head", "narrow", 1), "head: narrow must be true or false, not 1"),
    "role": (lambda g: put(g, "head", "role", Role(block="x")), "head: role's block must be an integer, not 'x'"),
    "exponent": (
        lambda g: g.tensors.__setitem__("head", dataclasses.replace(g.tensors["head"], exponent=0.5)),
        "head: exponent must be an integer, not 0.5",
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
    with pytest.raises(ValueError, match=r"\|acc \+ bias\| must be below 2\^15 \(config.ACC_BITS = 16\), may reach"):
        check_graph(graph)
