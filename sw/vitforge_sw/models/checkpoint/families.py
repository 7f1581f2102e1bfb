"""The same models under other names: Hugging Face's ViT and DeiT, MIT-Han-Lab's EfficientViT-B.

Each gives a dict with timm's names, and the line that says so; None where the names are not of that kind.
"""

import re

import torch

from .tensors import check_kinds

State = dict[str, torch.Tensor]

_HF = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"layernorm\.", "norm."),
    (r"(cls_)?classifier\.", "head."),
    (r"distillation_classifier\.", "head_dist."),
)
_QKV = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")
_UNUSED = re.compile(r"embeddings\.mask_token|pooler\.")  # of pre-training: no image classifier has them

_MIT = (
    (r"input_stem\.op_list\.0\.", lambda m: "stem.in_conv."),
    (r"input_stem\.op_list\.(\d+)\.", lambda m: f"stem.res{int(m[1]) - 1}."),
    (r"stages\.(\d+)\.op_list\.(\d+)\.", lambda m: f"stages.{m[1]}.blocks.{m[2]}."),
    (r"head\.op_list\.0\.", lambda m: "head.in_conv."),
    (r"head\.op_list\.2\.linear\.", lambda m: "head.classifier.0."),
    (r"head\.op_list\.2\.norm\.", lambda m: "head.classifier.1."),
    (r"head\.op_list\.3\.linear\.", lambda m: "head.classifier.4."),
)


def _renamed(name: str, rules) -> str:
    for pattern, text in rules:
        if match := re.match(pattern, name):
            return (text(match) if callable(text) else match.expand(text)) + name[match.end() :]
    return name


def from_hugging_face(state: State, where: str, notes: list[str]) -> State | None:
    """``ViTForImageClassification``, ``DeiTForImageClassification``: query, key and value become one matrix."""
    bare = {re.sub(r"^(vit|deit)\.", "", name): value for name, value in state.items()}
    if not any(name.startswith("embeddings.patch_embeddings.projection.") for name in bare):
        return None
    out, parts = {}, {}
    for name, value in bare.items():
        if match := _QKV.fullmatch(name):
            parts.setdefault((match[1], match[3]), {})[match[2]] = value
        elif not _UNUSED.match(name):
            out[_renamed(name, _HF)] = value
    for (block, kind), three in parts.items():
        if missing := [n for n in ("query", "key", "value") if n not in three]:
            raise ValueError(f"{where}: encoder.layer.{block}.attention.attention.{missing[0]}.{kind} is missing")
        check_kinds({f"encoder.layer.{block}.attention.attention.{n}.{kind}": v for n, v in three.items()}, where)
        if len({(v.shape[1:], v.dtype) for v in three.values()}) > 1 or not three["query"].ndim:
            raise ValueError(f"{where}: query, key and value of encoder.layer.{block} must be of one width and type")
        out[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat([three[n] for n in ("query", "key", "value")])
    notes.append("checkpoint: Hugging Face's names, mapped to timm's")
    return out


def from_mit(state: State, where: str, notes: list[str]) -> State | None:
    """MIT-Han-Lab's EfficientViT-B: lists of operations instead of named blocks, the same order of layers."""
    bare = {name.removeprefix("backbone."): value for name, value in state.items()}
    if not any(name.startswith("input_stem.op_list.") for name in bare):
        return None
    notes.append("checkpoint: MIT-Han-Lab's names, mapped to timm's")
    return {_renamed(name, _MIT): value for name, value in bare.items()}


FAMILIES = (from_hugging_face, from_mit)
