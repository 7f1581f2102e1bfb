"""``analyze``: errors against known ones, a planted outlier found by number, the command's tables and pictures."""

import copy
import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vitforge.cli import main
from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.vit.analysis.budget import KINDS, fitted, noise_budget
from vitforge_sw.families.vit.analysis.sensitivity import sensitivities
from vitforge_sw.families.vit.analysis.tensors import attention_maps, compared_model, error, floats, ranges, sites
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.serialize import save_graph
from vitforge_sw.models.images import patches_to_float
from vitforge_sw.ops import Matmul


def normalised(digits, n):
    pixels = torch.from_numpy(patches_to_float(digits.test[:n], digits.image))
    return F.unfold(pixels, digits.image.patch_size, stride=digits.image.patch_size).transpose(1, 2)


def test_error_of_known_noise():
    g = torch.Generator().manual_seed(0)
    want = torch.randn(4, 20, 8, generator=g)
    steps = torch.tensor([2.0**k for k in range(8)])
    exact = error("a", want, want * steps + 3)  # scale and shift per channel are taken up
    assert exact.snr > 120
    noise = 0.1 * torch.randn(4, 20, 8, generator=g)
    noise[:, 0] *= 10
    found = error("a", want, (want + noise) * steps)
    assert found.patch_snr == pytest.approx(20, abs=1) and found.class_snr < found.patch_snr - 10
    assert found.noise_ratio == pytest.approx(10 ** (-found.snr / 10)) and found.mae < found.mse**0.5


def test_planted_outlier_has_its_number(digits):
    model = copy.deepcopy(digits.model)
    with torch.no_grad():
        model.blocks[1].mlp.fc2.bias[5] += 80.0
    vit = import_vit(model)
    rows = ranges(floats(vit, normalised(digits, 4)), sites(vit))
    worst = max(rows, key=lambda r: r["ratio"])
    assert worst["channel"] == 5 and int(worst["site"].split(".")[1]) >= 1 and worst["ratio"] > 4
    assert all(r["ratio"] < 4 for r in rows if r["site"].startswith("blocks.0.") or r["site"] == "embed")


def test_attention_and_sensitivity(graph, digits):
    x = normalised(digits, 6)
    vit = compared_model(digits.model, graph)
    maps = attention_maps(graph, floats(vit, x), digits.test[:6], 3)
    assert maps.shape[0] == 2 and np.allclose(maps.sum(-1), 1, atol=1e-5)
    correlation = [np.corrcoef(maps[0, h], maps[1, h])[0, 1] for h in range(maps.shape[1])]
    assert min(correlation) > 0.9
    names = sites(vit)
    eight, four = (list(sensitivities(vit, x, names, bits)) for bits in (8, 4))
    assert all(a[2] > b[2] for a, b in zip(eight, four, strict=True))
    assert {kind for kind, _, _ in eight} == {"weights", "activations"}


def test_noise_budget(graph, digits):
    """All errors together are the integer model's; its own error off, a tensor's kind costs nothing; the mean stays."""
    patches, x = digits.test[:40], normalised(digits, 40)
    vit = compared_model(digits.model, graph)
    whole, sources = noise_budget(graph, vit, patches, x)
    want, got = float_logits(digits.model, patches, digits.image), real_logits(graph, Golden(graph).logits(patches))
    assert whole == pytest.approx(sqnr_db(want, got), abs=0.3)
    shares = [s.share for s in sources]
    assert {s.kind for s in sources} == set(KINDS) and shares == sorted(shares, reverse=True)
    assert 0.7 < sum(shares) < 1.6  # of errors that are not quite independent
    assert sources[0].kind == "softmax codes" and sources[0].without_db > whole + 2  # 4 bits, on digits


def test_noise_budget_finds_a_coarse_tensor(digits):
    """A model whose fc1 outputs lose five bits of their weights: the hidden tensors are most of the noise."""
    graph = digits.quantize("vitforge", images=40)
    patches, x = digits.test[:20], normalised(digits, 20)
    vit = compared_model(digits.model, graph)
    worse = [
        dataclasses.replace(node, weight=np.clip(np.round(node.weight / 32.0), -3, 3).astype(np.int8) * np.int8(32))
        if isinstance(node, Matmul) and node.name.endswith("mlp.fc1") else node
        for node in graph.nodes
    ]  # fmt: skip
    (before, _), (after, sources) = (
        noise_budget(dataclasses.replace(graph, nodes=nodes), vit, patches, x) for nodes in (graph.nodes, worse)
    )
    assert after < before - 6 and sources[0].kind == "hidden tensors" and sources[0].share > 0.7


def test_fit_of_segments():
    """A unit whose range is cut into two integer channels is put together again; scales and shifts are taken up."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(2, 50, 3, generator=g) * 4
    steps = torch.tensor([8.0, 16.0, 4.0])
    whole = x * steps + 5
    cut = torch.cat([whole[..., :1].clamp(max=20), whole[..., 1:], (whole[..., :1] - 20).clamp(min=0)], -1)
    assert torch.allclose(fitted(whole, x), x, atol=1e-4) and torch.allclose(fitted(cut, x), x, atol=1e-4)
    assert not torch.allclose(fitted(cut[..., :3], x), x, atol=1e-2)


def test_command(graph, digits, tmp_path, capsys):
    model = copy.deepcopy(graph)
    model.meta["checkpoint"] = str(digits.paths.checkpoint)
    save_graph(model, tmp_path / "m.safetensors")
    argv = ["analyze", tmp_path / "m.safetensors", "--images", digits.paths.calib, "--limit", 8, "--sensitivity"]
    assert main([str(a) for a in (*argv, "-o", tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "error: blocks." in out and "sensitive: " in out
    for name in ("ranges", "errors", "sensitivity"):
        rows = list(csv.DictReader((tmp_path / "out" / f"{name}.csv").open()))
        assert len(rows) >= 25 and (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    errors = list(csv.DictReader((tmp_path / "out" / "errors.csv").open()))
    floor = {"vitforge": 18, "p2vit": 10}[graph.meta["scheme"]["name"]]
    assert min(float(r["snr"]) for r in errors) > floor
    budget = list(csv.DictReader((tmp_path / "out" / "budget.csv").open()))
    assert budget[0]["source"] == "none" and len(budget) == 1 + len(KINDS) and "noise: " in out
    assert (tmp_path / "out" / "budget.png").stat().st_size > 5000
    few = ["analyze", tmp_path / "m.safetensors", "--images", digits.paths.calib, "--limit", 7, "-o", tmp_path / "few"]
    assert main([str(a) for a in few]) == 0
    assert "noise: no budget, which needs at least 8 images, not 7" in capsys.readouterr().out
    assert not (tmp_path / "few" / "budget.csv").exists()
    assert (tmp_path / "out" / "attention.png").is_file() and (tmp_path / "out" / "histograms.png").is_file()


@pytest.mark.parametrize("scheme", [None, "vitforge"])
def test_graph_without_scheme_is_refused(graph, digits, scheme):
    meta = {k: v for k, v in graph.meta.items() if k != "scheme"} | ({"scheme": scheme} if scheme else {})
    with pytest.raises(ValueError, match=r"^analyze: the model names no scheme, [^\n]*$"):
        compared_model(digits.model, dataclasses.replace(graph, meta=meta))
