"""Plans for the hidden tensor: massive units in segments, the function kept, ordinary layers left alone."""

import pytest
import torch
from torch.nn import functional as F

from vitforge_sw.families.vit.frontend import Affine
from vitforge_sw.families.vit.hidden import WORD, plan_hidden
from vitforge_sw.quant.scales import pot


def layers(massive: tuple[float, ...], units=128, seed=0):
    """fc1, fc2 and inputs of which 1 % make units 7, 8, .. reach ``massive``."""
    g = torch.Generator().manual_seed(seed)
    fc1 = Affine(torch.randn(units, 16, generator=g) / 4, torch.randn(units, generator=g) / 4)
    fc2 = Affine(torch.randn(16, units, generator=g) / 8, torch.zeros(16))
    x = torch.randn(2000, 16, generator=g)
    x[:, 0] = -0.01
    x[::100, 0] = torch.linspace(0.02, 1, 20)
    for unit, value in enumerate(massive, 7):
        fc1.weight[unit], fc1.bias[unit] = 0.0, 0.0
        fc1.weight[unit, 0] = value
    return fc1, fc2, x


def planned(fc1, fc2, x):
    rows = F.linear(x, fc1.weight, fc1.bias)
    w = torch.full((len(x),), 1 / len(x))
    return plan_hidden(rows, w, rows, w, fc2.weight, 12)


@pytest.mark.parametrize("massive", [(60.0,), (200.0,), (900.0,), (200.0, 80.0)])
def test_massive_units_become_segments(massive):
    fc1, fc2, x = layers(massive)
    plan = planned(fc1, fc2, x)
    units = range(7, 7 + len(massive))
    assert [note.split(":")[0] for note in plan.notes] == [f"unit {u}" for u in units]
    assert len(plan.unit) == 128 + WORD and {int(u) for u in plan.unit[128:]} == set(units)
    ordinary = torch.tensor([int(u) not in units for u in plan.unit])
    assert not plan.divide[ordinary].any() and len(plan.exponent[ordinary].unique()) == 1
    assert int(plan.exponent[ordinary][0]) <= -5  # steps for values of a few units
    assert plan.gelu_exp >= 7
    # the saturated segments add up to the unit
    a, b = plan.fc1(fc1), plan.fc2(fc2)
    stored = F.gelu(F.linear(x, a.weight, a.bias)).minimum(255 * pot(plan.exponent) - 0.17)
    got = F.linear(stored, b.weight, b.bias)
    want = F.linear(F.gelu(F.linear(x, fc1.weight, fc1.bias)), fc2.weight, fc2.bias)
    assert float((got - want).square().mean() / want.square().mean()) < 1e-3


def test_without_one_nothing_changes():
    fc1, fc2, x = layers(())
    plan = planned(fc1, fc2, x)
    assert plan.notes == [] and torch.equal(plan.unit, torch.arange(128))
    assert torch.equal(plan.fc1(fc1).weight, fc1.weight) and torch.equal(plan.fc2(fc2).weight, fc2.weight)
    assert len(plan.exponent.unique()) == 1
