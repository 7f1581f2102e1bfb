"""Real factors of channels that suit 4-bit rows: known errors, less error than without, the same float function."""

import pytest
import torch

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.vit.octaves import column_factors, query_factors, row_steps, value_factors
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.golden.model import Golden
from vitforge_sw.graph.serialize import graph_hash

ONES = torch.ones(192)


def row_errors(weight, power, qmax):
    return row_steps(weight, power, qmax)[1]


def rows(seed: int, scatter: float = 1.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(64, 192, generator=g) * torch.exp2(scatter * torch.rand(64, 1, generator=g))


def test_errors_of_rows_by_hand():
    weight = torch.tensor([[7.0, -3.0, 0.5], [0.875, 0.0, 0.5]])
    # row 0 in steps of 1: 0.5 rounds to 0; row 1 in steps of 1/8: exact
    assert row_errors(weight, torch.tensor([1.0, 1.0, 4.0]), 7).tolist() == pytest.approx([4 * 0.25, 0.0])
    assert row_errors(weight * 8, torch.ones(3), 7).tolist() == pytest.approx([64 * 0.25, 0.0])  # octaves are alike


def test_values_gain_what_powers_of_two_lose():
    v, proj = rows(0), rows(1, 0.0).T
    f = value_factors(v, proj, ONES, torch.full((64,), 4000.0), torch.ones(64), 7, 7)
    assert f.min() >= 1 and f.max() < 4  # never finer than what holds the outputs
    before, after = (float((row_errors(v / g[:, None], ONES, 7) * g**2).sum()) for g in (torch.ones(64), f))
    assert 0.7 < before / after * 10**-0.1 < 1.1  # 1.2 dB
    costs = {}
    for phase in (1.0, 1.2, 1.4, 1.7):  # proj's rows are alike: where they stand in the octave is chosen as well
        moved = proj * phase
        f = value_factors(v, moved, ONES, torch.full((64,), 4000.0), torch.ones(64), 7, 7)
        costs[phase] = float(row_errors(moved * f, 4000 / f**2, 7).sum()) / phase**2
    alone = [float(row_errors(proj * p, torch.full((64,), 4000.0), 7).sum()) / p**2 for p in costs]
    assert max(costs.values()) < max(alone) and sum(costs.values()) < sum(alone)


def test_queries_and_keys_share_a_factor():
    q, k, one = rows(2), rows(3), torch.ones(64)
    f = query_factors(q, k, ONES, one, one, 7)
    assert f.min() >= 2**-0.5 and f.max() < 2**0.5
    before = row_errors(q, ONES, 7).sum() + row_errors(k, ONES, 7).sum()
    after = (row_errors(q * f[:, None], ONES, 7) / f**2 + row_errors(k / f[:, None], ONES, 7) * f**2).sum()
    assert float(10 * (before / after).log10()) > 0.7
    only_q = query_factors(q, k, ONES, one * 1e-6, one, 7)  # errors of k, which q carries, do not count
    q_alone = row_errors(q * only_q[:, None], ONES, 7) / only_q**2
    assert float(10 * (row_errors(q, ONES, 7).sum() / q_alone.sum()).log10()) > 0.9


def test_scheme_with_eight_bits_is_left_alone(digits):
    images = digits.calib[:8]
    hashes = set()
    for octaves in (True, False):
        scheme = get_scheme("vitforge", octaves=octaves)
        graph = quantize_model(digits.model, digits.spec, digits.image, scheme, images, progress=False)
        graph.meta["scheme"] = {}
        hashes.add(graph_hash(graph))
    assert len(hashes) == 1


def test_coarser_inputs_where_they_suit_the_weights():
    weight = rows(4, 0.0)
    power = torch.full((192,), 900.0)
    for phase in (1.0, 1.2, 1.4, 1.7):  # of all rows alike: a common factor would do
        moved = weight * phase
        f = column_factors(moved, power, 7)
        assert f.min() >= 1 and f.max() < 4
        before = row_errors(moved, power, 7).sum()
        after = row_errors(moved * f, power / f**2, 7).sum() + (f**2 * moved.square().sum(0)).sum() / 12
        assert after < before + moved.square().sum() / 12
    assert column_factors(weight, power * 1e-3, 7).max() == 1  # inputs of a step or less: their rounding is what counts


def test_four_bits_gain(digits):
    found = {}
    for octaves in (False, True):
        scheme = get_scheme("vitforge", wbits=4, octaves=octaves)
        graph = quantize_model(digits.model, digits.spec, digits.image, scheme, digits.calib[:40], progress=False)
        want = float_logits(digits.model, digits.test[:100], digits.image)
        found[octaves] = sqnr_db(want, real_logits(graph, Golden(graph).logits(digits.test[:100])))
    assert found[True] > found[False] + 0.1, found  # 0.25: 8-bit tensors are most of the noise
