"""Each rule of the EfficientViT family's nodes can fail, and its message names the place and the value."""

import copy
import dataclasses

import numpy as np
import pytest

from vitforge_sw.families import quantize_model, scheme_for
from vitforge_sw.families.vit.alive import bring_to_life, probe_patches
from vitforge_sw.graph.ir import Ref
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.resolve import ModelSpec
from vitforge_sw.ops import Matmul

SPEC = ModelSpec(
    "small", "efficientvit_b0",
    dict(widths=[8, 16, 16, 16, 32], depths=[1, 1, 1, 1, 1], head_dim=8, head_widths=[32, 48]), 10,
)  # fmt: skip
MLA = "stages.2.blocks.1.context_module"


@pytest.fixture(scope="module")
def graph():
    model, image = load_model(SPEC, None, dict(image_size=32))
    patches = probe_patches(image, 8)
    bring_to_life(model, image, patches)
    return quantize_model(model, SPEC, image, scheme_for(model, "vitforge"), patches, trained=False, progress=False)


def broken(graph, name, text, **fields):
    node = next(n for n in graph.nodes if n.name == name)
    changed = {f: value(getattr(node, f)) if callable(value) else value for f, value in fields.items()}
    nodes = [dataclasses.replace(n, **changed) if n is node else n for n in graph.nodes]
    bad = dataclasses.replace(graph, nodes=nodes)
    with pytest.raises(ValueError, match=text):
        check_graph(bad)


def at(index, value):
    """The array with one element replaced."""

    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


def test_passes(graph):
    assert check_graph(graph) is graph


@pytest.mark.parametrize(
    "name,fields,text",
    [
        ("stem.in_conv", dict(m1=at(0, 0)), "m1 must be in 1..65535, has 0"),
        ("stem.in_conv", dict(s1=at(0, 48)), "s1 must be in 0..47"),
        ("stem.in_conv", dict(offset=at(0, 128)), "offset must be in -128..127"),
        ("stem.in_conv", dict(q6=4096), "q6 must be in 1..4095, not 4096"),
        ("stem.in_conv", dict(q3=0), "q3 must be in 1..4095, not 0"),
        ("stem.in_conv", dict(act="relu6"), "act must be one of identity, gelu, hardswish, relu, not 'relu6'"),
        ("stem.in_conv", dict(bias=lambda b: b.astype(np.float32)), "bias must be an integer array, not float32"),
        (
            "stem.in_conv",
            dict(bias=at(0, (1 << 26) - 1)),
            r"bias must be in .*\(field bias of isa.POST_PARAM_FIELDS, 26 bits\)",
        ),
        ("stem.in_conv", dict(eh=at(0, 9)), r"\(h << eh\) \+ \(residual << er\) must be below"),
        ("stem.in_conv", dict(groups=2), "2 groups must divide 27 and 8 channels"),
        ("stem.res0.depth_conv", dict(pad=5), "pad must be the input's zero-point"),
        ("stem.res0.depth_conv", dict(kernel=4), "kernel must be one of"),
        ("stem.res0.depth_conv", dict(stride=2), "output must be 8 x 8, not 16 x 16"),
        (
            "stem.res0.point_conv",
            dict(residual=Ref("input")),
            "residual input must have 256 tokens of 8 channels, not 256 x 27",
        ),
        (f"{MLA}.kv0", dict(narrow=False), "Z must be saturated to -127"),
        (f"{MLA}.kv0", dict(heads=3), "3 heads must divide 16 channels"),
        (f"{MLA}.qkv", dict(narrow=False), "must be saturated to -127"),
        (f"{MLA}.attend0", dict(rule="float"), "rule must be one of log2, reciprocal, exact, uniform8, not 'float'"),
        (f"{MLA}.attend0", dict(lo=16), "lo must be in 0..15, not 16"),
        (f"{MLA}.attend0", dict(shift=at(0, 32)), "shift must be in 0..31, has"),
        (f"{MLA}.attend0", dict(heads=4), "Z must be 4 x 16 and Ksum 1 x 16"),
        ("head.pool", dict(s2=at(0, -1)), "s2 must be in 0..31"),
        ("head.classifier.1", dict(offset=200), "offset must be in -128..127, not 200"),
        ("head.classifier.1", dict(gamma=at(0, 1 << 15)), "gamma must be in -32768..32767"),
    ],
)
def test_rule_can_fail(graph, name, fields, text):
    broken(graph, name, f"{name}.*{text}" if not name.endswith("qkv") else text, **fields)


def test_spatial_sizes(graph):
    bad = copy.deepcopy(graph)
    info = bad.tensors["stem.in_conv"]
    bad.tensors["stem.in_conv"] = dataclasses.replace(info, width=3)
    with pytest.raises(ValueError, match="stem.in_conv must be spatial, has 16 x 3 for 256 tokens"):
        check_graph(bad)


def test_bound_is_reached_by_some_input(graph):
    node = next(n for n in graph.nodes if isinstance(n, Matmul))
    worst = np.where(node.weight < 0, -128, 127).astype(np.int64)
    reached = np.abs((worst * node.weight).sum(1))
    bound = node.products(graph)
    assert (reached <= bound).all() and (reached > 0.98 * bound).all()
