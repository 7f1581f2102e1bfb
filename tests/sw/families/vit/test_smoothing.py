"""Steps and centres of a LayerNorm's output from very few calibration rows."""

import torch

from vitforge_sw.families.vit.smoothing import MEAN, smooth_steps


def chosen(rows: int):
    x = torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows)) + 3
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    return x, *smooth_steps(x, torch.full((rows,), 1 / rows), weight, (0.5, 1.0), -128, 127, 8)


def test_a_single_row_is_no_centre():
    """Centred on itself it would leave nothing to code: steps of 1e-9, and gammas of 1e11 that no field holds."""
    for rows in (1, 2, MEAN - 1):
        x, step, centre = chosen(rows)
        assert not centre.any() and float(step.min()) > 1e-4
        coded = ((x / step).round().clamp(-128, 127) * step - x).abs().max()
        assert float(coded) < 0.1 * float(x.abs().max())


def test_the_mean_of_many_rows_is_one():
    x, step, centre = chosen(64)
    assert torch.allclose(centre, x.mean(0), atol=1e-5) and float(step.min()) > 1e-4
