"""Schemes by name and option; accuracy of the digits model; bad calibration input."""

import numpy as np
import pytest

from vitforge_sw.evaluate import evaluate
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import SCHEMES, get_scheme
from vitforge_sw.graph.serialize import graph_hash


def test_registry():
    assert get_scheme("vitforge").rule == "maxrel" and get_scheme("vitforge").residual == "int12"
    assert (get_scheme("p2vit").rule, get_scheme("p2vit").row_factor, get_scheme("p2vit").residual) == (
        "log2",
        False,
        "ptf8",
    )
    assert get_scheme("p2vit", row_factor=True).row_factor
    with pytest.raises(ValueError, match="scheme 'x' is unknown; schemes are "):
        get_scheme("x")
    with pytest.raises(ValueError, match="unknown option 'colour'"):
        get_scheme("p2vit", colour=1)
    with pytest.raises(ValueError, match="rule must be maxrel or log2, not 'exp'"):
        get_scheme("p2vit", rule="exp")
    with pytest.raises(ValueError, match=r"wbits must be in 2\.\.8, not 9"):
        get_scheme("p2vit", wbits=9)
    assert all(name == scheme.name for name, scheme in SCHEMES.items())


def test_bits_of_layers(digits):
    scheme = get_scheme("vitforge", layer_wbits=(("blocks.1.*", 4), ("*.mlp.*", 5)))
    names = ("embed", "blocks.1.mlp.fc1", "blocks.0.mlp.fc1", "blocks.0.attn.q")
    assert [scheme.bits(name) for name in names] == [8, 4, 5, 8]
    with pytest.raises(ValueError, match=r"head must be in 2\.\.8, not 1"):
        get_scheme("vitforge", layer_wbits=(("head", 1),))
    graph = digits.quantize("vitforge", images=10, layer_wbits=scheme.layer_wbits)
    top = {node.name: int(abs(node.weight).max()) for node in graph.nodes if hasattr(node, "weight")}
    assert max(v for k, v in top.items() if k.startswith("blocks.1.")) == 7
    assert top["blocks.0.mlp.fc1"] <= 15 < top["blocks.0.attn.q.h0"]


def test_digits_accuracy(graph, digits):
    result = evaluate(graph, digits.test, digits.labels, digits.model)
    print(graph.meta["scheme"]["name"], result)
    assert result["images"] == len(digits.labels) == 400
    assert result["float"]["top1"] >= 0.95 * 400
    assert result["top1"] >= result["float"]["top1"] - 4  # at most one point lower
    floor = {"vitforge": (99, 30), "p2vit": (98, 20)}[graph.meta["scheme"]["name"]]
    assert result["agreement"] >= floor[0] and result["logit_sqnr_db"] >= floor[1]
    assert result["top5"] >= result["top1"]


def test_deterministic(graph, digits):
    again = digits.quantize(graph.meta["scheme"]["name"])
    assert graph_hash(again) == graph_hash(graph)


@pytest.mark.parametrize(
    "options",
    [
        dict(weight_granularity="layer"),
        dict(wbits=4),
        dict(residual="ptf8", rule="log2", row_factor=True),
        dict(hidden_octaves=2),
        dict(gelu_zero_point=False, smoothing=()),
        dict(weight_refit=1.0, last_share=0.8, layer_wbits=(("blocks.*.mlp.fc1", 6),)),
        dict(value_exponents="tensor", query_exponents="tensor", center_keys=False, class_share=None),
    ],
)
def test_every_option_gives_a_valid_graph(digits, options):
    graph = digits.quantize("vitforge", images=20, **options)
    result = evaluate(graph, digits.test[:100], digits.labels[:100], digits.model)
    assert result["top1"] >= (80 if options.get("wbits") == 4 else 95)


def test_bad_calibration(digits):
    for patches in (np.zeros((0, 16, 4), np.int8), np.zeros((2, 16, 5), np.int8), np.zeros((16, 4), np.int8)):
        with pytest.raises(ValueError, match=r"calibration: needs int8 \(B, 16, 4\) with B > 0, not "):
            quantize_model(digits.model, digits.spec, digits.image, get_scheme("p2vit"), patches)


def test_evaluate_checks_labels(graph, digits):
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.9, not 10"):
        evaluate(graph, digits.test[:2], [1, 10])
    with pytest.raises(ValueError, match="one label per image"):
        evaluate(graph, digits.test[:2], [1])
    assert "float" not in evaluate(graph, digits.test[:2], digits.labels[:2])


def test_maxrel_needs_the_row_factor():
    with pytest.raises(ValueError, match="scheme vitforge: maxrel codes need row_factor, which is off"):
        get_scheme("vitforge", row_factor=False)


@pytest.mark.parametrize(("bits", "least"), [(2, 12), (3, 20), (5, 28)])
def test_any_width(digits, bits, least):
    """Rows of few bits have coarse steps, which GELU's input then has, too."""
    graph = digits.quantize("vitforge", 24, wbits=bits)
    assert evaluate(graph, digits.test[:100], digits.labels[:100], digits.model)["logit_sqnr_db"] >= least
