"""Rules of the EfficientViT family's nodes: shapes, ranges, and accumulators proven to fit 27 bits.

The proof uses the actual weights (pointwise, depthwise), or the operands' ranges and the number of tokens (K^T V, Ksum,
Q Z, pooling).
"""

import numpy as np

from vitforge_hw.arch import arith_trio, config

from .ir import FORMATS, Graph
from .ir_trio import DIVISION_RULES, Depthwise, KeySum, KeyValue, LinearAttend, NormAct, Pointwise, Pool, Post
from .rules import SUM_LIMIT, _array, _need, _ref, _scalar

ACTS = ("identity", "hardswish")
SPANS = dict(
    bias=(-(1 << 26), (1 << 26) - 1), m1=(1, (1 << arith_trio.M1_BITS) - 1), s1=(0, arith_trio.S1_MAX), eh=(0, 15),
    er=(0, 15), s2=(0, 31), offset=(-128, 127),
)  # fmt: skip
NORM_SPANS = dict(gamma=(-(1 << 15), (1 << 15) - 1), beta=(-(1 << 31), (1 << 31) - 1), shift=(0, 47))
NORM_CHANNELS = 4096
KERNELS = (3, 5, 7)


def product_bound(node: Post, tokens: int) -> np.ndarray:
    """Per output channel: what |acc| and every partial sum cannot exceed. ``tokens``: those of the reduced input."""
    if isinstance(node, (Pointwise, Depthwise)):
        return np.abs(node.weight.astype(np.int64)).sum(1) * 128
    each = {KeySum: 127, KeyValue: 127 * 127, Pool: 128}[type(node)]
    return np.full(len(node.bias), each * tokens, dtype=np.int64)


def _hardswish_constants(where: str, q3: int, q6: int) -> None:
    _scalar(q3, where, "q3", (1, arith_trio.Q6_MAX))
    _scalar(q6, where, "q6", (1, arith_trio.Q6_MAX))


def _post(graph: Graph, node: Post, n: int, reduced: int) -> None:
    """What all nodes with post-processing share; ``n`` output channels, ``reduced`` tokens of a reduced input."""
    where = node.name
    y, _ = _ref(graph, node.out, where, ("int8", "int12"))
    for field, span in SPANS.items():
        _array(getattr(node, field), where, field, (n,), span)
    _need(node.act in ACTS, where, f"act must be one of {', '.join(ACTS)}, not {node.act!r}")
    top = np.full(n, 2048, dtype=np.int64)
    if node.act == "hardswish":
        _hardswish_constants(where, node.q3, node.q6)
        top = top * node.q6
    if node.m2 is not None:
        _array(node.m2, where, "m2", (n,), SPANS["m1"])
        top = top * node.m2.astype(np.int64)
    bound = int((product_bound(node, reduced) + np.abs(node.bias.astype(np.int64))).max())
    limit = config.ACC_BITS - 1
    _need(bound < 1 << limit, where, f"|acc + bias| must be below 2^{limit}, may reach {bound}")
    top = top << node.eh.astype(np.int64)
    if node.residual is not None:
        r, channels = _ref(graph, node.residual, where, ("int8", "int12"))
        found = (r.tokens, channels)
        _need(found == (y.tokens, n), where, f"residual must be {y.tokens} x {n}, not {r.tokens} x {channels}")
        top = top + (np.int64(-FORMATS[r.fmt][0]) << node.er.astype(np.int64))
    top = int((top + (np.int64(1) << node.s2.astype(np.int64) >> 1)).max())
    limit = SUM_LIMIT if node.m2 is None else 1 << 46
    _need(top < limit, where, f"(h << eh) + (residual << er) must be below {limit}, may reach {top}")


def _out(graph: Graph, node, tokens: int, formats=("int8",)) -> int:
    y, n = _ref(graph, node.out, node.name, formats)
    _need(y.tokens == tokens, node.name, f"output must have {tokens} tokens, not {y.tokens}")
    return n


def _narrow(graph: Graph, ref, where: str) -> None:
    producer = next((p for p in graph.nodes if p.out.name == ref.name), None)
    _need(
        isinstance(producer, Post) and producer.narrow,
        where,
        f"{ref.name} must be saturated to -127 (narrow): an operand of a product of activations",
    )


def _pointwise(graph: Graph, node: Pointwise) -> None:
    x, k = _ref(graph, node.x, node.name, ("int8",))
    n = _out(graph, node, x.tokens, ("int8", "int12"))
    _scalar(node.groups, node.name, "groups", (1, min(n, k)))
    fits = n % node.groups == 0 and k % node.groups == 0
    _need(fits, node.name, f"{node.groups} groups must divide {k} and {n} channels")
    _array(node.weight, node.name, "weight", (n, k // node.groups), (-127, 127))
    _post(graph, node, n, x.tokens)


def _depthwise(graph: Graph, node: Depthwise) -> None:
    x, c = _ref(graph, node.x, node.name, ("int8",))
    _need(node.kernel in KERNELS, node.name, f"kernel must be one of {KERNELS}, not {node.kernel!r}")
    _need(node.stride in (1, 2), node.name, f"stride must be 1 or 2, not {node.stride!r}")
    spatial = x.height * x.width == x.tokens
    _need(spatial, node.name, f"{x.name} must be spatial, has {x.height} x {x.width} for {x.tokens} tokens")
    size = [arith_trio.conv_size(s, node.stride) for s in (x.height, x.width)]
    y = graph.tensors[node.out.name]
    _need([y.height, y.width] == size, node.name, f"output must be {size[0]} x {size[1]}, not {y.height} x {y.width}")
    _need(_out(graph, node, size[0] * size[1]) == c, node.name, f"output must have {c} channels")
    _scalar(node.pad, node.name, "pad", (-128, 127))
    _need(node.pad == x.zero_point, node.name, f"pad must be the input's zero-point {x.zero_point}, not {node.pad}")
    _array(node.weight, node.name, "weight", (c, node.kernel**2), (-127, 127))
    _need(node.residual is None, node.name, "a depthwise layer has no residual")
    _post(graph, node, c, x.tokens)


def _key_sum(graph: Graph, node: KeySum) -> None:
    x, c = _ref(graph, node.x, node.name, ("int8",))
    _need(_out(graph, node, 1) == c, node.name, f"output must have {c} channels")
    _post(graph, node, c, x.tokens)


def _key_value(graph: Graph, node: KeyValue) -> None:
    k, c = _ref(graph, node.k, node.name, ("int8",))
    v, cv = _ref(graph, node.v, node.name, ("int8",))
    _need((k.tokens, c) == (v.tokens, cv), node.name, f"k and v must agree, not {k.tokens} x {c} and {v.tokens} x {cv}")
    _scalar(node.heads, node.name, "heads", (1, c))
    _need(c % node.heads == 0, node.name, f"{node.heads} heads must divide {c} channels")
    _need(_out(graph, node, c // node.heads) == c, node.name, f"output must have {c} channels")
    _need(node.narrow, node.name, "Z must be saturated to -127 (narrow): an operand of Q Z")
    _narrow(graph, node.v, node.name)
    _post(graph, node, c, k.tokens)


def _linear_attend(graph: Graph, node: LinearAttend) -> None:
    q, c = _ref(graph, node.q, node.name, ("int8",))
    z, cz = _ref(graph, node.z, node.name, ("int8",))
    s, cs = _ref(graph, node.ksum, node.name, ("int8",))
    _scalar(node.heads, node.name, "heads", (1, c))
    dim = c // node.heads
    _need(dim * node.heads == c, node.name, f"{node.heads} heads must divide {c} channels")
    _need((z.tokens, cz, s.tokens, cs) == (dim, c, 1, c), node.name, f"Z must be {dim} x {c} and Ksum 1 x {c}")
    _need(_out(graph, node, q.tokens) == c, node.name, f"output must have {c} channels")
    _narrow(graph, node.z, node.name)
    limit = config.ACC_BITS - 1
    _need(dim * 127 * 127 < 1 << limit, node.name, f"heads of {dim} channels exceed the {limit + 1}-bit accumulators")
    _need(node.rule in DIVISION_RULES, node.name, f"rule must be one of {', '.join(DIVISION_RULES)}, not {node.rule!r}")
    _array(node.shift, node.name, "shift", (c,), (0, 31))
    _scalar(node.lo, node.name, "lo", (0, 15))
    _scalar(node.m1, node.name, "m1", SPANS["m1"])
    _scalar(node.s1, node.name, "s1", SPANS["s1"])


def _pool(graph: Graph, node: Pool) -> None:
    x, c = _ref(graph, node.x, node.name, ("int8",))
    _need(_out(graph, node, 1) == c, node.name, f"output must have {c} channels")
    _post(graph, node, c, x.tokens)


def _norm_act(graph: Graph, node: NormAct) -> None:
    x, c = _ref(graph, node.x, node.name, ("int8", "int12"))
    _need(_out(graph, node, x.tokens) == c, node.name, f"output must have {c} channels")
    _need(c <= NORM_CHANNELS, node.name, f"channels must be at most {NORM_CHANNELS}, not {c}")
    for field, span in NORM_SPANS.items():
        _array(getattr(node, field), node.name, field, (c,), span)
    _hardswish_constants(node.name, node.q3, node.q6)
    _scalar(node.s2, node.name, "s2", SPANS["s2"])
    _scalar(node.offset, node.name, "offset", SPANS["offset"])


RULES = {
    Pointwise: _pointwise, Depthwise: _depthwise, KeySum: _key_sum, KeyValue: _key_value, LinearAttend: _linear_attend,
    Pool: _pool, NormAct: _norm_act,
}  # fmt: skip
