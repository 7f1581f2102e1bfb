"""The integer graph seen as a ViT: its layers by role, and the rules that the machine sets for their shapes."""

import dataclasses
from typing import TypeVar

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import FORMATS, Graph, Node, TensorInfo
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax

_TYPES: dict[str, type[Node]] = {
    "embed": Matmul, "norm": LayerNorm, "head": Matmul, "norm1": LayerNorm, "norm2": LayerNorm, "attn.proj": Matmul,
    "mlp.fc1": Matmul, "mlp.fc2": Matmul, "k": Matmul, "v": Matmul, "q": Matmul, "scores": Scores, "softmax": Softmax,
    "attend": Attend, "q_norm": LayerNorm, "k_norm": LayerNorm, "pool.softmax": Softmax, "pool.attend": Attend,
    "head_dist": Matmul,
}  # fmt: skip


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


Key = tuple[str, int | None, int | None]  #: role, block, head
N = TypeVar("N", bound=Node)


@dataclasses.dataclass
class Network:
    """Nodes by (role, block, head), and the sizes that they share."""

    graph: Graph
    nodes: dict[Key, Node]
    blocks: int
    heads: int
    tokens: int
    dim: int
    head_dim: int

    def node(self, kind: type[N], role: str, block: int | None = None, head: int | None = None) -> N:
        """The node of a role, whose operation is ``kind``."""
        node = self.nodes[(role, block, head)]
        assert isinstance(node, kind), (node.name, kind)
        return node

    def optional(self, kind: type[N], role: str, block: int | None = None, head: int | None = None) -> N | None:
        """A node that not every ViT has: q_norm, k_norm, head_dist."""
        return self.node(kind, role, block, head) if (role, block, head) in self.nodes else None

    def keys(self, block: int, head: int) -> Matmul | LayerNorm:
        """The node whose output the key loader copies."""
        return self.optional(LayerNorm, "k_norm", block, head) or self.node(Matmul, "k", block, head)

    @property
    def pools(self) -> int:
        """Parts of the average over tokens that stands before the classifier; 0: the class token is read."""
        return sum(role == "pool.attend" for role, _, _ in self.nodes)

    def tensor(self, name: str) -> TensorInfo:
        return self.graph.tensors[name]

    def planes(self, name: str) -> int:
        return FORMATS[self.tensor(name).fmt][2]


def analyse(graph: Graph, config: AcceleratorConfig) -> Network:
    """Find the layers of a ViT in the graph and check them against the preset; ValueError: what does not fit."""
    if not config.attention:
        raise ValueError(f"model: ViT needs a preset with attention (softmax, shifter array), not {config.name}")
    nodes: dict[Key, Node] = {}
    for node in graph.nodes:
        part = node.role.part
        key = part, node.role.block, node.role.head
        if part not in _TYPES:
            raise ValueError(f"layer {node.name!r} is none that the compiler places (role {part!r})")
        if not isinstance(node, _TYPES[part]):
            raise ValueError(f"layer {node.name}: must be {_TYPES[part].__name__}, not {type(node).__name__}")
        if key in nodes:
            raise ValueError(f"layer {node.name} occurs twice")
        nodes[key] = node
    blocks = 1 + max((k[1] for k in nodes if k[1] is not None), default=-1)
    heads = 1 + max((k[2] for k in nodes if k[2] is not None), default=-1)
    wanted: set[Key] = {(r, None, None) for r in ("embed", "norm", "head")}
    for b in range(blocks):
        wanted |= {(r, b, None) for r in ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2")}
        wanted |= {(r, b, h) for r in ("k", "v", "q", "scores", "softmax", "attend") for h in range(heads)}
    if missing := wanted - set(nodes):
        role, block, head = sorted(missing, key=str)[0]
        raise ValueError(f"model: layer {role} of block {block}, head {head} is missing")
    embed = graph.tensors[nodes[("embed", None, None)].out.name]
    head_dim = graph.tensors[nodes[("q", 0, 0)].out.name].channels if blocks else 0
    net = Network(graph, nodes, blocks, heads, embed.tokens, embed.channels, head_dim)
    _check(net, config)
    return net


def _check(net: Network, config: AcceleratorConfig) -> None:
    def need(ok: bool, text: str) -> None:
        if not ok:
            raise ValueError(f"{text} (preset {config.name})")

    word = config.word
    need(net.tokens <= config.max_tokens, f"model: at most max_tokens = {config.max_tokens} tokens, not {net.tokens}")
    need(net.dim <= config.max_channels, f"model: at most max_channels = {config.max_channels} channels, not {net.dim}")
    need(net.dim % word == 0, f"model: embedding must be a multiple of word = {word}, not {net.dim}")
    need(net.head_dim % word == 0, f"model: head dimension must be a multiple of word = {word}, not {net.head_dim}")
    entry = cdiv(net.tokens, config.attend_keys)
    need(
        entry <= config.code_rows,
        f"softmax: one row of {entry} code words must fit code_rows = {config.code_rows}",
    )
    for node in net.graph.nodes:
        if isinstance(node, Matmul):
            k = node.weight.shape[1]
            need(node.groups == 1, f"layer {node.name}: a ViT's layers have one group, not {node.groups}")
            need(k <= config.max_k, f"layer {node.name}: K must be at most max_k = {config.max_k}, not {k}")
            offset = node.token_offset
            shifted = offset == 0 or node.role.part in ("embed", "head_dist")
            need(shifted, f"layer {node.name}: token offset must be 0, not {offset}")
            if node.residual is not None and node.residual.name in net.graph.constants:
                need(node.role.part == "embed", f"layer {node.name}: only embed can add a constant tensor")
