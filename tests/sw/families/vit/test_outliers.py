"""Massive activations: found wherever they are, and treated (DeiT-Tiny and ViT-Tiny: scripts/campaign_outliers.py)."""

import torch

from vitforge_hw.arch.config import PRESETS
from vitforge_sw.compiler import compile_graph
from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.vit.outliers import outliers
from vitforge_sw.families.vit.planting import UNTREATED, plant
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.golden.model import Golden

#: dB below the unplanted model at most, dB gained over the treatment switched off at least
LOSS, GAIN = 2.0, 4.0


def sqnr(model, spec, image, calib, test, **options):
    graph = quantize_model(model, spec, image, get_scheme("vitforge", **options), calib, progress=False)
    return sqnr_db(float_logits(model, test, image), real_logits(graph, Golden(graph).logits(test))), graph


def compared(model, spec, image, calib, test, whole: float, seed: int):
    planted, what = plant(model, image, calib[:40], seed)
    on, graph = sqnr(planted, spec, image, calib, test)
    off, _ = sqnr(planted, spec, image, calib, test, **UNTREATED)
    print(f"{spec.name} seed {seed}: unplanted {whole:.1f} dB, treated {on:.1f}, off {off:.1f}; {what}")
    print("\n".join(graph.meta["treated"]))
    treated = graph.meta["treated"]
    assert any(f"blocks.{what['block']}.mlp.fc1: unit {what['unit']}:" in note for note in treated)
    assert any(f"residual stream: channel {what['channel']}:" in note for note in treated)
    assert on >= whole - LOSS
    assert on >= off + GAIN
    return graph


def test_planted_in_digits(digits):
    calib, test = digits.calib[:40], digits.test[:50]
    whole, plain = sqnr(digits.model, digits.spec, digits.image, calib, test)
    graph = compared(digits.model, digits.spec, digits.image, calib, test, whole, seed=0)
    assert not plain.meta["treated"]
    widths = [max(t.channels for n, t in g.tensors.items() if n.endswith("mlp.fc1")) for g in (plain, graph)]
    assert widths[1] == widths[0] + 16
    compile_graph(graph, PRESETS["tiny_hybrid"])


def test_outliers_are_relative_to_most_channels():
    top = torch.ones(100)
    top[[3, 50]] = torch.tensor([3.9, 4.1])
    assert outliers(top).tolist() == [50]
    assert outliers(torch.full((64,), 1000.0)).tolist() == []
