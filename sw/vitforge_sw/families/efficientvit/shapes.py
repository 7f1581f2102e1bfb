"""A graph made from an EfficientViT's shapes alone: zero weights, plausible constants. For estimates of cycles."""

import numpy as np

from vitforge_hw.arch.arith import conv_size

from ...graph.ir import Graph, Ref, Role, TensorInfo
from ...ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum
from .frontend import Conv, FloatEfficientViT, LiteMLA

_HARDSWISH = dict(act="hardswish", q3=768, q6=1536)


class _Shapes:
    """The graph under construction; ``tensor``, ``size``: the present feature map."""

    def __init__(self, net: FloatEfficientViT, side: int):
        channels = net.stem.weight.shape[1]
        self.net, self.tensor, self.size = net, "input", side
        self.nodes: list = []
        self.tensors = {"input": TensorInfo("input", side * side, channels, "int8", height=side, width=side)}

    def ref(self, name: str, channels: int, fmt: str = "int8", tokens: int = 0) -> Ref:
        """A new tensor: a feature map of the present size, or ``tokens`` tokens."""
        s = 0 if tokens else self.size
        self.tensors[name] = TensorInfo(name, tokens or s * s, channels, fmt, height=s, width=s)
        return Ref(name)

    @staticmethod
    def post(n: int, **more) -> dict:
        zero = np.zeros(n, np.int32)
        return dict(bias=zero, m1=zero + 1, s1=zero + 8, eh=zero, er=zero, s2=zero + 1, offset=zero) | more

    def conv(self, c: Conv, residual: str | None = None, fmt: str = "int8", tokens: int = 0, **more):
        """Pointwise or depthwise layer on the present tensor."""
        n = len(c.weight)
        more |= self.post(n) | (_HARDSWISH if c.hardswish else {})
        fields = dict(
            name=c.name, role=c.role, x=Ref(self.tensor), weight=np.zeros(tuple(c.weight.shape), np.int8), **more
        )
        if c.depthwise:
            self.size = conv_size(self.size, c.stride)
            node = Depthwise(out=self.ref(c.name, n), kernel=c.kernel, stride=c.stride, **fields)
        else:
            fields["residual"] = Ref(residual) if residual else None
            node = Matmul(out=self.ref(c.name, n, fmt, tokens), groups=c.groups, **fields)
        self.nodes.append(node)
        self.tensor = c.name

    def attention(self, block: LiteMLA):
        """Branches, Z, Ksum and attention of each into a slice of one tensor."""
        c, heads, name = block.channels, block.heads, block.name
        before = self.tensor
        self.conv(block.qkv, narrow=True)
        parts = [self.tensor]
        for depth, point in block.branches:
            self.tensor = parts[0]
            self.conv(depth)
            self.conv(point, narrow=True)
            parts.append(self.tensor)
        attended = f"{name}.attend"
        self.ref(attended, c * len(parts))
        for i, part in enumerate(parts):
            role = lambda name, i=i: Role(name, block.qkv.role.block, branch=i)  # noqa: E731
            q, k, v = (Ref(part, j * c, c) for j in range(3))
            ksum = self.ref(f"{name}.ksum{i}", c, tokens=1)
            z = self.ref(f"{name}.kv{i}", c, tokens=c // heads)
            self.nodes += [
                TokenSum(name=ksum.name, out=ksum, role=role("ksum"), x=k, keys=True, narrow=True, **self.post(c)),
                KeyValue(name=z.name, out=z, role=role("kv"), k=k, v=v, heads=heads, narrow=True, **self.post(c)),
                LinearAttention(name=f"{attended}{i}", out=Ref(attended, i * c, c), role=role("attend"), q=q, z=z,
                                ksum=ksum, heads=heads, shift=np.full(c, 8, np.int32)),
            ]  # fmt: skip
        self.tensor = attended
        self.conv(block.proj, before if block.residual else None)

    def head(self):
        head = self.net.head
        self.conv(head.conv)
        n = len(head.conv.weight)
        pooled = self.ref("head.pool", n, tokens=1)
        self.nodes.append(TokenSum(
            name=pooled.name, out=pooled, role=Role("head.pool"), x=Ref(self.tensor), **self.post(n)
        ))  # fmt: skip
        self.tensor = pooled.name
        self.conv(
            Conv("head.classifier.0", head.fc.weight, head.fc.bias, role=Role("head.classifier.0")),
            fmt="int12",
            tokens=1,
        )
        n = len(head.fc.weight)
        zero = np.zeros(n, np.int32)
        norm = self.ref("head.classifier.1", n, tokens=1)
        self.nodes.append(LayerNorm(
            name=norm.name, out=norm, role=Role("head.classifier.1"), x=Ref(self.tensor), gamma=zero + 64, beta=zero,
            shift=zero + 10, act="hardswish", q3=768, q6=1536, s2=10,
        ))  # fmt: skip
        self.tensor = norm.name
        self.conv(
            Conv("head.classifier.4", head.out.weight, head.out.bias, role=Role("head.classifier.4")),
            fmt="int12",
            tokens=1,
        )


def efficientvit_shapes(net: FloatEfficientViT, side: int) -> Graph:
    """``net`` for inputs of ``side`` x ``side`` windows (half the image)."""
    s = _Shapes(net, side)
    s.conv(net.stem)
    for block in net.blocks:
        if isinstance(block, LiteMLA):
            s.attention(block)
            continue
        before = s.tensor if block.residual else None
        for layer in block.layers:
            s.conv(layer, before if layer is block.layers[-1] else None)
    s.head()
    return Graph(s.nodes, s.tensors, {}, "input", s.tensor, {"model": "shapes"})
