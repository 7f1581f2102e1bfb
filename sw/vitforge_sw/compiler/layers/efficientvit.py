"""The integer graph of an EfficientViT as layers of the hybrid machine, and the rules that the preset sets for them.

A layer's *rows* are what its instructions count: rows of its output map (heads for K^T V, one for sums and LayerNorm).
Costs are the engine's own steps, docs/hybrid.md.
"""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import FORMATS, Graph, Node, Ref, TensorInfo
from ...ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum
from .batch import carried, whole_layers
from .vit import cdiv


@dataclasses.dataclass(frozen=True)
class Shape:
    """A tensor in the activation buffer: ``rows`` map rows of ``groups`` token groups of ``stride`` buffer rows."""

    rows: int
    groups: int
    stride: int
    planes: int
    height: int
    width: int
    blocks: int  #: words per token

    @property
    def size(self) -> int:
        return self.rows * self.groups * self.stride

    @classmethod
    def of(cls, info: TensorInfo, config: AcceleratorConfig) -> "Shape":
        if not info.height and info.tokens != 1:
            raise ValueError(f"tensor {info.name}: needs height and width, or one token, not {info.tokens} tokens")
        height, width = info.height or 1, info.width or 1
        planes, blocks = FORMATS[info.fmt][2], cdiv(info.channels, config.word)
        return cls(height, cdiv(width, config.cores), blocks * planes, planes, height, width, blocks)


@dataclasses.dataclass
class Layer:
    """A node with its place in the program.

    ``cycles``: of a row with all tiles on an engine; ``tiles``: of a pointwise layer, else 0; ``steps``: weight rows of
    a tile; ``fill``: cycles until the window buffer holds what an instruction's first row needs; ``needs``: (tensor,
    stride, more): row r needs its first min(all, r * stride + more) rows, all where stride is negative.
    """

    number: int
    node: Node
    rows: int
    groups: int
    cycles: int
    tiles: int = 0
    ksteps: int = 0
    gtiles: int = 0
    in_words: int = 0
    steps: int = 0
    fill: int = 0
    needs: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)

    name = property(lambda s: s.node.name)
    shared = property(lambda s: isinstance(s.node, Matmul), doc="both engines can take its rows")

    def needed(self, row: int) -> list[tuple[str, int]]:
        """(tensor, rows of it that row ``row`` needs; -1: all)."""
        return [(t, -1 if stride < 0 else row * stride + more) for t, stride, more in self.needs]


@dataclasses.dataclass
class MapNetwork:
    """``layers`` in execution order; ``shapes`` of the tensors in the activation buffer (Z and Ksum are not);
    ``writers``: tensor -> its layers; ``beside``: numbers of the deferred classifier's layers."""

    graph: Graph
    layers: list[Layer]
    shapes: dict[str, Shape]
    writers: dict[str, list[Layer]]
    beside: list[int] = dataclasses.field(default_factory=list)

    def tensor(self, name: str) -> TensorInfo:
        return self.graph.tensors[name]

    def words(self, number: int, rows: int, tiles: int) -> dict[str, float]:
        """Words of each tensor that an engine reads for ``rows`` rows and ``tiles`` tiles of a layer."""
        layer = self.layers[number]
        node, groups = layer.node, layer.groups * rows
        if isinstance(node, LinearAttention):
            return {node.q.name: groups * layer.in_words}
        if isinstance(node, Matmul):
            read: dict[str, float] = {node.x.name: groups * (layer.in_words or layer.ksteps)}
            if node.residual is not None:
                read[node.residual.name] = groups * tiles
            return read
        if isinstance(node, KeyValue):
            return {node.k.name: rows * layer.fill}
        if isinstance(node, Depthwise):
            x = self.shapes[node.x.name]
            return {node.x.name: rows * x.groups * x.blocks * node.stride}
        return {r.name: rows * layer.cycles for r in node.inputs if r.name in self.shapes}

    def count(self, ref: Ref) -> int:
        """Channels of a reference."""
        return self.graph.channels(ref)


KINDS = (Matmul, Depthwise, TokenSum, KeyValue, LinearAttention, LayerNorm)  #: operations of the family


def analyse_maps(graph: Graph, config: AcceleratorConfig, defer: bool = False) -> MapNetwork:
    """Layers of an EfficientViT (``defer``: of an unrolled one with a deferred classifier), checked against the preset;
    ValueError: what does not fit."""
    if not config.trio:
        raise ValueError(f"model: EfficientViT needs a preset with trio (R-MAC engine), not {config.name}")
    for node in graph.nodes:
        if type(node) not in KINDS:
            raise ValueError(f"layer {node.name}: {type(node).__name__} is none of the EfficientViT family")
        if reason := node.software_only():
            raise ValueError(f"layer {reason}")
    private = {n.out.name for n in graph.nodes if isinstance(n, KeyValue) or isinstance(n, TokenSum) and n.keys}
    read = {r.name for n in graph.nodes for r in n.inputs}
    for node in graph.nodes:
        if node.out.name not in read and node.out.name != graph.output:
            raise ValueError(f"layer {node.name}: nothing reads its output")
    names = [n for n in graph.tensors if n not in private]
    net = MapNetwork(graph, [], {n: Shape.of(graph.tensors[n], config) for n in names}, {})
    checks = Checks(net, config)
    for node in graph.nodes:
        net.layers.append(checks.layer(node))
        net.writers.setdefault(node.out.name, []).append(net.layers[-1])
    if defer:
        late, before = whole_layers(graph), carried(graph)
        net.beside = [layer.number for layer in net.layers if layer.name in late]
        for number in net.beside:
            net.layers[number].needs = [n for n in net.layers[number].needs if n[0] not in before]
    out = net.shapes[graph.output]
    checks.need(out.rows * out.groups == 1, f"output {graph.output}: must have one token, not {out.height * out.width}")
    return net


class Checks:
    """A node to its layer; ValueError names the rule that it breaks."""

    def __init__(self, net: MapNetwork, config: AcceleratorConfig):
        self.net, self.c = net, config
        self.half = config.word // config.width

    def need(self, ok: bool, text: str) -> None:
        if not ok:
            raise ValueError(f"{text} (preset {self.c.name})")

    def words(self, where: str, what: str, channels: int) -> int:
        self.need(channels % self.c.word == 0, f"layer {where}: {what} must be a multiple of word = {self.c.word}, "
                  f"not {channels}")  # fmt: skip
        return channels // self.c.word

    def slice(self, node: Node, ref: Ref) -> None:
        """Slices begin and end at words."""
        whole = self.net.graph.tensors[ref.name].channels
        if (ref.start, self.net.count(ref)) != (0, whole):
            self.words(node.name, f"first channel in {ref.name}", ref.start)
            self.words(node.name, f"channels in {ref.name}", self.net.count(ref))

    def layer(self, node: Node) -> Layer:
        for ref in (*node.inputs, node.out):
            self.slice(node, ref)
        number = len(self.net.layers)
        match node:
            case Matmul():
                return self.pointwise(node, number)
            case Depthwise():
                return self.depthwise(node, number)
            case TokenSum():
                return self.total(node, number)
            case KeyValue():
                return self.key_value(node, number)
            case LinearAttention():
                return self.attend(node, number)
            case LayerNorm():
                return self.norm(node, number)
        raise ValueError(f"layer {node.name}: {type(node).__name__} is none of the EfficientViT family")

    def _matrix(self, node: Matmul | LinearAttention, number: int, x: Ref, n: int, k: int, groups: int) -> Layer:
        """A pointwise layer of n outputs from k inputs in ``groups`` parts."""
        c, shape = self.c, self.net.shapes[node.out.name]
        self.need(k <= c.max_k, f"layer {node.name}: K must be at most max_k = {c.max_k}, not {k}")
        if groups > 1:
            self.words(node.name, "inputs of a group", k // groups)
            self.words(node.name, "outputs of a group", n // groups)
        ksteps, tiles = cdiv(k // groups, c.word), cdiv(n, c.lanes)
        gtiles = tiles // groups if groups > 1 else 0
        self.need(gtiles <= 15, f"layer {node.name}: outputs of a group must be at most 15 words, not {gtiles}")
        steps = ksteps * self.half
        cycles = shape.groups * tiles * max(steps, c.word // c.post_channels)
        return Layer(number, node, shape.rows, shape.groups, cycles, tiles, ksteps, gtiles,
                     cdiv(k, c.word) if groups > 1 else 0, steps, needs=[(x.name, 1, 1)])  # fmt: skip

    def pointwise(self, node: Matmul, number: int) -> Layer:
        n, k = len(node.weight), self.net.count(node.x)
        out = self._matrix(node, number, node.x, n, k, node.groups)
        if node.residual is not None:
            out.needs.append((node.residual.name, 1, 1))
        return out

    def attend(self, node: LinearAttention, number: int) -> Layer:
        n = self.net.count(node.q)
        out = self._matrix(node, number, node.q, n, n, node.heads)
        if node.heads == 1:
            self.words(node.name, "head dimension", n)
            out.gtiles, out.in_words = out.tiles, out.ksteps
        out.needs += [(node.z.name, -1, 0), (node.ksum.name, -1, 0)]
        return out

    def depthwise(self, node: Depthwise, number: int) -> Layer:
        c, x, y = self.c, self.net.shapes[node.x.name], self.net.shapes[node.out.name]
        sets, slots = cdiv(y.blocks, c.width), c.width
        rows = window_stride(node, x, c)
        wanted = rows * (node.kernel + node.stride)
        self.need(wanted <= c.window_rows, f"layer {node.name}: {node.kernel + node.stride} map rows of {rows} words "
                  f"need {wanted} rows of the window buffer, window_rows = {c.window_rows}")  # fmt: skip
        narrow = y.blocks == 1 and node.stride == 1
        turns = cdiv(y.groups, slots) if narrow else y.groups * sets
        taps = turns * node.kernel**2 * (c.tap_cycles if node.stride == 2 else 1)
        reads = x.groups * cdiv(x.blocks, c.pool_words)  # of a map row
        cycles = max(taps, reads * node.stride, y.groups * y.blocks * c.word // c.post_channels)
        more = node.kernel // 2 + 1
        needs = [(node.x.name, node.stride, more)]
        return Layer(number, node, y.rows, y.groups, cycles, fill=more * reads, needs=needs)

    def total(self, node: TokenSum, number: int) -> Layer:
        x = self.net.shapes[node.x.name]
        blocks = self.words(node.name, "channels", self.net.count(node.x))
        if node.keys:
            self.need(blocks <= self.c.ksum_rows, f"layer {node.name}: Ksum of {blocks} words must fit ksum_rows = "
                      f"{self.c.ksum_rows}")  # fmt: skip
        return Layer(number, node, 1, 1, x.rows * x.groups * blocks, needs=[(node.x.name, -1, 0)])

    def key_value(self, node: KeyValue, number: int) -> Layer:
        c, x = self.c, self.net.shapes[node.k.name]
        self.need(node.v.name == node.k.name, f"layer {node.name}: k and v must lie in one tensor")
        dim = self.net.count(node.k) // node.heads
        blocks = self.words(node.name, "head dimension", dim)
        groups = x.rows * x.groups
        limit = c.window_rows // 2
        self.need(groups <= limit, f"layer {node.name}: at most window_rows / 2 = {limit} token groups, not {groups}")
        passes = blocks * blocks * self.half
        words = 2 * blocks * groups
        cycles = max(words, passes * max(groups, c.width * c.word // c.post_channels))
        return Layer(number, node, node.heads, 1, cycles, fill=words, needs=[(node.k.name, -1, 0)])

    def norm(self, node: LayerNorm, number: int) -> Layer:
        c, x = self.c, self.net.shapes[node.x.name]
        channels = self.net.count(node.x)
        blocks = self.words(node.name, "channels", channels)
        self.need(channels <= c.max_channels, f"layer {node.name}: at most max_channels = {c.max_channels} channels, "
                  f"not {channels}")  # fmt: skip
        return Layer(number, node, x.rows, x.groups, 2 * blocks * x.planes * x.groups + 60, needs=[(node.x.name, 1, 1)])


def window_stride(node: Depthwise, x: Shape, config: AcceleratorConfig) -> int:
    """Rows of the window buffer that hold one row of the input map."""
    if x.blocks == 1 and node.stride == 1:
        return cdiv(x.groups, config.width)
    return x.groups * cdiv(x.blocks, config.width)
