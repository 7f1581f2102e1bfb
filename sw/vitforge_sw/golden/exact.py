"""Exact integer matrix products: PyTorch's int8 product where it is exact, else floating-point BLAS in its bounds."""

import functools

import torch

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


def carrier(bound: int) -> torch.dtype:
    """The float type that holds every integer up to ``bound`` exactly: sums whose partial sums (in any order, with or
    without fused multiply-add) never exceed it are exact."""
    if bound <= FLOAT32_EXACT:
        return torch.float32
    assert bound <= FLOAT64_EXACT, bound
    return torch.float64


PROBES = ((1, 16, 16), (5, 30, 17), (197, 64, 197), (200, 768, 192))  #: (rows, K, columns)


@functools.cache
def int8_products() -> bool:
    """Whether PyTorch multiplies int8 matrices exactly on this processor, which it does with VNNI instructions.

    Without them some kernels add pairs of products in saturating 16 bits: found out on the extremes, where every pair
    would saturate. Four times as fast as float32.
    """
    if not hasattr(torch, "_int_mm"):
        return False
    try:
        for m, k, n in PROBES:
            for x in (-128, 127):
                for y in (-128, 127):
                    a, b = torch.full((m, k), x, dtype=torch.int8), torch.full((n, k), y, dtype=torch.int8)
                    if not bool((torch._int_mm(a, b.t()) == x * y * k).all()):
                        return False
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _int8_matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """int32 ``a @ b``; a (..., M, K), b (K, N) or (B, K, N)."""
    a = a.contiguous()
    if not b.is_contiguous() and not b.transpose(-1, -2).is_contiguous():
        b = b.contiguous()
    if b.dim() == 2:
        return torch._int_mm(a.reshape(-1, a.shape[-1]), b).view(*a.shape[:-1], b.shape[1])
    out = torch.empty(len(a), a.shape[1], b.shape[2], dtype=torch.int32)
    for x, y, z in zip(a, b, out, strict=True):
        torch._int_mm(x, y, out=z)
    return out


def matmul(a: torch.Tensor, b: torch.Tensor, bound: int) -> torch.Tensor:
    """``a @ b`` of integer tensors, exact: int32, or int64 where ``bound`` needs it.

    ``bound``: proven maximum of sum |a_i b_i| over the reduction, from the operands' ranges: no partial sum exceeds it.
    """
    fits = a.dtype == b.dtype == torch.int8 and bound < 1 << 31 and (b.dim() == 2 or a.dim() == b.dim() == 3)
    if fits and a.shape[-1] > 1 and int8_products():  # a single column has no stride that tells b from its transpose
        return _int8_matmul(a, b)
    dtype = carrier(bound)
    product = torch.matmul(a.to(dtype), b.to(dtype))
    return product.to(torch.int32 if bound < 1 << 31 else torch.int64)


def round_shift_(x: torch.Tensor, n: int | torch.Tensor) -> torch.Tensor:
    """In place ``(x + (1 << n >> 1)) >> n``: arith.round_shift for n >= 0, scalar or tensor (broadcast, same dtype)."""
    if isinstance(n, int):
        return x.add_((1 << n) >> 1).bitwise_right_shift_(n) if n else x
    return x.add_(torch.bitwise_left_shift(torch.ones_like(n), n) >> 1).bitwise_right_shift_(n)
