"""A random EfficientViT whose tensors are alive, for tests and benches: made from numbers, no quantizer and no torch.

Nodes, names and tensors are the quantizer's.
"""

import numpy as np

from ...graph.ir import Graph, Node, Ref, Role, TensorInfo
from ...ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum

SPREAD = 24  #: standard deviation of int8 tensors
P_SPREAD = 300  #: of the 12-bit p
Q3 = 300  #: 3 in steps of p

#: (widths, depths, head_dim, head_widths) of timm's names
EFFICIENTVIT = {
    "efficientvit_b0": ((8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 16, (1024, 1280)),
    "efficientvit_b1": ((16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 16, (1536, 1600)),
    "efficientvit_b2": ((24, 48, 96, 192, 384), (1, 3, 4, 4, 6), 32, (2304, 2560)),
    "efficientvit_b3": ((32, 64, 128, 256, 512), (1, 4, 6, 6, 9), 32, (2304, 2560)),
}


def random_named(name: str, size: int = 224, classes: int = 1000, **more) -> Graph:
    """The graph of one of timm's networks for images of ``size`` pixels."""
    if name not in EFFICIENTVIT:
        raise ValueError(f"model {name!r} is unknown; EfficientViT's shapes are {', '.join(EFFICIENTVIT)}")
    widths, depths, dim, head = EFFICIENTVIT[name]
    return random_efficientvit(widths, depths, dim, head, size, classes, **more)


def random_efficientvit(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    head_dim: int,
    head_widths: tuple[int, int],
    size: int,
    classes: int,
    seed: int = 1,
    rule: str = "reciprocal",
    norm_input: str = "int12",
) -> Graph:
    """timm's EfficientVit: stem, two local stages, two stages with attention, head. ``size``: pixels of the image."""
    return _Maker(seed).network(widths, depths, head_dim, head_widths, size, classes, rule, norm_input)


_NONE = Role()


class _Maker:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.tensors: dict[str, TensorInfo] = {}
        self.block = -1

    def tensor(self, name: str, channels: int, h: int, w: int, fmt: str = "int8", zero: int = 0) -> str:
        self.tensors[name] = TensorInfo(name, max(h * w, 1), channels, fmt, None, zero, h, w)
        return name

    def dyadic(self, n: int, ratio: float) -> dict[str, np.ndarray]:
        """m1, s1 of about ``ratio``, differing by channel."""
        r = np.minimum(ratio * np.exp(self.rng.uniform(-0.3, 0.3, n)), 1.9)  # the machine shifts by 15 at least
        s1 = np.clip(15 - np.floor(np.log2(r)), 15, 46).astype(np.int32)
        return dict(m1=np.clip(np.round(r * 2.0**s1), 1, (1 << 16) - 1).astype(np.int32), s1=s1)

    def post(
        self, n: int, acc: float, act: str = "identity", wide: bool = False, residual: bool = False, zero: int = 0
    ):
        """Constants for accumulators of deviation ``acc``."""
        r = self.rng
        out = self.dyadic(n, P_SPREAD / acc)
        out |= {f: np.zeros(n, dtype=np.int32) for f in ("eh", "er", "s2")}
        out["offset"] = np.full(n, zero, dtype=np.int32)
        out["bias"] = np.round(r.normal(0, 0.3 * acc, n)).astype(np.int32)
        if act == "hardswish":
            out |= dict(act=act, q3=Q3, q6=2 * Q3, s2=(12 + r.integers(0, 2, n)).astype(np.int32))
        elif residual:
            even = r.integers(0, 2, n)
            out |= dict(er=(3 - even).astype(np.int32), eh=(r.integers(0, 2, n) * (1 - even)).astype(np.int32))
            out["s2"] = (3 + out["eh"] - even).astype(np.int32)
        elif not wide:
            out["s2"] = (3 + r.integers(0, 2, n)).astype(np.int32)
        return out

    def weight(self, n: int, k: int) -> np.ndarray:
        return self.rng.integers(-127, 128, (n, k)).astype(np.int8)

    def pointwise(
        self, name: str, x: str, n: int, act: str = "identity", residual: str | None = None, groups: int = 1,
        fmt: str = "int8", narrow: bool = False, zero: int = 0, spread: float = SPREAD, role: Role = _NONE,
    ) -> str:  # fmt: skip
        info = self.tensors[x]
        w = self.weight(n, info.channels // groups)
        post = self.post(n, 73 * spread * w.shape[1] ** 0.5, act, fmt != "int8", residual is not None, zero)
        post["bias"] = post["bias"] - info.zero_point * w.astype(np.int32).sum(1)
        self.tensor(name, n, info.height, info.width, fmt, zero)
        more = dict(residual=Ref(residual)) if residual else {}
        self.nodes.append(Matmul(
            name=name, out=Ref(name), role=role, x=Ref(x), weight=w, groups=groups, narrow=narrow, **more, **post
        ))  # fmt: skip
        return name

    def depthwise(
        self, name: str, x: str, kernel: int, stride: int = 1, act: str = "hardswish", role: Role = _NONE
    ) -> str:  # fmt: skip
        info = self.tensors[x]
        w = self.weight(info.channels, kernel**2)
        post = self.post(info.channels, 73 * SPREAD * kernel, act)
        post["bias"] = post["bias"] - info.zero_point * w.astype(np.int32).sum(1)
        h, wd = (info.height - 1) // stride + 1, (info.width - 1) // stride + 1
        self.tensor(name, info.channels, h, wd)
        self.nodes.append(Depthwise(
            name=name, out=Ref(name), role=role, x=Ref(x), weight=w, kernel=kernel, stride=stride, pad=info.zero_point,
            **post,
        ))  # fmt: skip
        return name

    def mbconv(self, name: str, x: str, n: int, stride: int = 1) -> str:
        """Pointwise to four times the channels, depthwise, pointwise."""
        self.block += 1
        role = lambda part: Role(part, self.block)  # noqa: E731
        wide = 4 * self.tensors[x].channels
        zero = int(self.rng.integers(-60, 1))
        y = self.pointwise(f"{name}.inverted_conv", x, wide, "hardswish", zero=zero, role=role("inverted_conv"))
        y = self.depthwise(f"{name}.depth_conv", y, 3, stride, role=role("depth_conv"))
        residual = x if stride == 1 and self.tensors[x].channels == n else None
        return self.pointwise(f"{name}.point_conv", y, n, residual=residual, role=role("point_conv"))

    def attention(self, name: str, x: str, dim: int, rule: str) -> str:
        self.block += 1
        role = lambda part, branch=None: Role(part, self.block, branch=branch)  # noqa: E731
        info = self.tensors[x]
        c, tokens = info.channels, info.tokens
        heads = c // dim
        qkv = self.pointwise(f"{name}.qkv", x, 3 * c, narrow=True, role=role("qkv"))
        five = self.depthwise(f"{name}.aggreg.0.0", qkv, 5, act="identity", role=role("aggreg.0", 1))
        six = self.pointwise(f"{name}.aggreg.0.1", five, 3 * c, groups=3 * heads, narrow=True, role=role("aggreg.1", 1))
        scales = [qkv, six]
        out = self.tensor(f"{name}.attend", 2 * c, info.height, info.width)
        zeros = {f: np.zeros(c, dtype=np.int32) for f in ("bias", "eh", "er", "s2", "offset")}
        for i, part in enumerate(scales):
            q, k, v = (Ref(part, j * c, c) for j in range(3))
            ksum, kv = f"{name}.ksum{i}", f"{name}.kv{i}"
            self.tensor(ksum, c, 0, 0)
            self.tensors[kv] = TensorInfo(kv, dim, c, "int8")
            near = dict(narrow=True, **zeros)
            self.nodes += [
                TokenSum(name=ksum, out=Ref(ksum), role=role("ksum", i), x=k, keys=True, **near,
                         **self.dyadic(c, 35 / (0.4 * SPREAD * tokens))),
                KeyValue(name=kv, out=Ref(kv), role=role("kv", i), k=k, v=v, heads=heads, **near,
                         **self.dyadic(c, 18 / (0.6 * SPREAD**2 * tokens**0.5))),
                LinearAttention(name=f"{out}{i}", out=Ref(out, i * c, c), role=role("attend", i), q=q, z=Ref(kv),
                                ksum=Ref(ksum), heads=heads, rule=rule, lo=4 if rule == "log2" else 0,
                                shift=self.rng.integers(0, 2, c).astype(np.int32) + 2),
            ]  # fmt: skip
        return self.pointwise(f"{name}.proj", out, c, residual=x, spread=40, role=role("proj"))

    def network(self, widths, depths, dim, head, size, classes, rule, norm_input) -> Graph:
        side = (size - 1) // 2 + 1
        self.tensor("input", 27, side, side)
        x = self.pointwise("stem.in_conv", "input", widths[0], "hardswish", spread=73, role=Role("stem"))
        for i in range(depths[0]):
            self.block += 1
            y = self.depthwise(f"stem.res{i}.depth_conv", x, 3, role=Role("depth_conv", self.block))
            role = Role("point_conv", self.block)
            x = self.pointwise(f"stem.res{i}.point_conv", y, widths[0], residual=x, role=role)
        for s, (width, depth) in enumerate(zip(widths[1:], depths[1:])):
            local = depth if s < 2 else 1
            for b in range(local):
                x = self.mbconv(
                    f"stages.{s}.blocks.{b}" + (".local_module" if s > 1 and b else ""), x, width, 2 - (b > 0)
                )
            for b in range(1, depth + 1) if s > 1 else ():
                x = self.attention(f"stages.{s}.blocks.{b}.context_module", x, dim, rule)
                x = self.mbconv(f"stages.{s}.blocks.{b}.local_module", x, width)
        x = self.pointwise("head.in_conv", x, head[0], "hardswish", role=Role("head.in_conv"))
        tokens = self.tensors[x].tokens
        zeros = {f: np.zeros(head[0], dtype=np.int32) for f in ("bias", "eh", "er", "s2", "offset")}
        self.tensor("head.pool", head[0], 0, 0)
        self.nodes.append(TokenSum(
            name="head.pool", out=Ref("head.pool"), role=Role("head.pool"), x=Ref(x), **zeros,
            **self.dyadic(head[0], 1.2 / tokens),
        ))  # fmt: skip
        wide = norm_input == "int12"
        x = self.pointwise(
            "head.classifier.0", "head.pool", head[1], fmt=norm_input, spread=50, role=Role("head.classifier.0")
        )
        r, n = self.rng, head[1]
        self.tensor("head.classifier.1", n, 0, 0)
        self.nodes.append(LayerNorm(
            name="head.classifier.1", out=Ref("head.classifier.1"), role=Role("head.classifier.1"), x=Ref(x),
            gamma=r.integers(20, 90, n).astype(np.int32), beta=r.integers(-9000, 9000, n).astype(np.int32),
            shift=np.full(n, 6, dtype=np.int32), act="hardswish", q3=Q3, q6=2 * Q3, s2=12, offset=-20 if wide else 0,
        ))  # fmt: skip
        self.pointwise(
            "head.classifier.4", "head.classifier.1", classes, fmt="int12", spread=50, role=Role("head.classifier.4")
        )
        return Graph(self.nodes, self.tensors, {}, "input", "head.classifier.4", {"model": "shapes"})
