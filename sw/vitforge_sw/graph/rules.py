"""Machine-checked rules of the integer graph: run after every pass; a broken rule is a ValueError naming the place.

Ranges come from the declarations that the hardware is built from (``vitforge_hw.arch``: fields, configuration,
arithmetic), so that the encoder accepts what passes here. Each operation's own rule is its ``check``; here are the
helpers they share, and what concerns the graph as a whole.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from vitforge_hw.arch import config, isa

from .ir import FORMATS, Graph, Node, Ref, TensorInfo

Span = tuple[int, int]


def spans(fields: tuple[isa.Field, ...]) -> dict[str, Span]:
    """Ranges of a format's fields by name."""
    return {f.name: f.range for f in fields}


def need(ok: object, where: str, text: str) -> None:
    """ValueError unless ``ok``."""
    if not ok:
        raise ValueError(f"integer graph: {where}: {text}")


def array(value: Any, where: str, field: str, shape: tuple, span: Span, source: str = "") -> None:
    """``value`` is an integer array of this shape and range; ``source``: the declaration that sets the range."""
    need(
        isinstance(value, np.ndarray) and value.dtype.kind in "iu",
        where,
        f"{field} must be an integer array, not {getattr(value, 'dtype', type(value).__name__)}",
    )
    need(value.shape == shape, where, f"{field} must have shape {shape}, not {value.shape}")
    lo, hi = (int(value.min()), int(value.max())) if value.size else (0, 0)
    limit = f"{span[0]}..{span[1]}" + (f" ({source})" if source else "")
    need(span[0] <= lo and hi <= span[1], where, f"{field} must be in {limit}, has {lo}..{hi}")


def scalar(value: Any, where: str, field: str, span: Span) -> None:
    """``value`` is an integer in the range."""
    need(isinstance(value, int) and not isinstance(value, bool), where, f"{field} must be an integer, not {value!r}")
    need(span[0] <= value <= span[1], where, f"{field} must be in {span[0]}..{span[1]}, not {value}")


def word(value: object, where: str, field: str, words: tuple[str, ...]) -> None:
    """``value`` is one of the words."""
    need(value in words, where, f"{field} must be one of {', '.join(words)}, not {value!r}")


def ref(graph: Graph, r: Ref, where: str, formats: tuple[str, ...] = ("int8",)) -> tuple[TensorInfo, int]:
    """(tensor, channels) of a reference that lies inside its tensor and has one of the formats."""
    need(
        isinstance(r, Ref) and r.name in graph.tensors, where, f"refers to the unknown tensor {getattr(r, 'name', r)!r}"
    )
    info = graph.tensors[r.name]
    count = info.channels - r.start if r.count is None else r.count
    need(
        r.start >= 0 and count > 0 and r.start + count <= info.channels,
        where,
        f"channels {r.start}..{r.start + count - 1} lie outside {r.name} with {info.channels}",
    )
    need(info.fmt in formats, where, f"{r.name} must be {' or '.join(formats)}, not {info.fmt}")
    return info, count


def output(graph: Graph, node: Node, tokens: int, formats: tuple[str, ...] = ("int8",)) -> int:
    """Channels of a node's output, which must have ``tokens`` tokens."""
    info, channels = ref(graph, node.out, node.name, formats)
    need(info.tokens == tokens, node.name, f"output must have {tokens} tokens, not {info.tokens}")
    return channels


def narrow(graph: Graph, r: Ref, where: str, why: str) -> None:
    """The tensor's producer saturates to -127: an operand of a packed product of activations."""
    producers = [p for p in graph.nodes if p.out.name == r.name]
    ok = producers and all(getattr(p, "narrow", False) for p in producers)
    need(ok, where, f"{r.name} must be saturated to -127 (narrow): {why}")


def accumulator(bound: int, where: str) -> None:
    """``bound`` on |acc + bias| and every partial sum leaves the accumulators no overflow."""
    bits = config.ACC_BITS
    limit = f"2^{bits - 1} (config.ACC_BITS = {bits})"
    need(bound < 1 << bits - 1, where, f"|acc + bias| must be below {limit}, may reach {bound}")


def check_graph(graph: Graph, outside: Collection[str] = (), shared: Collection[str] = ()) -> Graph:
    """Raise ValueError at the first broken rule; returns the graph.

    Of a batch: ``outside``, tensors that come from elsewhere as the input does (other images' inputs, what the job
    before has left); ``shared``, tensors that every image writes once.
    """
    need(graph.input in graph.tensors, "input", f"unknown tensor {graph.input!r}")
    for name, info in graph.tensors.items():
        need(name == info.name, name, f"is stored under another name than its own, {info.name}")
        need(info.fmt in FORMATS, name, f"format must be one of {', '.join(FORMATS)}, not {info.fmt!r}")
        for field in ("tokens", "channels"):
            value = getattr(info, field)
            need(isinstance(value, int) and 0 < value < 1 << 16, name, f"{field} must be in 1..65535, not {value!r}")
        for field in ("exponent", "zero_point", "height", "width"):
            if field != "exponent" or info.exponent is not None:
                scalar(getattr(info, field), name, field, (-(1 << 15), 1 << 16))
    for name, value in graph.constants.items():
        need(name in graph.tensors, name, "constant without a tensor description")
        info = graph.tensors[name]
        array(value, name, "constant", (info.tokens, info.channels), FORMATS[info.fmt][:2])
    ready = {graph.input, *graph.constants, *outside}
    covered: dict[str, int] = {}
    names = set()
    for node in graph.nodes:
        need(node.name not in names, node.name, "two nodes have this name")
        names.add(node.name)
        for field in ("block", "head", "branch", "image"):
            if (number := getattr(node.role, field)) is not None:
                scalar(number, node.name, f"role's {field}", (-1, (1 << 16) - 1))
        for r in node.inputs:
            need(isinstance(r, Ref), node.name, f"an input must be a tensor, not {r!r}")
            need(r.name in ready, node.name, f"reads {r.name} before it is complete (order of nodes)")
        node.check(graph)
        name, info = node.out.name, graph.tensors[node.out.name]
        need(name not in ready or name in shared, node.name, f"writes {name} a second time")
        need(node.out.start == covered.get(name, 0), node.name, f"writes channels of {name} out of order")
        covered[name] = node.out.start + graph.channels(node.out)
        if covered[name] == info.channels:
            ready.add(name)
            covered[name] = 0
    need(graph.output in ready, "output", f"{graph.output!r} is never written completely")
    for name in graph.tensors:
        need(name in ready, name, "is described but never written completely")
    return graph
