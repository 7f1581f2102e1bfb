"""The float ViT with a tap at every tensor that a quantizer rounds: what simulations, sensitivities and pictures share.

A tap is told the site's name, the integer graph's without heads: ``embed``, ``blocks.B.norm1``, ``blocks.B.attn.q``,
``.k``, ``.v``, ``.scores``, ``.softmax``, ``.attend``, ``.proj``, ``blocks.B.norm2``, ``.mlp.fc1`` (behind the
activation), ``.mlp.fc2``, ``norm``, ``head``. ``embed``, ``proj`` and ``fc2`` are the residual stream behind the layer.
"""

import dataclasses

import torch
from torch.nn import functional as F

from .frontend import Affine, FloatBlock, FloatViT, Norm, layer_norm

WEIGHTS = ("q", "k", "v", "proj", "fc1", "fc2")


class Tap:
    """Leaves everything as it is; subclasses replace what they study."""

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        return x

    def linear(self, site: str, x: torch.Tensor, layer: Affine) -> torch.Tensor:
        return F.linear(x, layer.weight, layer.bias)

    def norm(self, site: str, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        return layer_norm(x, norm)

    def softmax(self, site: str, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, H, T, T) in nats."""
        return torch.softmax(scores, -1)

    def activation(self, site: str, b: FloatBlock, x: torch.Tensor) -> torch.Tensor:
        return b.activation(x)


def weight_site(block: int, part: str) -> str:
    """The name of a block's weight layer, as ``Scheme.bits`` knows it."""
    return f"blocks.{block}.{'mlp' if part.startswith('fc') else 'attn'}.{part}"


def walk_block(i: int, b: FloatBlock, x: torch.Tensor, tap: Tap) -> torch.Tensor:
    """One block: the stream (B, T, C) before it to the stream behind it."""
    at = f"blocks.{i}"
    n = tap.tensor(f"{at}.norm1", tap.norm(f"{at}.norm1", x, b.norm1))
    heads = {}
    for part in ("q", "k", "v"):
        y = b.normed(part, tap.linear(weight_site(i, part), n, getattr(b, part)))
        y = tap.tensor(weight_site(i, part), y)
        heads[part] = y.unflatten(-1, (b.heads, -1)).transpose(1, 2)
    scores = tap.tensor(f"{at}.attn.scores", heads["q"] @ heads["k"].transpose(-1, -2) * b.scale)
    p = tap.tensor(f"{at}.attn.softmax", tap.softmax(f"{at}.attn.softmax", scores))
    a = tap.tensor(f"{at}.attn.attend", (p @ heads["v"]).transpose(1, 2).flatten(2))
    x = tap.tensor(f"{at}.attn.proj", x + tap.linear(f"{at}.attn.proj", a, b.proj))
    n = tap.tensor(f"{at}.norm2", tap.norm(f"{at}.norm2", x, b.norm2))
    h = tap.linear(f"{at}.mlp.fc1", n, b.fc1)
    h = tap.tensor(f"{at}.mlp.fc1", tap.activation(f"{at}.mlp.fc1", b, h))
    return tap.tensor(f"{at}.mlp.fc2", x + tap.linear(f"{at}.mlp.fc2", h, b.fc2))


def walk_embed(vit: FloatViT, patches: torch.Tensor, tap: Tap) -> torch.Tensor:
    """Normalised patches (B, T - prefix, K) to the stream (B, T, C)."""
    y = tap.linear("embed", patches, vit.embed)
    return tap.tensor("embed", F.pad(y, (0, 0, vit.prefix, 0)) + vit.addend)


def walk_head(vit: FloatViT, x: torch.Tensor, tap: Tap) -> torch.Tensor:
    """The stream behind the last block to logits (B, classes); models whose classifier reads the class token."""
    if vit.pool != "token" or vit.head_dist is not None:
        raise ValueError("model: the classifier must read the class token alone for simulations and sensitivities")
    n = tap.tensor("norm", tap.norm("norm", x[:, :1], vit.norm))
    return tap.linear("head", n, vit.head)[:, 0]


def walk(vit: FloatViT, patches: torch.Tensor, tap: Tap | None = None) -> torch.Tensor:
    """Normalised float patches to logits, through ``tap``."""
    tap = tap or Tap()
    x = walk_embed(vit, patches, tap)
    for i, b in enumerate(vit.blocks):
        x = walk_block(i, b, x, tap)
    return walk_head(vit, x, tap)


def weight_layers(vit: FloatViT) -> dict[str, Affine]:
    """Every weight layer by the name that ``Scheme.bits`` knows."""
    found = {"embed": vit.embed}
    for i, b in enumerate(vit.blocks):
        found |= {weight_site(i, part): getattr(b, part) for part in WEIGHTS}
    return found | {"head": vit.head}


def with_layers(vit: FloatViT, layers: dict[str, Affine]) -> FloatViT:
    """``vit`` with some weight layers replaced."""
    blocks = [
        dataclasses.replace(b, **{p: layers[weight_site(i, p)] for p in WEIGHTS if weight_site(i, p) in layers})
        for i, b in enumerate(vit.blocks)
    ]
    return dataclasses.replace(
        vit, blocks=blocks, embed=layers.get("embed", vit.embed), head=layers.get("head", vit.head)
    )
