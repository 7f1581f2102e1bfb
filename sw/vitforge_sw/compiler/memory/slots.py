"""Where a ViT's tensors live in the activation buffer.

Tensors of one class (all blocks' keys, scores, ...) take turns in a few slots of fixed addresses, so the addresses that
a chunk waits for are the same in every block. Classes have a preferred pool; what does not fit there goes to the other.
"""

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import FORMATS
from ...ops import Matmul
from ..layers.vit import Network, cdiv
from ..options import BlockSchedule
from .place import Allocation, Place

#: preferred pool of each class. The shifter array reads values every other cycle and softmax its scores in bursts of
#: 13: they share pool 0, away from the PE array's long bursts (LayerNorm's output, ahead of use as far as its group
#: register goes) and from the residual stream, which LayerNorm and post-processing read in bursts
POOL = {
    "qk": 0, "v": 0, "scores": 0, "hidden": 0, "pos": 0, "x": 1, "embed": 1, "norm1": 1, "norm2": 1, "attend": 1,
    "input": 1, "logits": 1, "normed": 0, "pool": 0,
}  # fmt: skip

#: the same with four pools and two engines. The shifter array reads a value row every cycle where it takes as many keys
#: as there are cores: values lie alone. What the engines read in long bursts lies together, away from softmax's scores
#: and from the residual stream
POOL_OF_FOUR = {
    "qk": 0, "v": 2, "scores": 0, "hidden": 3, "pos": 1, "x": 1, "embed": 1, "norm1": 3, "norm2": 3, "attend": 3,
    "input": 3, "logits": 0, "normed": 0, "pool": 0,
}  # fmt: skip


def classify(net: Network, blocks: BlockSchedule) -> dict[str, tuple[str, int]]:
    """Tensor -> (class, slot)."""
    own = net.heads if blocks.heads_together else 0
    v_slots, score_slots = own or blocks.v_slots, own or blocks.score_slots
    out = {net.graph.input: ("hidden" if blocks.input_over_hidden else "input", 0)}
    for node in net.graph.nodes:
        kind, block, head = node.role.part, node.role.block, node.role.head
        turn = 0 if block is None or head is None else block * net.heads + head
        name = node.out.name
        if kind == "softmax":
            continue
        if kind == "pool.softmax":  # its scores are a constant
            out[node.inputs[0].name] = ("pool", 0)
            continue
        residual = node.residual if isinstance(node, Matmul) else None
        if kind == "embed":
            out[name] = ("embed" if blocks.embed_beside else "x", 0)
            if residual is not None:
                same = net.planes(residual.name) == net.planes(name)
                out[residual.name] = out[name] if blocks.pos_in_place and same else ("pos", 0)
        elif kind == "mlp.fc2" and block == net.blocks - 1 and net.pools and net.planes(name) == 1:
            out[name] = ("norm1", 0)  # 8 bits for the shifter array, where no LayerNorm 1 follows
        elif kind in ("attn.proj", "mlp.fc2"):
            if residual is None or net.planes(residual.name) != net.planes(name):
                raise ValueError(f"layer {node.name}: needs a residual of its output's format")
            out[name] = ("x", 0)
        elif kind in ("k", "q"):
            out[name] = ("qk", "kq".index(kind))
        elif kind in ("k_norm", "q_norm"):
            out[name] = ("normed", "kq".index(kind[0]))
        elif kind == "v":
            out[name] = ("v", turn % v_slots)
        elif kind == "scores":
            out[name] = ("scores", turn % score_slots)
        elif kind in ("attend", "pool.attend"):
            out[name] = ("attend", 0)
        elif kind == "norm2":
            out[name] = ("attend" if blocks.out_in_place else "norm2", 0)
        else:
            found = {"norm1": ("norm1", 0), "norm": ("norm1", 0), "mlp.fc1": ("hidden", 0), "head": ("logits", 0)}
            out[name] = (found | {"head_dist": ("logits", 1)})[kind]
    return out


def allocate_slots(net: Network, config: AcceleratorConfig, blocks: BlockSchedule) -> Allocation:
    """Addresses of every tensor; ValueError with the sizes where the buffer is too small."""
    classes = classify(net, blocks)
    size: dict[tuple[str, int], int] = {}
    shape = {}
    for name, key in classes.items():
        t = net.tensor(name)
        groups, planes = cdiv(t.tokens, config.cores), FORMATS[t.fmt][2]
        stride = cdiv(t.channels, config.word) * planes
        held = groups
        if key[0] == "hidden" and name != net.graph.input and blocks.hidden_block and blocks.row_blocks:
            held = max(blocks.row_blocks)
        shape[name] = (stride, groups, planes, held < groups)
        size[key] = max(size.get(key, 0), stride * held)
    used = [0] * config.pools
    slots = {}
    preferred = POOL_OF_FOUR if config.pools >= 4 else POOL
    # largest first inside the preferred pool; then whatever is left goes where room is
    for key in sorted(size, key=lambda k: (-size[k], k)):
        pool = preferred[key[0]] % config.pools
        order = [pool] + sorted((p for p in range(config.pools) if p != pool), key=lambda p: used[p])
        for p in order:
            if used[p] + size[key] <= config.pool_rows:
                slots[key] = (p * config.pool_rows + used[p], size[key])
                used[p] += size[key]
                break
        else:
            total = sum(size.values())
            text = ", ".join(f"{c}.{s} {n}" for (c, s), n in sorted(size.items()))
            raise ValueError(
                f"activation buffer: {total} rows of {config.row_bytes} bytes needed ({text}), "
                f"{config.pools} pools of {config.pool_rows} rows available (preset {config.name})"
            )
    places = {}
    for name, key in classes.items():
        stride, groups, planes, restarts = shape[name]
        places[name] = Place(name, slots[key][0], stride, groups, planes, key[0], key[1], restarts)
    return Allocation(places, slots, used)
