"""A graph made from a model's shapes alone: zero weights, plausible constants. For estimates before any training."""

import numpy as np

from ...graph.ir import Graph, Node, Ref, Role, TensorInfo
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax


def shape_graph(
    depth: int, dim: int, heads: int, mlp: int, tokens: int, patch_k: int, classes: int, residual: str = "int12"
) -> Graph:
    """ViT of ``depth`` blocks; ``tokens`` with the class token, ``patch_k`` inputs a patch, ``mlp`` hidden channels."""
    if dim % heads:
        raise ValueError(f"model: heads = {heads} must divide the embedding of {dim} channels")
    nodes: list[Node] = []
    tensors = {"input": TensorInfo("input", tokens - 1, patch_k, "int8")}
    tensors["pos_embed"] = TensorInfo("pos_embed", tokens, dim, "int16")

    def tensor(name, channels, fmt="int8", t=tokens):
        tensors.setdefault(name, TensorInfo(name, t, channels, fmt))
        return Ref(name)

    def linear(name, role, x, n, k, fmt="int8", t=tokens, **more):
        zero = np.zeros(n, dtype=np.int64)
        nodes.append(Matmul(
            name=name, out=tensor(name, n, fmt, t), role=role, x=Ref(x), weight=np.zeros((n, k), dtype=np.int8),
            bias=zero, s1=zero + 8, eh=zero, er=zero, s2=zero, offset=zero, **more,
        ))  # fmt: skip

    def norm(name, role, x, t=tokens):
        zero = np.zeros(dim, dtype=np.int64)
        nodes.append(LayerNorm(
            name=name, out=tensor(name, dim, "int8", t), role=role, x=Ref(x), gamma=zero + 64, beta=zero,
            shift=zero + 10, a=zero,
        ))  # fmt: skip

    d = dim // heads
    linear("embed", Role("embed"), "input", dim, patch_k, residual, residual=Ref("pos_embed"), token_offset=-1)
    stream = "embed"
    for b in range(depth):
        p = f"blocks.{b}"
        norm(f"{p}.norm1", Role("norm1", b), stream)
        for h in range(heads):
            for part in "kvq":
                linear(f"{p}.attn.{part}.h{h}", Role(part, b, h), f"{p}.norm1", d, dim, narrow=part == "k")
            s = f"{p}.attn.scores.h{h}"
            nodes.append(Scores(
                name=s, out=tensor(s, tokens), role=Role("scores", b, h), q=Ref(f"{p}.attn.q.h{h}"),
                k=Ref(f"{p}.attn.k.h{h}"), s1=4, s2=4,
            ))  # fmt: skip
            m = f"{p}.attn.softmax.h{h}"
            nodes.append(Softmax(
                name=m, out=tensor(m, tokens, "code4"), role=Role("softmax", b, h), x=Ref(s), rule="maxrel", c=23, sc=4
            ))  # fmt: skip
            tensor(f"{p}.attn.attend", dim)
            nodes.append(Attend(
                name=f"{p}.attn.attend.h{h}", out=Ref(f"{p}.attn.attend", h * d, d), role=Role("attend", b, h),
                codes=Ref(m), v=Ref(f"{p}.attn.v.h{h}"), shift=7,
            ))  # fmt: skip
        linear(f"{p}.attn.proj", Role("attn.proj", b), f"{p}.attn.attend", dim, dim, residual, residual=Ref(stream))
        norm(f"{p}.norm2", Role("norm2", b), f"{p}.attn.proj")
        linear(f"{p}.mlp.fc1", Role("mlp.fc1", b), f"{p}.norm2", mlp, dim, act="gelu", gelu_exp=8)
        linear(f"{p}.mlp.fc2", Role("mlp.fc2", b), f"{p}.mlp.fc1", dim, mlp, residual, residual=Ref(f"{p}.attn.proj"))
        stream = f"{p}.mlp.fc2"
    norm("norm", Role("norm"), stream, 1)
    linear("head", Role("head"), "norm", classes, dim, "int12", 1)
    constants = {"pos_embed": np.zeros((tokens, dim), dtype=np.int64)}
    return Graph(nodes, tensors, constants, "input", "head", {"model": "shapes"})


#: (depth, dim, heads, mlp, tokens, patch_k, classes) of timm's names
SHAPES = {
    f"deit_{size}_patch16_224": (12, dim, heads, 4 * dim, 197, 768, 1000)
    for size, dim, heads in (("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12))
}
