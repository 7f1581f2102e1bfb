"""The authors' account of Trio-ViT: their published figures, and its rules on layers worked out by hand."""

import pytest

from vitforge_sw.cycles.accounting import PUBLISHED, account, fused, published
from vitforge_sw.families.efficientvit.frontend import import_efficientvit
from vitforge_sw.families.efficientvit.shapes import efficientvit_shapes
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.models.resolve import build_model, resolve_model

#: what the rules give; the published figures are within 0.7 points of them
OURS = {
    ("efficientvit_b1", 224): 95.52,
    ("efficientvit_b1", 256): 96.67,
    ("efficientvit_b1", 288): 94.53,
    ("efficientvit_b2", 224): 96.58,
}


@pytest.fixture(scope="module")
def nets():
    return {n: import_efficientvit(build_model(resolve_model(n))) for n in ("efficientvit_b1", "efficientvit_b2")}


@pytest.mark.parametrize(("model", "size"), PUBLISHED)
def test_published_figures(nets, model, size):
    found = account(efficientvit_shapes(nets[model], size // 2))
    assert 100 * found.utilization == pytest.approx(OURS[model, size], abs=0.005)
    assert 100 * found.utilization == pytest.approx(published(f"{model}.r{size}_in1k", size), abs=0.7)


def test_shapes_are_a_legal_graph(nets):
    graph = check_graph(efficientvit_shapes(nets["efficientvit_b1"], 112))
    macs = sum(m for _, _, m in account(graph).layers)
    assert macs == 487_359_488  # published: 0.52 G with head and attention
    sizes = {graph.tensors[n.out.name].height for n in graph.nodes}
    assert sizes == {112, 56, 28, 14, 7, 0}


def test_layers_by_hand(nets):
    """B1 at 224 pixels: stem 27 -> 16 on 112 x 112; its DSConv, 3 x 3 on 16 channels, then 16 -> 16."""
    layers = {name: cycles for name, cycles, _ in account(efficientvit_shapes(nets["efficientvit_b1"], 112)).layers}
    assert layers["stem.in_conv"] == 112 * 112 / 16 * 4
    assert layers["stem.res0.depth_conv"] == 14 * 2 * 112 * 9 / 16
    depthwise, start, pointwise = 14 * 2 * 112 * 9 / 16, 2 * 9, 112 * 112 / 16 * 2
    assert layers["stem.res0.point_conv"] == pointwise - (depthwise - start) / 2


def test_fused():
    assert fused(100, 20, 100) == 160  # MAT did 40 of 100 double cycles beside the depthwise layer
    assert fused(100, 20, 40) == 100
    assert fused(100, 20, 10) == 100
    assert fused(100, 90, 3) == 100 and fused(100, 98, 3) == 102
