"""Model files of older schemas as the present one describes them: arrays untouched, descriptions rewritten."""

import re

import numpy as np

Described = tuple[dict, dict[str, np.ndarray]]

#: names that the quantizers of schema 1 gave to nodes: they said there what ``role`` says now
_VIT = re.compile(
    r"(?:blocks\.(?P<block>\d+)\.(?:attn\.(?=[kvqsa]\w*\.h\d))?)?"
    r"(?P<part>embed|norm[12]?|head|attn\.proj|mlp\.fc[12]|k|v|q|scores|softmax|attend)(?:\.h(?P<head>\d+))?"
)
_EFFICIENTVIT = re.compile(
    r"(?P<where>.+)\.(?P<part>inverted_conv|depth_conv|point_conv|qkv|proj|aggreg|ksum|kv|attend)"
    r"(?:\.?(?P<branch>\d+)(?:\.(?P<layer>[01]))?)?"
)
_ENDS = {"stem.in_conv": "stem"} | {n: n for n in ("head.in_conv", "head.pool")}
_ENDS |= {f"head.classifier.{n}": f"head.classifier.{n}" for n in (0, 1, 4)}


class _Roles:
    """Roles from the names of one graph, in the order of its nodes; empty for names that no quantizer gave."""

    def __init__(self) -> None:
        self.blocks: list[str] = []  #: of an EfficientViT: blocks are numbered through

    def of(self, name: str) -> dict:
        if name in _ENDS:
            return {"part": _ENDS[name]}
        if found := _VIT.fullmatch(name):
            numbers = {k: int(found[k]) for k in ("block", "head") if found[k] is not None}
            return {"part": found["part"]} | numbers
        if found := _EFFICIENTVIT.fullmatch(name):
            if found["where"] not in self.blocks:
                self.blocks.append(found["where"])
            role = {"part": found["part"], "block": self.blocks.index(found["where"])}
            if found["layer"] is not None:  # aggreg.0.1: layer 1 of the first branch beside qkv itself
                return role | {"part": f"aggreg.{found['layer']}", "branch": 1 + int(found["branch"])}
            return role if found["branch"] is None else role | {"branch": int(found["branch"])}
        return {}


def _from_1(data: dict, arrays: dict[str, np.ndarray]) -> Described:
    """Schema 1 had twelve node types, without roles."""
    types: dict[str, tuple[str, dict]] = {
        "Linear": ("matmul", {}), "Pointwise": ("matmul", {}), "LayerNorm": ("layernorm", {}),
        "NormAct": ("layernorm", {"act": "hardswish"}), "KeySum": ("token_sum", {"keys": True}),
        "Pool": ("token_sum", {"keys": False}), "Scores": ("scores", {}), "Softmax": ("softmax", {}),
        "Attend": ("attend", {}), "Depthwise": ("depthwise", {}), "KeyValue": ("key_value", {}),
        "LinearAttend": ("linear_attention", {}),
    }  # fmt: skip
    nodes, roles = [], _Roles()
    for old in data["nodes"]:
        fields = {k: v for k, v in old.items() if k != "type"}
        name, more = types[old["type"]]
        nodes.append({"op": name, "role": roles.of(old["name"]), **fields, **more})
    return data | {"schema": "vitforge-graph-2", "nodes": nodes}, arrays


UPGRADES = {"vitforge-graph-1": _from_1}
