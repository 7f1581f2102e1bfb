"""``check_model``: what of a model the machine runs, layer by layer, and what to do about the rest."""

import dataclasses

import torch
from torch import nn

from vitforge_hw.arch.config import MAX_CHANNELS, MAX_K, MAX_TOKENS

from ...ops.matmul import TOKEN_OFFSET

MAX_PREFIX = -TOKEN_OFFSET[0]  #: tokens before the patches


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer: ``shape`` is weight or feature shape; ``reason`` says why not, and what to do (empty: supported)."""

    layer: str
    kind: str
    shape: tuple[int, ...]
    supported: bool
    reason: str = ""


def _shape(module: nn.Module) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return tuple(weight.shape) if isinstance(weight, torch.Tensor) else ()


def _identity(module) -> bool:
    return module is None or isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout))


def _vit_rows(model: nn.Module, word: int):
    def row(layer, module, problems=()):
        problems = [p for p in problems if p]
        kind = module if isinstance(module, str) else type(module).__name__
        shape = () if isinstance(module, str) else _shape(module)
        return Row(layer, kind, shape, not problems, "; ".join(problems))

    def multiple(n, what):
        return (
            n % word
            and f"{what} {n} must be a multiple of {word} (a word of channels): "
            "choose another width or a preset with a smaller word"
        )

    def norm_problems(norm, name):
        if type(norm).__name__ not in ("LayerNorm",) or not isinstance(norm, nn.LayerNorm):
            return [f"{name} must be LayerNorm, not {type(norm).__name__}: other normalisations have no unit"]
        return [
            norm.normalized_shape[0] > MAX_CHANNELS
            and f"{norm.normalized_shape[0]} channels exceed the LayerNorm unit's {MAX_CHANNELS}"
        ]

    embed = model.patch_embed
    conv = getattr(embed, "proj", None)
    if not isinstance(conv, nn.Conv2d) or hasattr(embed, "backbone"):
        yield row(
            "patch_embed", embed, ["must be one convolution over disjoint patches (hybrid stems are not supported)"]
        )
        return
    yield row(
        "embed",
        conv,
        [
            conv.kernel_size != conv.stride
            and f"kernel {conv.kernel_size} must equal stride {conv.stride}: overlapping patches are not supported",
            conv.kernel_size[0] != conv.kernel_size[1] and f"patches must be square, not {conv.kernel_size}",
            conv.in_channels not in (1, 3) and f"in_chans must be 1 or 3, not {conv.in_channels}",
            conv.groups != 1 and f"groups must be 1, not {conv.groups}",
            conv.padding != (0, 0) and f"padding must be 0, not {conv.padding}",
            multiple(conv.out_channels, "embed_dim"),
            conv.in_channels * conv.kernel_size[0] ** 2 > MAX_K
            and f"more than {MAX_K} values a patch exceed the accumulators: use smaller patches",
        ],
    )
    if embed.img_size and embed.img_size[0] != embed.img_size[1]:
        yield row("patch_embed", embed, [f"images must be square, not {embed.img_size}"])
    if not _identity(getattr(embed, "norm", None)):
        yield row("patch_embed.norm", embed.norm, ["a normalisation behind the patch embedding is not supported"])
    if getattr(model, "dynamic_img_size", False):
        yield row(
            "patch_embed",
            "dynamic_img_size",
            ["the integer model has one image size: build the model with dynamic_img_size false"],
        )
    cls, pos = getattr(model, "cls_token", None), getattr(model, "pos_embed", None)
    prefix = getattr(model, "num_prefix_tokens", 1)
    if cls is not None:
        yield Row("cls_token", "class token", tuple(cls.shape), True)
    if prefix > MAX_PREFIX:
        yield row("prefix tokens", "tokens", [f"{prefix} tokens before the patches exceed {MAX_PREFIX}"])
    yield Row(
        "pos_embed",
        "learned position",
        tuple(pos.shape) if pos is not None else (),
        pos is not None,
        "" if pos is not None else "position embedding must be learned and added (no relative or rotary positions)",
    )
    tokens = embed.num_patches + prefix
    if tokens > MAX_TOKENS:
        yield row(
            "tokens",
            "tokens",
            [
                f"{tokens} tokens exceed {MAX_TOKENS}, what the attention accumulators hold: "
                "use a smaller image or larger patches"
            ],
        )
    if getattr(model, "rope", None) is not None:
        yield row("rope", model.rope, ["rotary position embedding is not supported"])
    if not _identity(getattr(model, "norm_pre", None)):
        yield row("norm_pre", model.norm_pre, ["normalisation before the blocks is not supported (CLIP models)"])
    for i, b in enumerate(model.blocks):
        name = f"blocks.{i}"
        if type(b).__name__ != "Block":
            yield row(
                name,
                b,
                [
                    f"the block must be timm's pre-norm Block, not {type(b).__name__} "
                    "(post-norm, parallel and scaled blocks are not supported)"
                ],
            )
            continue
        a = b.attn
        yield row(f"{name}.norm1", b.norm1, norm_problems(b.norm1, "norm1"))
        if type(a).__name__ != "Attention" or not isinstance(getattr(a, "qkv", None), nn.Linear):
            yield row(
                f"{name}.attn",
                a,
                [f"attention must be plain multi-head self-attention with one qkv layer, not {type(a).__name__}"],
            )
        else:
            yield row(
                f"{name}.attn.qkv",
                a.qkv,
                [
                    multiple(a.head_dim, "head dimension"),
                    a.qkv.out_features != 3 * a.num_heads * a.head_dim and "q, k and v must be equally wide",
                ],
            )
            for part in ("q_norm", "k_norm"):
                if not _identity(getattr(a, part, None)):
                    yield row(f"{name}.attn.{part}", getattr(a, part), norm_problems(getattr(a, part), part))
            if not _identity(getattr(a, "norm", None)):
                why = "normalisation of the heads together is not supported: there is no unit between them and proj"
                yield row(f"{name}.attn.norm", a.norm, [why])
            yield row(f"{name}.attn.softmax", "softmax")
            yield row(f"{name}.attn.proj", a.proj)
        for part in ("ls1", "ls2"):
            if not _identity(getattr(b, part, None)):
                scale = getattr(b, part)
                known = isinstance(getattr(scale, "gamma", None), torch.Tensor)
                why = (
                    ""
                    if known
                    else f"only LayerScale can be folded into the layer before it, not {type(scale).__name__}"
                )
                yield row(f"{name}.{part}", scale, [why])
        yield row(f"{name}.norm2", b.norm2, norm_problems(b.norm2, "norm2"))
        m = b.mlp
        if type(m).__name__ != "Mlp" or not isinstance(getattr(m, "fc1", None), nn.Linear):
            yield row(
                f"{name}.mlp",
                m,
                [
                    f"must be a plain two-layer MLP, not {type(m).__name__}: "
                    "gated MLPs (SwiGLU, GLU) need a product of two activations, which the machine lacks"
                ],
            )
            continue
        yield row(f"{name}.mlp.fc1", m.fc1, [multiple(m.fc1.out_features, "hidden width")])
        known = isinstance(m.act, (nn.GELU, nn.ReLU)) or type(m.act).__name__ in ("GELU", "GELUTanh")
        yield row(
            f"{name}.mlp.act",
            m.act,
            [not known and f"activation must be GELU or ReLU, not {type(m.act).__name__}: fine-tune with one of them"],
        )
        if not _identity(getattr(m, "norm", None)):
            yield row(f"{name}.mlp.norm", m.norm, ["normalisation inside the MLP is not supported"])
        yield row(
            f"{name}.mlp.fc2",
            m.fc2,
            [m.fc2.in_features > MAX_K and f"more than {MAX_K} inputs exceed the accumulators"],
        )
    fc_norm = getattr(model, "fc_norm", None)
    norm = fc_norm if _identity(model.norm) and not _identity(fc_norm) else model.norm
    both = not _identity(model.norm) and not _identity(fc_norm)
    unread = norm is fc_norm and model.global_pool == "token"
    yield row("norm", norm, [
        *norm_problems(norm, "norm"), both and "norm and fc_norm together are not supported",
        unread and "fc_norm needs global_pool 'avg'",
    ])  # fmt: skip
    if getattr(model, "attn_pool", None) is not None:
        yield row("attn_pool", model.attn_pool, ["attention pooling is not supported: use global_pool 'token'"])
    pool = model.global_pool
    if pool != "token":
        yield row("pool", f"pool {pool}", [pool != "avg" and f"global_pool must be 'token' or 'avg', not {pool!r}"])
    for name in ("head", "head_dist") if hasattr(model, "head_dist") else ("head",):
        head = getattr(model, name)
        yield row(
            name,
            head,
            [not isinstance(head, nn.Linear) and "the classifier must be one linear layer (num_classes must not be 0)"],
        )


def check_model(model: nn.Module, word: int = 16) -> list[Row]:
    """Rows (layer, kind, shape, supported, reason) of every layer. ``word``: the preset's channels per word."""
    if type(model).__name__ in ("VisionTransformer", "VisionTransformerDistilled"):
        return list(_vit_rows(model, word))
    if type(model).__name__ == "EfficientVit":
        from ..efficientvit.check import efficientvit_rows  # uses this module's Row

        return list(efficientvit_rows(model))
    reason = "only timm's VisionTransformer (ViT, DeiT) and EfficientVit (B0 to B3) run so far"
    rows = [Row("(model)", type(model).__name__, (), False, reason)]
    for name, module in model.named_modules():
        if name and not list(module.children()) and not _identity(module):
            kind = type(module).__name__
            known = kind in ("Linear", "LayerNorm", "GELU")
            why = "" if known else f"no instruction for {kind}"
            rows.append(Row(name, kind, _shape(module), known, why))
    return rows
