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
    act: str = "gelu"  #: gelu | relu, between fc1 and fc2
    q_norm: Norm | None = None  #: LayerNorm of each head's queries, of its keys
    k_norm: Norm | None = None

    def normed(self, part: str, x: torch.Tensor) -> torch.Tensor:
        """q or k (B, T, H * d) as the scores need it."""
        norm = {"q": self.q_norm, "k": self.k_norm}.get(part)
        return x if norm is None else layer_norm(x.unflatten(-1, (self.heads, -1)), norm).flatten(-2)

    def activation(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x) if self.act == "relu" else F.gelu(x)


@dataclasses.dataclass
class FloatViT:
    """The float model: ``embed`` acts on normalised patches (channel, row, column); ``addend`` (T, C): first the
    ``prefix`` tokens (class, distillation, registers) + their positions, then the patches' positions (the embedding's
    bias is in ``embed``).

    ``pool`` token: the classifier reads token 0 behind ``norm``; ``head_dist``: a second one reads token 1, and the
    logits are the mean of both (distilled DeiT). before | behind: the average over the patches (``pool_prefix``: over
    all tokens) stands before ``norm`` (timm's fc_norm) or behind it."""

    embed: Affine
    addend: torch.Tensor
    blocks: list[FloatBlock]
    norm: Norm
    head: Affine
    prefix: int = 1
    head_dist: Affine | None = None
    pool: str = "token"
    pool_prefix: bool = False

    tokens = property(lambda s: s.addend.shape[0])
    channels = property(lambda s: s.addend.shape[1])

    def embedding(self, patches: torch.Tensor) -> torch.Tensor:
        """Normalised float patches (B, T - prefix, K) to the residual stream (B, T, C)."""
        x = F.linear(patches, self.embed.weight, self.embed.bias)
        return F.pad(x, (0, 0, self.prefix, 0)) + self.addend

    def average(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to (B, 1, C): over the tokens that count."""
        return x[:, 0 if self.pool_prefix else self.prefix :].mean(1, keepdim=True)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """The residual stream behind the last block to what the classifier reads (B, 1, C), of a pooled model."""
        return (
            layer_norm(self.average(x), self.norm) if self.pool == "before" else self.average(layer_norm(x, self.norm))
        )

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The residual stream behind the last block (B, T, C) to logits (B, classes)."""
        if self.pool != "token":
            return F.linear(self.pooled(x)[:, 0], self.head.weight, self.head.bias)
        n = layer_norm(x[:, :2], self.norm)
        y = F.linear(n[:, 0], self.head.weight, self.head.bias)
        if self.head_dist is None:
            return y
        return (y + F.linear(n[:, 1], self.head_dist.weight, self.head_dist.bias)) / 2


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


def _optional(layer: torch.nn.Module) -> Norm | None:
    """LayerNorm, or None where there is none."""
    return _norm(layer) if isinstance(layer, torch.nn.LayerNorm) else None


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
    prefix, pos = prefix_tokens(model), model.pos_embed.detach().float()[0]
    tokens = len(prefix)
    if pos.shape[0] > model.patch_embed.num_patches:
        prefix, pos = prefix + pos[: len(prefix)], pos[len(prefix) :]
    addend = torch.cat([prefix, pos])
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
                q_norm=_optional(b.attn.q_norm),
                k_norm=_optional(b.attn.k_norm),
                act="relu" if isinstance(b.mlp.act, torch.nn.ReLU) else "gelu",
            )
        )
    dist = getattr(model, "head_dist", None)
    head_dist = None if dist is None else _affine(dist)
    pool = "token" if model.global_pool == "token" else "behind" if _optional(model.norm) else "before"
    norm = model.fc_norm if pool == "before" else model.norm
    return FloatViT(
        embed, addend, blocks, _norm(norm), _affine(model.head), tokens, head_dist, pool,
        bool(getattr(model, "pool_include_prefix", False)),
    )  # fmt: skip


#: parameters of the tokens before the patches, in their order
PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


def prefix_tokens(model: torch.nn.Module) -> torch.Tensor:
    """Class, distillation and register tokens (P, C) as far as the model has them."""
    found = [getattr(model, name, None) for name in PREFIX_TOKENS]
    empty = model.pos_embed.detach().float()[0, :0]
    return torch.cat([empty, *(t.detach().float()[0] for t in found if t is not None)])
