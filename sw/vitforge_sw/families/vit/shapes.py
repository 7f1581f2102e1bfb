"""A graph made from a model's shapes alone: zero weights, plausible constants. For estimates before any training."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ...graph.ir import Graph, Node, Ref, Role, TensorInfo
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax

if TYPE_CHECKING:
    from .frontend import FloatViT


def shape_graph(
    depth: int, dim: int, heads: int, mlp: int, tokens: int, patch_k: int, classes: int, residual: str = "int12",
    *, prefix: int = 1, act: str = "gelu", norms: tuple[str, ...] = (), pool: str = "token", distilled: bool = False,
) -> Graph:  # fmt: skip
    """ViT of ``depth`` blocks; ``tokens`` with the ``prefix`` ones, ``patch_k`` inputs a patch, ``mlp`` hidden ones.

    ``norms``: which of q, k have a LayerNorm; ``pool``, ``distilled``: see FloatViT.
    """
    if dim % heads:
        raise ValueError(f"model: heads = {heads} must divide the embedding of {dim} channels")
    nodes: list[Node] = []
    tensors = {"input": TensorInfo("input", tokens - prefix, patch_k, "int8")}
    tensors["pos_embed"] = TensorInfo("pos_embed", tokens, dim, "int16")

    def tensor(name, channels, fmt="int8", t=tokens):
        tensors.setdefault(name, TensorInfo(name, t, channels, fmt))
        return Ref(name)

    def linear(name, role, x, n, k, fmt="int8", t=tokens, **more):
        zero = np.zeros(n, dtype=np.int64)
        nodes.append(Matmul(
            name=name, out=tensor(name, n, fmt, t), role=role, x=Ref(x), weight=np.zeros((n, k), dtype=np.int8),
            **(dict(bias=zero, s1=zero + 8, eh=zero, er=zero, s2=zero, offset=zero) | more),
        ))  # fmt: skip

    def norm(name, role, x, t=tokens, n=dim, shift=10):
        zero = np.zeros(n, dtype=np.int64)
        nodes.append(LayerNorm(
            name=name, out=tensor(name, n, "int8", t), role=role, x=Ref(x), gamma=zero + 64, beta=zero,
            shift=zero + shift, a=zero,
        ))  # fmt: skip

    d = dim // heads
    hidden = dict(offset=np.full(mlp, -128)) if act == "relu" else dict(gelu_exp=8)
    linear("embed", Role("embed"), "input", dim, patch_k, residual, residual=Ref("pos_embed"), token_offset=-prefix)
    stream = "embed"
    for b in range(depth):
        p = f"blocks.{b}"
        norm(f"{p}.norm1", Role("norm1", b), stream)
        for h in range(heads):
            for part in "kvq":
                normed, name = part in norms, f"{p}.attn.{part}.h{h}"
                fmt, narrow = "int12" if normed else "int8", part == "k" and not normed
                linear(name, Role(part, b, h), f"{p}.norm1", d, dim, fmt, narrow=narrow)
                if normed:  # a shift at which keys cannot reach -128
                    norm(f"{p}.attn.{part}_norm.h{h}", Role(f"{part}_norm", b, h), name, n=d, shift=13)
            q, k = (Ref(f"{p}.attn.{part}{'_norm' if part in norms else ''}.h{h}") for part in "qk")
            s = f"{p}.attn.scores.h{h}"
            nodes.append(Scores(
                name=s, out=tensor(s, tokens), role=Role("scores", b, h), q=q, k=k, s1=4, s2=4,
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
        linear(f"{p}.mlp.fc1", Role("mlp.fc1", b), f"{p}.norm2", mlp, dim, act=act, **hidden)
        fmt = "int8" if pool == "before" and b == depth - 1 else residual
        linear(f"{p}.mlp.fc2", Role("mlp.fc2", b), f"{p}.mlp.fc1", dim, mlp, fmt, residual=Ref(f"{p}.attn.proj"))
        stream = f"{p}.mlp.fc2"
    constants = {"pos_embed": np.zeros((tokens, dim), dtype=np.int64)}
    if pool == "behind":
        norm("norm", Role("norm"), stream)
        stream = "norm"
    if pool != "token":
        row = np.zeros((1, tokens), np.int64)
        row[:, :prefix] = -128
        constants["pool.scores"], tensors["pool.scores"] = row, TensorInfo("pool.scores", 1, tokens, "int8")
        tensors["pool"] = TensorInfo("pool", 1, dim, "int8")
        for h in range(heads):
            codes = f"pool.softmax.h{h}"
            nodes.append(Softmax(
                name=codes, out=tensor(codes, tokens, "code4", 1), role=Role("pool.softmax", head=h),
                x=Ref("pool.scores"), rule="maxrel", c=1023, sc=0,
            ))  # fmt: skip
            nodes.append(Attend(
                name=f"pool.attend.h{h}", out=Ref("pool", h * d, d), role=Role("pool.attend", head=h),
                codes=Ref(codes), v=Ref(stream, h * d, d), rule="maxrel", shift=7,
            ))  # fmt: skip
        stream = "pool"
    if pool != "behind":
        norm("norm", Role("norm"), stream, 2 if distilled else 1)
        stream = "norm"
    if distilled:
        linear("head_dist", Role("head_dist"), stream, classes, dim, "int12", 1, token_offset=1)
    both = dict(residual=Ref("head_dist")) if distilled else {}
    linear("head", Role("head"), stream, classes, dim, "int12", 1, **both)
    return Graph(nodes, tensors, constants, "input", "head", {"model": "shapes"})


def shapes_of(vit: "FloatViT") -> Graph:
    """The graph of a float description's shapes."""
    first = vit.blocks[0]
    norms = tuple(p for p in "qk" if getattr(first, f"{p}_norm") is not None)
    return shape_graph(
        len(vit.blocks), vit.channels, first.heads, first.fc1.weight.shape[0], vit.tokens, vit.embed.weight.shape[1],
        vit.head.weight.shape[0], prefix=vit.prefix, act=first.act, norms=norms, pool=vit.pool,
        distilled=vit.head_dist is not None,
    )  # fmt: skip


def shortened(graph: Graph, depth: int) -> Graph:
    """A ViT's ``graph`` with at most ``depth`` (>= 2) blocks: the first ones and, renumbered, the last."""
    last = max((node.role.block for node in graph.nodes if node.role.block is not None), default=-1)
    if last < depth:
        return graph
    gone = range(depth - 1, last)

    def renamed(name: str) -> str:
        """The last block reads what the last of the first ones writes."""
        moved = name.replace(f"blocks.{last - 1}.", f"blocks.{depth - 2}.")
        return moved.replace(f"blocks.{last}.", f"blocks.{depth - 1}.")

    def joined(node: Node) -> Node:
        refs = {name: getattr(node, name, None) for name in (*node.READS, "residual", "out")}
        moved = {n: dataclasses.replace(ref, name=renamed(ref.name)) for n, ref in refs.items() if ref is not None}
        role = dataclasses.replace(node.role, block=depth - 1) if node.role.block == last else node.role
        return dataclasses.replace(node, name=renamed(node.name), role=role, **moved)

    dropped = tuple(f"blocks.{b}." for b in gone)
    tensors = [
        dataclasses.replace(t, name=renamed(t.name)) for t in graph.tensors.values() if not t.name.startswith(dropped)
    ]
    nodes = [joined(node) for node in graph.nodes if node.role.block not in gone]
    return dataclasses.replace(graph, nodes=nodes, tensors={t.name: t for t in tensors})


#: (depth, dim, heads, mlp, tokens, patch_k, classes) of timm's names
SHAPES = {
    f"deit_{size}_patch16_224": (12, dim, heads, 4 * dim, 197, 768, 1000)
    for size, dim, heads in (("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12))
}
