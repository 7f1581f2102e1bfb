"""Integer matrix products carried by floating-point BLAS where every partial sum is provably exact."""

import torch

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


def carrier(bound: int) -> torch.dtype:
    """The float type that holds every integer up to ``bound`` exactly: sums whose partial sums (in any order, with or
    without fused multiply-add) never exceed it are exact."""
    if bound <= FLOAT32_EXACT:
        return torch.float32
    assert bound <= FLOAT64_EXACT, bound
    return torch.float64


def matmul(a: torch.Tensor, b: torch.Tensor, bound: int) -> torch.Tensor:
    """``a @ b`` of integer tensors, exact: int32, or int64 where ``bound`` needs it.

    ``bound``: proven maximum of sum |a_i b_i| over the reduction, from the operands' ranges: no partial sum exceeds it.
    """
    dtype = carrier(bound)
    product = torch.matmul(a.to(dtype), b.to(dtype))
    return product.to(torch.int32 if bound < 1 << 31 else torch.int64)


def round_shift_(x: torch.Tensor, n: int | torch.Tensor) -> torch.Tensor:
    """In place ``(x + (1 << n >> 1)) >> n``: arith.round_shift for n >= 0, scalar or tensor (broadcast, same dtype)."""
    if isinstance(n, int):
        return x.add_((1 << n) >> 1).bitwise_right_shift_(n) if n else x
    return x.add_(torch.bitwise_left_shift(torch.ones_like(n), n) >> 1).bitwise_right_shift_(n)
