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


@pytest.mark.parametrize("m,k,n", [(1, 1, 5), (1, 2, 1), (3, 17, 10), (17, 64, 197), (50, 31, 64), (197, 192, 9)])
def test_int8_products(m, k, n):
    """Exact for every layout that the golden model hands over: transposed, batched, cut out of wider tensors."""
    g = torch.Generator().manual_seed(m)
    a = torch.randint(-128, 128, (2, m, k + 3), generator=g, dtype=torch.int8)[..., 2 : k + 2]
    b = torch.randint(-128, 128, (2, n, k), generator=g, dtype=torch.int8)
    wide = torch.randint(-128, 128, (k, n + 4), generator=g, dtype=torch.int8)[:, 3 : n + 3]
    for y in (b.transpose(1, 2), b.transpose(1, 2).contiguous(), b[1].t(), b[1].t().contiguous(), wide):
        got = exact.matmul(a, y, 128 * 128 * k)
        assert got.dtype == torch.int32
        assert torch.equal(got.long(), a.long() @ y.long())


@pytest.mark.parametrize("fault", ["saturates", "missing"])
def test_an_inexact_int8_product_is_not_used(fault, monkeypatch):
    """A kernel that adds pairs of products in saturating 16 bits, as processors without VNNI do; or no kernel."""

    def saturating(a, b):
        pairs = torch.nn.functional.pad(a.long()[:, :, None] * b.long()[None], (0, 0, 0, a.shape[1] % 2))
        return pairs.unflatten(1, (-1, 2)).sum(2).clamp(-32768, 32767).sum(1).int()

    exact.int8_products.cache_clear()
    if fault == "missing":
        monkeypatch.delattr(torch, "_int_mm", raising=False)
    else:
        monkeypatch.setattr(torch, "_int_mm", saturating, raising=False)
    try:
        assert not exact.int8_products()
        a, b = torch.full((2, 4), -128, dtype=torch.int8), torch.full((4, 3), -128, dtype=torch.int8)
        assert (exact.matmul(a, b, 4 << 14) == 4 << 14).all()
    finally:
        exact.int8_products.cache_clear()


def test_round_shift():
    x = torch.tensor([-3, -2, -1, 0, 1, 2, 3], dtype=torch.int32)
    assert exact.round_shift_(x.clone(), 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert exact.round_shift_(x.clone(), 0).tolist() == x.tolist()
    n = torch.tensor([0, 1, 2, 3, 0, 1, 2], dtype=torch.int32)
    assert exact.round_shift_(x.clone(), n).tolist() == [-3, -1, 0, 0, 1, 1, 1]
