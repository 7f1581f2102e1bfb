"""Which float type may carry an integer product."""

import pytest
import torch

from vitforge_sw.golden import exact


def test_carrier_is_the_bound_not_a_guess():
    assert exact.carrier(1 << 24) is torch.float32
    assert exact.carrier((1 << 24) + 1) is torch.float64
    with pytest.raises(AssertionError):
        exact.carrier((1 << 53) + 1)


@pytest.mark.parametrize("k", [1, 1032, 1033, 4128])
def test_extreme_products_are_exact(k):
    a = torch.full((3, k), -128, dtype=torch.int8)
    b = torch.full((k, 5), 127, dtype=torch.int8)
    a[1] = 127
    got = exact.matmul(a, b, 128 * 127 * k)
    assert got.dtype == torch.int32
    assert got.tolist() == [[-128 * 127 * k] * 5, [127 * 127 * k] * 5, [-128 * 127 * k] * 5]


def test_float32_would_be_wrong_beyond_its_bound():
    """The bound matters: an odd sum above 2^24 has no float32."""
    a = torch.full((1, 1042), 127, dtype=torch.int8)
    a[0, -1] = 2
    b = torch.full((1042, 1), 127, dtype=torch.int8)
    want = 1041 * 127 * 127 + 2 * 127
    assert want > 1 << 24 and want % 2 == 1
    assert exact.matmul(a, b, 127 * 127 * 1042).item() == want
    assert (a.float() @ b.float()).item() != want


def test_random_products():
    g = torch.Generator().manual_seed(1)
    a = torch.randint(-128, 128, (4, 7, 300), generator=g)
    b = torch.randint(-127, 128, (300, 9), generator=g)
    assert torch.equal(exact.matmul(a, b, 128 * 127 * 300).long(), a @ b)


def test_round_shift():
    x = torch.tensor([-3, -2, -1, 0, 1, 2, 3], dtype=torch.int32)
    assert exact.round_shift_(x.clone(), 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert exact.round_shift_(x.clone(), 0).tolist() == x.tolist()
    n = torch.tensor([0, 1, 2, 3, 0, 1, 2], dtype=torch.int32)
    assert exact.round_shift_(x.clone(), n).tolist() == [-3, -1, 0, 0, 1, 1, 1]
