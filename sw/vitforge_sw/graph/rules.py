"""Machine-checked rules of the integer graph: run after every pass; a broken rule is a ValueError naming the place.

Ranges come from the declarations that the hardware is built from (arch.isa fields), the accumulators' bound from the
actual weights: max over channels of sum |w| * 128 + |bias|.
"""

import numpy as np

from vitforge_hw.arch import config, isa

from .ir import FORMATS, Attend, Graph, LayerNorm, Linear, Ref, Scores, Softmax, inputs_of

ACTS = ("identity", "gelu")
CODE_RULES = ("maxrel", "log2")
_POST = {f.name: f.range for f in isa.POST_PARAM_FIELDS} | {"s1": (0, 47)}
_POST |= {shift: (0, _POST["e"][1]) for shift in ("eh", "er")}  # an entry holds their difference
_NORM = {f.name: f.range for f in isa.LN_PARAM_FIELDS} | {"shift": (0, 47)}
_SOFTMAX = {f.name: f.range for f in isa.OP_FIELDS[isa.Chunk.SOFTMAX]}
_SHIFTER = {f.name: f.range for f in isa.OP_FIELDS[isa.Chunk.SHIFTER]}
SUM_LIMIT = 1 << 31  #: (h << eh) + (residual << er) and its rounding fit 32 bits signed


def accumulator_bound(node: Linear) -> int:
    """max over channels of sum |w| * 128 + |bias|: what |acc + bias| and every partial sum cannot exceed."""
    return int((np.abs(node.weight.astype(np.int64)).sum(1) * 128 + np.abs(node.bias.astype(np.int64))).max())


def _need(ok, where: str, text: str) -> None:
    if not ok:
        raise ValueError(f"integer graph: {where}: {text}")


def _array(value, where: str, field: str, shape: tuple, span: tuple[int, int]) -> None:
    _need(
        isinstance(value, np.ndarray) and value.dtype.kind in "iu",
        where,
        f"{field} must be an integer array, not {getattr(value, 'dtype', type(value).__name__)}",
    )
    _need(value.shape == shape, where, f"{field} must have shape {shape}, not {value.shape}")
    lo, hi = (int(value.min()), int(value.max())) if value.size else (0, 0)
    _need(span[0] <= lo and hi <= span[1], where, f"{field} must be in {span[0]}..{span[1]}, has {lo}..{hi}")


def _scalar(value, where: str, field: str, span: tuple[int, int]) -> None:
    _need(isinstance(value, int) and not isinstance(value, bool), where, f"{field} must be an integer, not {value!r}")
    _need(span[0] <= value <= span[1], where, f"{field} must be in {span[0]}..{span[1]}, not {value}")


def _ref(graph: Graph, ref: Ref, where: str, formats: tuple[str, ...]):
    _need(
        isinstance(ref, Ref) and ref.name in graph.tensors,
        where,
        f"refers to the unknown tensor {getattr(ref, 'name', ref)!r}",
    )
    info = graph.tensors[ref.name]
    count = info.channels - ref.start if ref.count is None else ref.count
    _need(
        ref.start >= 0 and count > 0 and ref.start + count <= info.channels,
        where,
        f"channels {ref.start}..{ref.start + count - 1} lie outside {ref.name} with {info.channels}",
    )
    _need(info.fmt in formats, where, f"{ref.name} must be {' or '.join(formats)}, not {info.fmt}")
    return info, count


def _linear(graph: Graph, node: Linear) -> None:
    where = node.name
    x, k = _ref(graph, node.x, where, ("int8",))
    y, n = _ref(graph, node.out, where, ("int8", "int12"))
    _array(node.weight, where, "weight", (n, k), (-127, 127))
    for field in ("bias", "s1", "eh", "er", "s2", "offset"):
        _array(getattr(node, field), where, field, (n,), _POST[field])
    _need(node.act in ACTS, where, f"act must be one of {', '.join(ACTS)}, not {node.act!r}")
    _scalar(node.gelu_exp, where, "gelu_exp", (3, 10))
    _scalar(node.token_offset, where, "token_offset", (-8, 7))
    bound = accumulator_bound(node)
    _need(
        bound < 1 << config.ACC_BITS - 1,
        where,
        f"|acc + bias| must be below 2^{config.ACC_BITS - 1}, may reach {bound}",
    )
    top = np.full(n, 2048, dtype=np.int64) << node.eh.astype(np.int64)
    if node.residual is not None:
        r, channels = _ref(graph, node.residual, where, ("int8", "int12", "int16"))
        _need(
            channels == n and r.tokens >= y.tokens,
            where,
            f"residual {node.residual.name} must have {y.tokens} tokens of {n} channels",
        )
        top = top + (np.int64(-FORMATS[r.fmt][0]) << node.er.astype(np.int64))
    top = top + (np.int64(1) << node.s2.astype(np.int64) >> 1)
    _need(
        int(top.max()) < SUM_LIMIT, where, f"(h << eh) + (residual << er) must fit 32 bits, may reach {int(top.max())}"
    )
    if node.token_offset == 0:
        _need(y.tokens <= x.tokens, where, f"output has {y.tokens} tokens, its input {x.tokens}")


def _scores(graph: Graph, node: Scores) -> None:
    q, d = _ref(graph, node.q, node.name, ("int8",))
    k, dk = _ref(graph, node.k, node.name, ("int8",))
    y, keys = _ref(graph, node.out, node.name, ("int8",))
    _need(d == dk, node.name, f"q and k must have the same channels, not {d} and {dk}")
    _need(
        keys == k.tokens and y.tokens == q.tokens,
        node.name,
        f"output must be {q.tokens} x {k.tokens}, not {y.tokens} x {keys}",
    )
    _scalar(node.s1, node.name, "s1", _POST["s1"])
    _scalar(node.s2, node.name, "s2", _POST["s2"])
    producer = next((p for p in graph.nodes if p.out.name == node.k.name), None)
    _need(
        isinstance(producer, Linear) and producer.narrow,
        node.name,
        f"keys {node.k.name} must be saturated to -127 (narrow): they become weights",
    )


def _softmax(graph: Graph, node: Softmax) -> None:
    x, keys = _ref(graph, node.x, node.name, ("int8",))
    y, n = _ref(graph, node.out, node.name, ("code4",))
    _need((y.tokens, n) == (x.tokens, keys), node.name, f"codes must be {x.tokens} x {keys}, not {y.tokens} x {n}")
    _need(keys <= 511, node.name, f"keys must be at most 511, not {keys}")
    _need(node.rule in CODE_RULES, node.name, f"rule must be one of {', '.join(CODE_RULES)}, not {node.rule!r}")
    _scalar(node.c, node.name, "c", _SOFTMAX["c"])
    _scalar(node.sc, node.name, "sc", _SOFTMAX["sc"])


def _attend(graph: Graph, node: Attend) -> None:
    codes, keys = _ref(graph, node.codes, node.name, ("code4",))
    v, d = _ref(graph, node.v, node.name, ("int8",))
    y, n = _ref(graph, node.out, node.name, ("int8",))
    _need(keys == v.tokens, node.name, f"codes have {keys} keys, values {v.tokens} tokens")
    _need(n == d and y.tokens == codes.tokens, node.name, f"output must be {codes.tokens} x {d}, not {y.tokens} x {n}")
    producer = next((p for p in graph.nodes if p.out.name == node.codes.name), None)
    _need(
        isinstance(producer, Softmax) and producer.rule == node.rule,
        node.name,
        f"rule {node.rule!r} must be that of its codes",
    )
    _need(
        isinstance(node.factor, bool) and (node.factor or node.rule == "log2"),
        node.name,
        "maxrel codes need the row factor",
    )
    _scalar(node.shift, node.name, "shift", _SHIFTER["shift"])


def _layernorm(graph: Graph, node: LayerNorm) -> None:
    x, c = _ref(graph, node.x, node.name, ("int8", "int12"))
    y, n = _ref(graph, node.out, node.name, ("int8",))
    _need(
        n == c and y.tokens <= x.tokens,
        node.name,
        f"output must have {c} channels and at most {x.tokens} tokens, not {y.tokens} x {n}",
    )
    _need(c <= 1024, node.name, f"channels must be at most 1024, not {c}")
    for field in ("gamma", "beta", "shift", "a"):
        _array(getattr(node, field), node.name, field, (c,), _NORM[field])
    _need(x.fmt == "int8" or not node.a.any(), node.name, "PTF exponents need an int8 input")


_RULES = {Linear: _linear, Scores: _scores, Softmax: _softmax, Attend: _attend, LayerNorm: _layernorm}


def check_graph(graph: Graph) -> Graph:
    """Raise ValueError at the first broken rule; returns the graph."""
    from .rules_trio import RULES as TRIO_RULES  # they use this module's helpers

    rules = _RULES | TRIO_RULES
    _need(graph.input in graph.tensors, "input", f"unknown tensor {graph.input!r}")
    for name, info in graph.tensors.items():
        _need(name == info.name, name, f"is stored under another name than its own, {info.name}")
        _need(info.fmt in FORMATS, name, f"format must be one of {', '.join(FORMATS)}, not {info.fmt!r}")
        for field in ("tokens", "channels"):
            value = getattr(info, field)
            _need(isinstance(value, int) and 0 < value < 1 << 16, name, f"{field} must be in 1..65535, not {value!r}")
    for name, value in graph.constants.items():
        _need(name in graph.tensors, name, "constant without a tensor description")
        info = graph.tensors[name]
        _array(value, name, "constant", (info.tokens, info.channels), FORMATS[info.fmt][:2])
    ready = {graph.input: None, **dict.fromkeys(graph.constants)}
    covered: dict[str, int] = {}
    names = set()
    for node in graph.nodes:
        _need(type(node) in rules, getattr(node, "name", "?"), f"unknown node type {type(node).__name__}")
        _need(node.name not in names, node.name, "two nodes have this name")
        names.add(node.name)
        for ref in inputs_of(node):
            _need(isinstance(ref, Ref), node.name, f"an input must be a tensor, not {ref!r}")
            _need(ref.name in ready, node.name, f"reads {ref.name} before it is complete (order of nodes)")
        rules[type(node)](graph, node)
        name, info = node.out.name, graph.tensors[node.out.name]
        _need(name not in ready, node.name, f"writes {name} a second time")
        _need(node.out.start == covered.get(name, 0), node.name, f"writes channels of {name} out of order")
        covered[name] = node.out.start + (info.channels - node.out.start if node.out.count is None else node.out.count)
        if covered[name] == info.channels:
            ready[name] = None
    _need(graph.output in ready, "output", f"{graph.output!r} is never written completely")
    for name in graph.tensors:
        _need(name in ready, name, "is described but never written completely")
    return graph
