"""Integer models: every operation in a graph of its own, small whole networks, both with something odd about them.

Numbers, words and arrays are changed, references point to other tensors or to new constants of any shape and format,
nodes change places; then the content hash is made again.
"""

import contextlib
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from vitforge_hw.arch import config
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.graph.ir import FORMATS, Graph, Node, Ref, TensorInfo
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.graph.serialize import _hash, _split, graph_hash, load_graph, save_graph
from vitforge_sw.ops import Attend, KeyValue, LayerNorm, LinearAttention, Matmul, Scores, Softmax

from .changes import array, changed, scribbled

PAST = 0.93  #: of the inputs, whose hashes are made again
_WORDS = ["int8", "int12", "int16", "code4", "log2", "maxrel", "gelu", "relu", "hardswish", "identity", "exact",
          "embed", "reciprocal", "matmul", "attend", "vitforge-graph-1"]  # fmt: skip
_OLD = {
    "matmul": "Linear",
    "layernorm": "LayerNorm",
    "token_sum": "Pool",
    "scores": "Scores",
    "softmax": "Softmax",
    "attend": "Attend",
    "depthwise": "Depthwise",
    "key_value": "KeyValue",
    "linear_attention": "LinearAttend",
}
_WITH_PRODUCERS = (Attend, KeyValue, LinearAttention, Scores)  #: whose rules ask who has written their inputs
_NUMBERS = [0, 1, 2, 3, 5, 7, 15, 16, 31, 32, 46, 47, 48, 127, 255, 1 << 12, 1 << 16, -1, -128]
Arrays = dict[str, np.ndarray]


def _slot(graph: Graph, node: Node) -> tuple[TensorInfo, Node]:
    """The part of its output that a node writes, as a tensor of its own."""
    info = dataclasses.replace(graph.tensor(node.out), channels=graph.channels(node.out))
    return info, dataclasses.replace(node, out=Ref(info.name))


def alone(graph: Graph, node: Node) -> Graph:
    """A node as the whole of a graph, its inputs constants; with those before it that its rule looks at."""
    wanted = {r.name for r in node.inputs} if isinstance(node, _WITH_PRODUCERS) else set()
    nodes = [p for p in graph.nodes if p.out.name in wanted]
    info, last = _slot(graph, node)
    nodes.append(last)
    written = {p.out.name for p in nodes}
    read = {r.name for p in nodes for r in p.inputs} - written
    tensors = {name: graph.tensors[name] for name in sorted(read | written)} | {info.name: info}
    tensors |= {"input": TensorInfo("input", 1, 8, "int8")}
    constants = {n: np.zeros((tensors[n].tokens, tensors[n].channels), np.int64) for n in read - {"input"}}
    return Graph(nodes, tensors, constants, "input", info.name, {})


def too_long(vit: Graph, efficientvit: Graph) -> list[Graph]:
    """Rules that no one change of a small graph breaks: sums and rows longer than the machine has, slices exchanged."""
    out, k = [], 5000  # k * 127 * 128 > 2^26
    for graph, kind, sizes in (
        (vit, Matmul, {"x": (1, k), "out": (1, 8)}),
        (vit, Scores, {"q": (1, k), "k": (1, k), "out": (1, 1)}),
        (vit, LayerNorm, {"x": (1, config.MAX_CHANNELS + 1), "out": (1, config.MAX_CHANNELS + 1)}),
        (vit, Softmax, {"x": (1, config.MAX_TOKENS + 1), "out": (1, config.MAX_TOKENS + 1)}),
        (efficientvit, LinearAttention, {"q": (1, k), "z": (k, k), "ksum": (1, k), "out": (1, k)}),
    ):
        node = next(n for n in graph.nodes if type(n) is kind and getattr(n, "residual", None) is None)
        n = sizes["out"][1]
        new: dict = {field: Ref(field) for field in sizes}
        new |= {f: np.resize(v, n) for f, v in vars(node).items() if isinstance(v, np.ndarray) and f != "weight"}
        new |= {"weight": np.full((n, k), 127, np.int8)} if kind is Matmul else {}
        node = dataclasses.replace(node, name="out", **new | ({"heads": 1} if kind is LinearAttention else {}))
        info = {f: TensorInfo(f, *s, "code4" if kind is Softmax and f == "out" else "int8") for f, s in sizes.items()}
        nodes: list[Node] = [node]
        if kind is LinearAttention:  # Z is too large for a constant
            made = next(x for x in graph.nodes if isinstance(x, KeyValue))
            columns = {f: np.resize(v, n) for f, v in vars(made).items() if isinstance(v, np.ndarray)}
            nodes.insert(0, dataclasses.replace(made, out=Ref("z"), k=Ref("q"), v=Ref("v"), heads=1, **columns))
            nodes.insert(0, dataclasses.replace(_copy(vit, k), out=Ref("v"), x=Ref("q")))
            info["v"] = TensorInfo("v", 1, k, "int8")
        written = {x.out.name for x in nodes}
        constants = {f: np.zeros((t.tokens, t.channels), np.int8) for f, t in info.items() if f not in written}
        info["input"] = TensorInfo("input", 1, 8, "int8")
        out.append(Graph(nodes, info, constants, "input", "out", {}))
    odd = alone(vit, next(n for n in vit.nodes if isinstance(n, Attend)))  # codes that nobody made, by no rule
    odd.nodes[:] = [dataclasses.replace(n, rule=None) for n in odd.nodes if isinstance(n, Attend)]
    for info in map(odd.tensor, odd.nodes[0].inputs):
        odd.constants[info.name] = np.zeros((info.tokens, info.channels), np.int64)
    out.append(odd)
    heads = [n for n in vit.nodes if isinstance(n, Attend)]
    swap = {heads[0].name: heads[1].out, heads[1].name: heads[0].out}
    nodes = [dataclasses.replace(n, out=swap.get(n.name, n.out)) for n in vit.nodes]
    return [*out, dataclasses.replace(vit, nodes=nodes)]


def _copy(graph: Graph, n: int) -> Matmul:
    """A grouped product of n channels by themselves, saturated to -127."""
    node = next(x for x in graph.nodes if isinstance(x, Matmul) and x.residual is None)
    columns = {f: np.resize(v, n) for f, v in vars(node).items() if isinstance(v, np.ndarray) and f != "weight"}
    more = dict(name="v", groups=n, weight=np.ones((n, 1), np.int8), narrow=True, act="identity", token_offset=0)
    return dataclasses.replace(node, **columns | more)


def _file(graph: Graph) -> tuple[Arrays, dict]:
    """(arrays, description) as a file holds them."""
    data, arrays = _split(graph)
    return arrays, json.loads(json.dumps(data | {"hash": _hash(data, arrays)}))


def _kind(node: Node) -> tuple:
    """What two nodes must agree in to be the same for a rule."""
    names = ("act", "rule", "narrow", "keys", "weight_bits", "kernel", "stride")
    return (type(node), *(getattr(node, n, None) for n in names), getattr(node, "groups", 1) > 1,
            getattr(node, "residual", None) is None, getattr(node, "m1", None) is None)  # fmt: skip


class Graphs:
    """A model file."""

    def __init__(self, folder: Path) -> None:
        self.path, self.again = folder / "g.safetensors", folder / "again.safetensors"
        small = dict(depth=1, dim=16, heads=2, mlp=16, tokens=5, patch_k=8, classes=3)
        whole = [
            random_graph(5, **small),
            random_graph(6, rule="log2", four=("*fc1",), **small | {"act": "relu"}),
            random_graph(7, norms=("q", "k"), pool="behind", **small | {"prefix": 2}),
            random_efficientvit((8, 16, 16, 16, 16), (1,) * 5, 8, (16, 16), 32, 3),
            random_efficientvit((8, 8, 8, 8, 8), (1,) * 5, 8, (8, 8), 32, 3, rule="log2", norm_input="int8"),
        ]
        pieces = {_kind(node): (graph, node) for graph in whole for node in graph.nodes}
        self.pieces: dict[type, list] = {}
        for pair in pieces.values():
            self.pieces.setdefault(type(pair[1]), []).append(_file(check_graph(alone(*pair))))
        self.whole = [_file(check_graph(graph)) for graph in whole]
        self.refused = [_file(graph) for graph in too_long(whole[0], whole[3])]

    # ------------------------------------------------------------ changes

    def retarget(self, r: random.Random, arrays: Arrays, data: dict) -> None:
        """A reference to another tensor: one that is there, a slice of it, or a new constant."""
        node = r.choice(data["nodes"])
        fields = [k for k, v in node.items() if isinstance(v, list)] + ["residual"] * ("residual" in node)
        field, tensors = r.choice(fields), data["tensors"]
        if not isinstance(node[field], list) and r.random() < 0.5:
            return
        name = node[field][0] if isinstance(node[field], list) else ""
        old = next((t for t in tensors if t["name"] == name), tensors[0])
        if r.random() < 0.5:
            shape = dict(tokens=r.choice([1, 2, old["tokens"]]), channels=r.choice([8, 16, old["channels"]]))
            info = dataclasses.asdict(TensorInfo("more", **shape, fmt=r.choice([old["fmt"], *FORMATS])))
            info |= {"height": r.choice([0, old["height"]]), "width": r.choice([0, old["width"]])}
            data["tensors"] = [*tensors, info]
            if r.random() < 0.8 and info["tokens"] * info["channels"] < 1 << 20:  # else it is written by nobody
                arrays["constants/more"] = np.zeros((info["tokens"], info["channels"]), np.int64)
            name = "more"
        else:
            name = r.choice(tensors)["name"]
        part = r.choice([[0, None]] * 4 + [[0, 8], [8, 8], [r.randrange(4), r.randrange(5)], [0, 1 << 17], [-1, 1]])
        node[field] = [name, *part]

    def number(self, r: random.Random, arrays: Arrays, data: dict) -> None:
        """A field of a node that is no reference; a limit, or another word. Now and then one that is not written."""
        node = r.choice(data["nodes"])
        names = [k for k, v in node.items() if isinstance(v, int | str) and k != "name"]
        name = r.choice([*names, "weight_bits", "groups", "act", "rule", "narrow", "q3", "q6", "heads", "residual"])
        values = _WORDS if isinstance(node.get(name), str) else _NUMBERS
        node[name] = r.choice([*r.choice([values, values, [True, False, None, 0.5]])])

    def column(self, r: random.Random, arrays: Arrays, data: dict) -> None:
        """One array of a node; of two that belong together, both."""
        name = r.choice(list(arrays) or [""])
        value = arrays.get(name)
        if value is None:
            return
        if r.random() < 0.5:
            arrays[name] = array(r, value)
        elif value.dtype.kind in "iu" and value.size:
            node = name.rpartition("/")[0]
            for field in r.sample(["eh", "er", "s2", "s1", "m1", "offset", "bias", "a", "weight"], r.randrange(1, 4)):
                if (old := arrays.get(f"{node}/{field}")) is not None:
                    limits = np.iinfo(old.dtype)
                    numbers = [v for v in (*_NUMBERS, 65535, 1 << 24, 1 << 27, -7) if limits.min <= v <= limits.max]
                    arrays[f"{node}/{field}"] = np.full_like(old, r.choice(numbers))

    def order(self, r: random.Random, arrays: Arrays, data: dict) -> None:
        """Nodes change places, are there twice, share a name, or write where another does."""
        nodes, how = data["nodes"], r.randrange(6)
        one, two = r.choice(nodes), r.choice(nodes)
        if how == 0:
            r.shuffle(nodes)
        elif how == 1:
            nodes.append(json.loads(json.dumps(one)))
        elif how == 2:
            one["name"] = two["name"]
        elif how == 3:
            one["out"] = r.choice([two["out"], ["input"], [one["out"][0], 8, 8]])
        elif how == 4:
            data["tensors"] = [*data["tensors"], dataclasses.asdict(TensorInfo("more", 1, 8, "int8"))]
        else:
            data[r.choice(["input", "output"])] = r.choice(data["tensors"])["name"]

    def shape(self, r: random.Random, arrays: Arrays, data: dict) -> None:
        """A tensor of another size or format; a constant's values follow it."""
        info = r.choice(data["tensors"])
        field = r.choice(["tokens", "channels", "fmt", "height", "width", "zero_point"])
        values = [1, 2, 4, 8, 16, 31, 0, info.get(field), 1 << 12, 1 << 15]
        info[field] = r.choice([*FORMATS, "int7"] if field == "fmt" else values)
        key = f"constants/{info['name']}"
        if key in arrays and r.random() < 0.8 and 0 < info["tokens"] * info["channels"] < 1 << 20:
            arrays[key] = np.zeros((info["tokens"], info["channels"]), np.int64)

    def aged(self, data: dict) -> dict:
        """As the schema before wrote it: types in the place of operations, no roles."""
        types = [_OLD.get(str(n["op"]), "Linear") for n in data["nodes"]]
        bare = [{k: v for k, v in n.items() if k not in ("op", "role")} for n in data["nodes"]]
        nodes = [{"type": kind, **n} for kind, n in zip(types, bare, strict=True)]
        return data | {"schema": "vitforge-graph-1", "nodes": nodes}

    def file(self, r: random.Random, of: list[tuple[Arrays, dict]] = ()) -> Path:
        """A file of one of these, else of all that there are."""
        how = r.random()
        pieces = self.pieces[r.choice([*self.pieces])]
        arrays, data = r.choice(of or (self.refused if how < 0.002 else self.whole if how < 0.1 else pieces))
        arrays = dict(arrays)
        if r.random() < 0.75:
            data = json.loads(json.dumps(data))
            aims = [self.retarget, self.number, self.column, self.order, self.shape]
            for _ in range(r.choice([0, 1, 1, 1, 2])):
                r.choices(aims, [3, 4, 4, 1, 2])[0](r, arrays, data)
            data = self.aged(data) if r.random() < 0.04 else data
        else:
            for _ in range(r.randrange(1, 3)):
                if r.random() < 0.6:
                    data = changed(r, data, _WORDS)
                else:
                    name = r.choice(list(arrays))
                    arrays[name] = array(r, arrays[name])
                    if r.random() < 0.1:
                        arrays[r.choice([name + "x", "constants/x"])] = arrays.pop(name)
        if isinstance(data, dict) and r.random() < PAST:
            with contextlib.suppress(ValueError, TypeError):
                data = data | {"hash": _hash(data, arrays)}
        metadata = {"vitforge": json.dumps(data)} if r.random() < 0.997 else {"format": "pt"}
        blob = save({n: np.ascontiguousarray(v) for n, v in arrays.items()}, metadata=metadata)
        self.path.write_bytes(blob if r.random() < 0.98 else scribbled(r, blob, 300))
        return self.path

    def __call__(self, r: random.Random) -> None:
        path = self.file(r)
        graph = load_graph(path if r.random() < 0.997 else path.parent)
        if r.random() < 0.1:
            save_graph(graph, self.again if r.random() < 0.9 else r.choice([path.parent, path / "x"]))
            assert graph_hash(load_graph(self.again)) == graph_hash(graph), "another model when it is read again"
