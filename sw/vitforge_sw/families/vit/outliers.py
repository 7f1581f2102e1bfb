"""Massive activations: channels that fire far beyond the others, and where they are."""

import torch
from torch.nn import functional as F

from .frontend import FloatViT, attention, layer_norm

RATIO = 4.0  #: a channel's largest magnitude over that of most channels, from which it is an outlier
IMAGES = 16  #: images looked at for the report on the residual stream


def typical(top: torch.Tensor) -> torch.Tensor:
    """What most channels reach: the 97 % quantile of the channels' largest magnitudes (C,)."""
    return torch.quantile(top, 0.97).clamp(min=1e-30)


def outliers(top: torch.Tensor, ratio: float = RATIO) -> torch.Tensor:
    """Indices of the channels whose largest magnitude ``top`` (C,) is above ``ratio`` times the typical one."""
    return torch.nonzero(top > ratio * typical(top)).flatten()


def stream_outliers(vit: FloatViT, x: torch.Tensor) -> list[str]:
    """Outlier channels of the float residual stream, one line each: channel, ratio, blocks. x (B, T, C): embedding."""
    x, found = x[:IMAGES], {}
    for i, b in enumerate(vit.blocks):
        n = layer_norm(x, b.norm1)
        q, k, v = (F.linear(n, a.weight, a.bias) for a in (b.q, b.k, b.v))
        x = x + F.linear(attention(b.normed("q", q), b.normed("k", k), v, b.heads, b.scale), b.proj.weight, b.proj.bias)
        n = layer_norm(x, b.norm2)
        x = x + F.linear(b.activation(F.linear(n, b.fc1.weight, b.fc1.bias)), b.fc2.weight, b.fc2.bias)
        top = (x - x.mean(-1, keepdim=True)).abs().amax((0, 1))
        for c in outliers(top).tolist():
            found.setdefault(c, []).append((i, float(top[c]), float(top[c] / typical(top))))
    return [
        f"residual stream: channel {c}: largest {max(t for _, t, _ in at):.4g}, {max(r for *_, r in at):.1f} times "
        f"what most reach, behind blocks {at[0][0]} to {at[-1][0]}"
        for c, at in sorted(found.items())
    ]
