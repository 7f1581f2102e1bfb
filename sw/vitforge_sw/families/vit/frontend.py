"""Front end: a timm VisionTransformer to a plain float description, every feature checked.

The description is what quantizers work on: matrices per head, one table of position embedding with the class token.
LayerNorm's epsilon (1e-6, against variances of order 1) has no place in the integer unit and is left out: the variance
of an integer row is either 0 (the unit then gives beta) or at least 1 / C^2 of a step, far above it.
"""

import dataclasses

import torch
from torch.nn import functional as F

from .check import check_model


@dataclasses.dataclass
class Affine:
    """A linear layer: weight (N, K), bias (N,), float32."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclasses.dataclass
class Norm:
    """LayerNorm over C channels: gamma, beta (C,), eps."""

    gamma: torch.Tensor
    beta: torch.Tensor
    eps: float


@dataclasses.dataclass
class FloatBlock:
    """One pre-norm block; q, k, v have H * d rows, head h owns rows h * d : (h + 1) * d. Scores are q k^T * scale."""

    norm1: Norm
    q: Affine
    k: Affine
    v: Affine
    proj: Affine
    norm2: Norm
    fc1: Affine
    fc2: Affine
    heads: int
    scale: float


@dataclasses.dataclass
class FloatViT:
    """The float model: ``embed`` acts on normalised patches (channel, row, column); ``addend`` (T, C): row 0 class
    token + its position, then the patches' positions (the embedding's bias is in ``embed``)."""

    embed: Affine
    addend: torch.Tensor
    blocks: list[FloatBlock]
    norm: Norm
    head: Affine

    tokens = property(lambda s: s.addend.shape[0])
    channels = property(lambda s: s.addend.shape[1])

    def embedding(self, patches: torch.Tensor) -> torch.Tensor:
        """Normalised float patches (B, T - 1, K) to the residual stream (B, T, C)."""
        x = F.linear(patches, self.embed.weight, self.embed.bias)
        return F.pad(x, (0, 0, 1, 0)) + self.addend


def layer_norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.gamma, norm.beta, norm.eps)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
    """(B, T, H * d) each to the attention output (B, T, H * d)."""
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    return F.scaled_dot_product_attention(split(q), split(k), split(v), scale=scale).transpose(1, 2).flatten(2)


def _affine(layer: torch.nn.Linear) -> Affine:
    bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.weight.shape[0])
    return Affine(layer.weight.detach().float(), bias.detach().float())


def _norm(layer: torch.nn.LayerNorm) -> Norm:
    c = layer.normalized_shape[0]
    gamma = layer.weight if layer.weight is not None else torch.ones(c)
    beta = layer.bias if layer.bias is not None else torch.zeros(c)
    return Norm(gamma.detach().float(), beta.detach().float(), layer.eps)


def _scaled(layer: torch.nn.Linear, scale: torch.nn.Module | None) -> Affine:
    """A linear layer with the LayerScale behind it folded in (factors of one leave the model's own tensors, and a
    model of shapes alone has no factors)."""
    affine, gamma = _affine(layer), getattr(scale, "gamma", None)
    if gamma is None or gamma.is_meta or bool((gamma == 1).all()):
        return affine
    gamma = gamma.detach().float()
    return Affine(affine.weight * gamma[:, None], affine.bias * gamma)


def import_vit(model: torch.nn.Module, word: int | None = None) -> FloatViT:
    """The float description of a timm VisionTransformer.

    Raises ValueError naming the first unsupported layer (``check_model`` lists all). ``word``: channels that head
    dimension, embedding and hidden width must be multiples of (None: not checked here; the compiler knows the preset).
    """
    for row in check_model(model, word=word or 1):
        if not row.supported:
            raise ValueError(f"model: {row.layer} ({row.kind}) is not supported: {row.reason}")
    conv = model.patch_embed.proj
    bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
    embed = Affine(conv.weight.detach().float().flatten(1), bias.detach().float())
    cls, pos = model.cls_token.detach().float()[0], model.pos_embed.detach().float()[0]
    patches = model.patch_embed.num_patches
    addend = torch.cat([cls, pos]) if pos.shape[0] == patches else torch.cat([cls + pos[:1], pos[1:]])
    blocks = []
    for b in model.blocks:
        qkv = _affine(b.attn.qkv)
        parts = [Affine(w, c) for w, c in zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True)]
        blocks.append(
            FloatBlock(
                _norm(b.norm1),
                *parts,
                _scaled(b.attn.proj, b.ls1),
                _norm(b.norm2),
                _affine(b.mlp.fc1),
                _scaled(b.mlp.fc2, b.ls2),
                heads=b.attn.num_heads,
                scale=float(b.attn.scale),
            )
        )
    return FloatViT(embed, addend, blocks, _norm(model.norm), _affine(model.head))
