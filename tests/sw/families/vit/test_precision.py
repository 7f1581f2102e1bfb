"""Mixed precision: the search on numbers, sensitivities against hand-made layers, the whole way on the digits model."""

import json
import math
import random
from itertools import product

import numpy as np
import PIL.Image
import pytest
import torch
from torch.nn import functional as F

from vitforge.cli import main
from vitforge_hw.arch.config import PRESETS
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.families.vit.precision.costs import cycles_cost, mean_bits, mean_mac_bits, table_cost
from vitforge_sw.families.vit.precision.run import apart, mirrored, verified
from vitforge_sw.families.vit.precision.search import (
    free,
    greedy,
    layer_wbits,
    mutate,
    pareto,
    sample,
    search,
    total,
    widths_of,
)
from vitforge_sw.families.vit.precision.sensitivity import Single, hessian_traces, omegas
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.families.vit.walk import walk, weight_layers
from vitforge_sw.models.images import patches_to_float


def floats(patches, image):
    pixels = torch.from_numpy(patches_to_float(patches, image))
    return F.unfold(pixels, image.patch_size, stride=image.patch_size).transpose(1, 2)


def test_walk_is_the_model(digits):
    patches = digits.test[:8]
    with torch.inference_mode():
        want = digits.model(torch.from_numpy(patches_to_float(patches, digits.image)))
        got = walk(import_vit(digits.model), floats(patches, digits.image))
    assert torch.allclose(got, want, atol=1e-4)


def test_pareto():
    assert pareto([(1, 5), (2, 5), (2, 3), (3, 4), (0, 9)]) == [4, 0, 2]


def test_search_finds_the_optimum_of_a_small_case():
    """Twelve layers: the search against all 4,096 assignments."""
    rng = random.Random(3)
    names = [f"blocks.{i}.mlp.fc1" for i in range(12)]
    noise = {n: {4: rng.uniform(0.1, 1)} for n in names}
    weight = {n: rng.uniform(0.5, 2) for n in names}
    cost = table_cost(weight)
    budget = 6 * sum(weight.values())
    every = [dict(zip(names, (4 + 4 * (k >> i & 1) for i in range(12)), strict=True)) for k in range(4096)]
    power = lambda b: sum(noise[n][4] for n in names if b[n] == 4)  # noqa: E731
    best = min(power(b) for b in every if cost(b) <= budget)
    found = search(noise, cost, budget, seed=1)
    assert all(cost(b) <= budget for b in found)
    assert power(found[0]) == pytest.approx(best)
    assert [power(b) for b in found] == sorted(power(b) for b in found)
    assert found == search(noise, cost, budget, seed=1)
    assert power(greedy(noise, cost, budget)) >= best
    assert cost(sample(names, cost, budget, rng, [8, 4])) <= budget
    with pytest.raises(ValueError, match=r"budget must be at least .* \(all layers at 4 bits\)"):
        search(noise, cost, 3 * sum(weight.values()))


def test_search_over_more_widths():
    """Five layers of 4 to 8 bits: the search against all 3,125 assignments, and steps of one width at a time."""
    rng = random.Random(5)
    names, widths = [f"blocks.{i}.mlp.fc1" for i in range(5)], [8, 7, 6, 5, 4]
    noise = {n: {b: top * 4.0 ** (4 - b) for b in (4, 5, 6, 7)} for n in names for top in [rng.uniform(0.01, 1)]}
    cost = table_cost({n: rng.uniform(0.5, 2) for n in names})
    budget = 0.7 * cost(dict.fromkeys(names, 8))
    every = [dict(zip(names, bits, strict=True)) for bits in product(widths, repeat=5)]
    best = min(total(b, noise) for b in every if cost(b) <= budget)
    found = search(noise, cost, budget, seed=2)
    assert total(found[0], noise) == pytest.approx(best)
    assert widths_of(noise) == widths and len({b for bits in found for b in bits.values()}) > 2
    first = greedy(noise, cost, budget)
    assert cost(first) <= budget < cost(first) + 2 and best <= total(first, noise) < 1.5 * best
    start = dict.fromkeys(names, 6) | {names[0]: 8, names[1]: 4}
    for _ in range(200):
        moved = mutate(start, rng, widths)
        assert all(abs(moved[n] - start[n]) <= 1 and 4 <= moved[n] <= 8 for n in names)
        assert cost(sample(names, cost, budget, rng, widths)) <= budget


def test_costs(digits):
    weights = {n: layer.weight.numel() for n, layer in weight_layers(import_vit(digits.model)).items()}
    names = free(weights)
    assert "embed" not in names and "head" not in names and "blocks.0.attn.q" in names
    size, macs = mean_bits(weights), mean_mac_bits(weights, 17, 1)
    assert size(dict.fromkeys(names, 8)) == pytest.approx(8) == macs(dict.fromkeys(names, 8))
    low = (4 * sum(weights.values()) + 4 * (weights["embed"] + weights["head"])) / sum(weights.values())
    assert size(dict.fromkeys(names, 4)) == pytest.approx(low)

    with pytest.raises(ValueError, match="preset tiny has no faster 4-bit weights"):
        cycles_cost(lambda bits: 0.0, PRESETS["tiny"])
    cost = cycles_cost(lambda bits: 100.0 * sum(bits.values()), PRESETS["tiny_w4"])
    assert cost({"blocks.0.attn.q": 4, "blocks.0.mlp.fc1": 8}) == 1200


def test_finalists_are_compiled():
    """Candidates that keep the budget only by the prediction are passed over."""
    true, said = {1: 9.0, 2: 11.0, 3: 10.0, 4: 8.0}, []
    found = [{"a": n} for n in true]
    kept = list(verified(found, lambda b: 9.5, lambda b: true[b["a"]], 10.0, 2, said.append))
    assert kept == [{"a": 1}, {"a": 3}] and len(said) == 3 and "compiled 11 (+15.79%)" in said[1]
    assert list(verified(found, lambda b: 9.5, None, 10.0, 2, said.append)) == found[:2]


def test_finalists_differ():
    low = lambda names: {g: 4 if g in names else 8 for g in "abcdef"}  # noqa: E731
    found = [low(""), low("a"), low("abcd"), low("abcdef")]
    assert apart(found) == [found[0], found[2], found[1], found[3]]  # the last is 2 from the third, 6 from the first
    assert apart(found[:1]) == found[:1] and sorted(map(str, apart(found))) == sorted(map(str, found))


def test_mirror_images(digits):
    patches = digits.test[:3]
    pixels = patches_to_float(patches, digits.image)
    assert np.array_equal(patches_to_float(mirrored(patches, digits.image), digits.image), pixels[..., ::-1])
    assert np.array_equal(mirrored(mirrored(patches, digits.image), digits.image), patches)


def test_hutchinson_against_differences(digits):
    """One layer's trace against second differences of the loss along vectors of the same kind."""
    vit = import_vit(digits.model)
    x = floats(digits.calib[:2], digits.image)
    traces = hessian_traces(vit, x, vectors=8)
    name = "blocks.3.mlp.fc2"
    layer, g, found = weight_layers(vit)[name], torch.Generator().manual_seed(5), []
    with torch.inference_mode():
        labels = walk(vit, x).argmax(1)
        loss = lambda w: float(F.cross_entropy(walk(_with(vit, name, w), x).double(), labels))  # noqa: E731
        for _ in range(8):
            v = (torch.randint(0, 2, layer.weight.shape, generator=g).float() * 2 - 1) * 1e-2
            found.append((loss(layer.weight + v) - 2 * loss(layer.weight) + loss(layer.weight - v)) / 1e-4)
    by_differences = sum(found) / len(found)
    assert traces[name] == pytest.approx(by_differences, rel=0.5)
    omega = omegas(vit, traces)
    assert set(omega) == set(traces) and all(v[4] >= 0 for v in omega.values())


def _with(vit, name, weight):
    from vitforge_sw.families.vit.frontend import Affine
    from vitforge_sw.families.vit.walk import with_layers

    return with_layers(vit, {name: Affine(weight, weight_layers(vit)[name].bias)})


def test_noises_fall_with_bits(digits):
    vit = import_vit(digits.model)
    fit, held = (floats(digits.calib[a : a + 12], digits.image) for a in (0, 12))
    names = free(weight_layers(vit))
    found = [Single(vit, fit, held, widths) for widths in ((4, 5, 6, 7), (6,))]
    four, six = ({name: single.noise(name) for name in names} for single in found)
    assert all(four[g][4] > four[g][5] > four[g][6] > four[g][7] > 0 for g in four)
    ratios = [math.log2(six[g][6] / four[g][6]) for g in four]  # measured, by the layer's own error (two bits: 4 of it)
    assert abs(sum(ratios)) / len(ratios) < 0.5 and max(map(abs, ratios)) < 2.5


def test_a_layer_that_is_exact_with_few_bits_adds_nothing(digits):
    vit = import_vit(digits.model)
    name = "blocks.1.mlp.fc1"
    vit = _with(vit, name, torch.zeros_like(weight_layers(vit)[name].weight))
    fit, held = (floats(digits.calib[a : a + 8], digits.image) for a in (0, 8))
    assert Single(vit, fit, held, (4, 6)).noise(name) == {4: 0.0, 6: 0.0}


def test_ends_keep_eight_bits():
    scheme = get_scheme("vitforge", wbits=4)
    assert [scheme.bits(n) for n in ("embed", "head", "head_dist", "blocks.0.mlp.fc1")] == [8, 8, 8, 4]
    assert get_scheme("vitforge", layer_wbits=(("head", 5),)).bits("head") == 5
    assert layer_wbits({"blocks.0.attn.q": 4, "blocks.0.mlp.fc1": 8}) == [["blocks.0.attn.q", 4]]


def test_search_command(digits, tmp_path, capsys, monkeypatch):
    """Only calibration images are opened; a stopped search goes on; the same seed gives the same file."""
    opened, real = [], PIL.Image.open

    def only_calibration(path, *rest, **kw):
        opened.append(str(path))
        if str(digits.paths.calib) not in str(path):
            raise PermissionError(f"{path}: not a calibration image")
        return real(path, *rest, **kw)

    monkeypatch.setattr(PIL.Image, "open", only_calibration)
    base = ["search", digits.paths.model, "--checkpoint", digits.paths.checkpoint, "--calib", digits.paths.calib]
    argv = [str(a) for a in (*base, "--limit", 8, "--budget", 6, "--finalists", 2)]
    for name in ("a", "b"):
        plot = ["--plot", str(tmp_path / f"{name}.png")]
        assert main([*argv, *plot, "-o", str(tmp_path / f"{name}.json")]) == 0
    assert opened and (tmp_path / "a.png").stat().st_size > 1000
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    state = json.loads((tmp_path / "a.state.json").read_text())
    result = state["result"]
    assert set(result["bits"].values()) & {5, 6, 7}
    assert result["cost"] <= 6 and result["predicted_db"] < state["base_db"]
    divergences = [finalist[3] for finalist in result["finalists"]]
    assert len(set(divergences)) == 2 and result["divergence"] == min(divergences) > 0, "the least one wins"
    assert [result["measured_db"], result["divergence"]] in [finalist[2:] for finalist in result["finalists"]]
    capsys.readouterr()
    assert main([*argv, "-o", str(tmp_path / "a.json")]) == 0  # everything is in the state: nothing measured again
    assert "noise 1/24" not in capsys.readouterr().out
    assert main([str(a) for a in (*base, "--budget", 3, "--limit", 12, "-o", tmp_path / "a.json")]) == 2
    assert "budget must be at least" in capsys.readouterr().err
    cycles = [str(a) for a in (*base, "--limit", 12, "--budget", 5000, "--by", "cycles", "--preset", "tiny")]
    assert main([*cycles, "-o", str(tmp_path / "d.json")]) == 2
    assert "preset tiny has no faster 4-bit weights" in capsys.readouterr().err
    assert main([*cycles, "--widths", "4", "6", "-o", str(tmp_path / "d.json")]) == 2
    assert "--widths must be 4 at most by cycles, not 6" in capsys.readouterr().err
    assert main([*argv, "--widths", "8", "-o", str(tmp_path / "d.json")]) == 2
    assert "widths below 8 must be some of 2 to 7, not [8]" in capsys.readouterr().err
