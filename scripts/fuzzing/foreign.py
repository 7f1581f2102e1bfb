"""timm's weights under the names of other libraries."""

import re

import torch

State = dict[str, torch.Tensor]

_HF = (
    (r"cls_token", "embeddings.cls_token"),
    (r"dist_token", "embeddings.distillation_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"norm\.", "layernorm."),
)
_MIT = (
    (r"stem\.in_conv\.", "input_stem.op_list.0."),
    (r"stem\.res0\.", "input_stem.op_list.1."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.op_list.\2."),
    (r"head\.in_conv\.", "head.op_list.0."),
    (r"head\.classifier\.0\.", "head.op_list.2.linear."),
    (r"head\.classifier\.1\.", "head.op_list.2.norm."),
    (r"head\.classifier\.4\.", "head.op_list.3.linear."),
)


def _renamed(name: str, rules: tuple) -> str:
    for pattern, there in rules:
        new, hits = re.subn(f"^{pattern}", there, name)
        if hits:
            return new
    return name


def hugging_face(state: State, family: str = "vit") -> State:
    """``ViTForImageClassification``, ``DeiTForImageClassification``: query, key and value apart."""
    out = {}
    for name, value in state.items():
        if found := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[f"{family}.encoder.layer.{found[1]}.attention.attention.{part}.{found[2]}"] = piece.clone()
        elif name.startswith("head"):
            out[name.replace("head_dist.", "distillation_classifier.").replace("head.", "classifier.")] = value
        else:
            out[f"{family}.{_renamed(name, _HF)}"] = value
    return out


def mit(state: State) -> State:
    """MIT-Han-Lab's EfficientViT-B."""
    new = {name: _renamed(name, _MIT) for name in state}
    return {n if n.startswith("head.") else f"backbone.{n}": state[name] for name, n in new.items()}
