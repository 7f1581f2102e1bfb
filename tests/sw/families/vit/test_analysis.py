"""``analyze``: errors against known ones, a planted outlier found by number, the command's tables and pictures."""

import copy
import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vitforge.cli import main
from vitforge_sw.families.vit.analysis.sensitivity import sensitivities
from vitforge_sw.families.vit.analysis.tensors import attention_maps, compared_model, error, floats, ranges, sites
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.graph.serialize import save_graph
from vitforge_sw.models.images import patches_to_float


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


def test_command(graph, digits, tmp_path, capsys):
    model = copy.deepcopy(graph)
    model.meta["checkpoint"] = str(digits.paths.checkpoint)
    save_graph(model, tmp_path / "m.safetensors")
    argv = ["analyze", tmp_path / "m.safetensors", "--images", digits.paths.calib, "--limit", 6, "--sensitivity"]
    assert main([str(a) for a in (*argv, "-o", tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "error: blocks." in out and "sensitive: " in out
    for name in ("ranges", "errors", "sensitivity"):
        rows = list(csv.DictReader((tmp_path / "out" / f"{name}.csv").open()))
        assert len(rows) >= 25 and (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    errors = list(csv.DictReader((tmp_path / "out" / "errors.csv").open()))
    floor = {"vitforge": 18, "p2vit": 10}[graph.meta["scheme"]["name"]]
    assert min(float(r["snr"]) for r in errors) > floor
    assert (tmp_path / "out" / "attention.png").is_file() and (tmp_path / "out" / "histograms.png").is_file()


@pytest.mark.parametrize("scheme", [None, "vitforge"])
def test_graph_without_scheme_is_refused(graph, digits, scheme):
    meta = {k: v for k, v in graph.meta.items() if k != "scheme"} | ({"scheme": scheme} if scheme else {})
    with pytest.raises(ValueError, match=r"^analyze: the model names no scheme, [^\n]*$"):
        compared_model(digits.model, dataclasses.replace(graph, meta=meta))
