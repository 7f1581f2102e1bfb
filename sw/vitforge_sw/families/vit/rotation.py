"""Orthogonal rotations R of the residual stream with R 1 = 1: the same float model, its outliers spread over channels.

LayerNorm subtracts the mean and divides by the deviation. R 1 = 1 keeps the mean, orthogonality keeps the deviation,
so that LayerNorm(x R) = LayerNorm(x) R without gamma and beta, which move into the layers behind (QuaRot, 2404.00456,
for RMSNorm; here LayerNorm, and the hardware, stay as they are). Rows are tokens: the stream x (T, C) becomes x R.
"""

import dataclasses

import torch

from .frontend import Affine, FloatViT, Norm


def _hadamard(n: int) -> torch.Tensor:
    """Sylvester's matrix of order n (a power of two), float64."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


def _cosines(n: int) -> torch.Tensor:
    """The orthogonal cosine transform of order n, float64, times sqrt(n)."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    m = torch.cos(torch.pi * k * (2 * i + 1) / (2 * n)) * 2**0.5
    m[0] = 1
    return m


def _reflection(u: torch.Tensor) -> torch.Tensor:
    """Householder's I - 2 u u' / u'u; the identity for u = 0."""
    norm = float(u @ u)
    eye = torch.eye(len(u), dtype=torch.float64)
    return eye if norm < 1e-18 else eye - 2 * torch.outer(u, u) / norm


def mixing(channels: int, seed: int = 0) -> torch.Tensor:
    """A rotation (C, C), float64, R 1 = 1, that spreads every channel over all: signed Hadamard x cosines.

    R = P A with A the signed matrix and P the reflection that takes A 1 back to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    two = channels & -channels
    a = torch.kron(_hadamard(two), _cosines(channels // two)) / channels**0.5
    signs = torch.randint(0, 2, (channels,), generator=generator).double() * 2 - 1
    a = signs[:, None] * a[torch.randperm(channels, generator=generator)]
    ones = torch.ones(channels, dtype=torch.float64)
    return _reflection(a @ ones - ones) @ a


def plain_norm(channels: int, eps: float) -> Norm:
    return Norm(torch.ones(channels), torch.zeros(channels), eps)


def _read(layer: Affine, norm: Norm, r: torch.Tensor) -> Affine:
    """A layer behind ``norm`` for the rotated stream, with gamma and beta folded in."""
    w = layer.weight.double()
    return Affine((w * norm.gamma.double() @ r).float(), (layer.bias.double() + w @ norm.beta.double()).float())


def _write(layer: Affine, r: torch.Tensor) -> Affine:
    """A layer that adds to the rotated stream."""
    return Affine((r.T @ layer.weight.double()).float(), (r.T @ layer.bias.double()).float())


def rotate(vit: FloatViT, r: torch.Tensor) -> FloatViT:
    """The same function with the stream x r; every LayerNorm has gamma = 1 and beta = 0 (eps as it was)."""
    blocks = []
    for b in vit.blocks:
        q, k, v = (_read(a, b.norm1, r) for a in (b.q, b.k, b.v))
        plain = [plain_norm(vit.channels, n.eps) for n in (b.norm1, b.norm2)]
        blocks.append(
            dataclasses.replace(
                b,
                **dict(norm1=plain[0], q=q, k=k, v=v, proj=_write(b.proj, r)),
                **dict(norm2=plain[1], fc1=_read(b.fc1, b.norm2, r), fc2=_write(b.fc2, r)),
            )
        )
    return dataclasses.replace(
        vit,
        embed=_write(vit.embed, r),
        addend=(vit.addend.double() @ r).float(),
        blocks=blocks,
        norm=plain_norm(vit.channels, vit.norm.eps),
        head=_read(vit.head, vit.norm, r),
        head_dist=vit.head_dist and _read(vit.head_dist, vit.norm, r),
    )
