"""Plans for the hidden tensor: massive units divided and split, the function kept, ordinary layers left alone."""

import torch
from torch.nn import functional as F

from vitforge_sw.families.vit.frontend import Affine
from vitforge_sw.families.vit.hidden import WORD, plan_hidden
from vitforge_sw.families.vit.hidden_cost import HiddenCost


def layers(massive: float | None, units=64, seed=0):
    """fc1, fc2 and inputs of which 1 % make unit 7 fire at about ``massive``."""
    g = torch.Generator().manual_seed(seed)
    fc1 = Affine(torch.randn(units, 16, generator=g) / 4, torch.randn(units, generator=g) / 4)
    fc2 = Affine(torch.randn(16, units, generator=g) / 8, torch.zeros(16))
    x = torch.randn(2000, 16, generator=g)
    if massive:
        x[:, 0] = -1.0
        x[::100, 0] = 1.0
        fc1.weight[7], fc1.bias[7] = 0.0, 0.0
        fc1.weight[7, 0] = massive
    return fc1, fc2, x


def planned(fc1, fc2, x):
    rows = F.linear(x, fc1.weight, fc1.bias)
    w = torch.full((len(x),), 1 / len(x))
    return plan_hidden(rows, w, rows, w, fc2.weight, 8, 12)


def test_a_massive_unit_is_found_divided_and_split():
    fc1, fc2, x = layers(200.0)
    plan = planned(fc1, fc2, x)
    assert len(plan.notes) == 1 and plan.notes[0].startswith("unit 7: largest 2")
    assert len(plan.unit) == 64 + WORD and int((plan.unit == 7).sum()) > 8
    assert int(plan.divide[7]) > 0 and not plan.divide[plan.unit != 7].any()
    ordinary = plan.exponent[plan.unit != 7]
    assert int(ordinary.float().median()) <= -5  # the others keep steps for values of a few units
    a, b = plan.fc1(fc1), plan.fc2(fc2)
    got = F.linear(F.gelu(F.linear(x, a.weight, a.bias)), b.weight, b.bias)
    want = F.linear(F.gelu(F.linear(x, fc1.weight, fc1.bias)), fc2.weight, fc2.bias)
    assert float((got - want).square().mean() / want.square().mean()) < 1e-3
    assert float(plan.dither[plan.unit == 7].sum().abs()) < 1e-4


def test_without_one_nothing_changes():
    fc1, fc2, x = layers(None)
    plan = planned(fc1, fc2, x)
    assert plan.notes == [] and torch.equal(plan.unit, torch.arange(64))
    assert torch.equal(plan.fc1(fc1).weight, fc1.weight) and torch.equal(plan.fc2(fc2).weight, fc2.weight)


def test_descent_lowers_the_cost_and_respects_the_bound():
    g = torch.Generator().manual_seed(0)
    error = torch.tensor([4.0, 1.0, 0.3, 1.0, 4.0])[:, None] * torch.rand(5, 20, generator=g)
    cost = HiddenCost(error, -7, torch.rand(20, generator=g), torch.randn(6, 20, generator=g), 127)
    e, n = torch.full((20,), -3, dtype=torch.int32), torch.ones(20)
    least = torch.full_like(e, -6)
    found = cost.descend(e, n, least)
    assert cost.total(found, n) < cost.total(e, n) and bool((found >= least).all())
    assert torch.equal(cost.descend(found, n, least), found)
