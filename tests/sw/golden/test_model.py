"""The whole graph against a slow execution on plain ints; the fast path against the full one; exact carriers."""

import numpy as np
import pytest
import torch

from vitforge_hw.arch import arith
from vitforge_sw.golden import Golden, run
from vitforge_sw.ops import Attend, LayerNorm, Matmul, Scores, Softmax

RULE = {"maxrel": arith.RULE_MAXREL, "log2": arith.RULE_LOG2}


def plain_int_run(graph, patches: np.ndarray) -> dict[str, np.ndarray]:
    """One image through arch.arith, node by node: an execution that shares no code with the golden model."""
    env = {graph.input: patches.astype(np.int64), **{k: v.astype(np.int64) for k, v in graph.constants.items()}}

    def get(ref):
        x = env[ref.name]
        return x[:, ref.start : ref.start + (x.shape[1] if ref.count is None else ref.count)]

    for node in graph.nodes:
        info = graph.tensors[node.out.name]
        count = info.channels if node.out.count is None else node.out.count
        out = env.setdefault(node.out.name, np.zeros((info.tokens, info.channels), dtype=np.int64))
        y = out[:, node.out.start : node.out.start + count]
        if isinstance(node, Matmul):
            x, r = get(node.x), None if node.residual is None else get(node.residual)
            for t in range(info.tokens):
                s = t + node.token_offset
                row = x[s] if 0 <= s < len(x) else np.zeros_like(x[0])
                acc = node.weight.astype(np.int64) @ row
                for c in range(count):
                    y[t, c] = arith.postprocess(
                        int(acc[c]), bias=int(node.bias[c]), s1=int(node.s1[c]), gelu_exp=node.gelu_exp,
                        act=arith.ACT_GELU if node.act == "gelu" else arith.ACT_IDENTITY, eh=int(node.eh[c]),
                        residual=0 if r is None else int(r[t, c]), er=int(node.er[c]), s2=int(node.s2[c]),
                        offset=int(node.offset[c]), out_bits=8 if info.fmt == "int8" else 12, narrow=node.narrow,
                    )  # fmt: skip
        elif isinstance(node, Scores):
            acc = get(node.q) @ get(node.k).T
            y[:] = [[arith.postprocess(int(a), bias=0, s1=node.s1, s2=node.s2) for a in row] for row in acc]
        elif isinstance(node, Softmax):
            y[:] = [arith.softmax_codes(row.tolist(), RULE[node.rule], node.c, node.sc) for row in get(node.x)]
        elif isinstance(node, Attend):
            codes, v = get(node.codes), get(node.v)
            for t in range(info.tokens):
                y[t] = [
                    arith.attend(codes[t].tolist(), column.tolist(), RULE[node.rule], node.shift, node.factor)
                    for column in v.T
                ]
        else:
            assert isinstance(node, LayerNorm)
            lists = [getattr(node, f).tolist() for f in ("a", "gamma", "beta", "shift")]
            y[:] = [arith.layernorm(row.tolist(), *lists) for row in get(node.x)[: info.tokens]]
    return env


def test_every_tensor_equals_plain_ints(graph, digits):
    want = plain_int_run(graph, digits.test[3])
    got = run(graph, digits.test[2:5])
    assert set(got) == set(graph.tensors) == set(want)
    for name, value in want.items():
        tensor = got[name][0 if name in graph.constants else 1]
        assert not tensor.is_floating_point()
        assert np.array_equal(tensor.numpy().astype(np.int64), value), name


def test_fast_path_equals_full_run(graph, digits):
    golden = Golden(graph)
    full = golden.run(digits.test[:21])
    assert torch.equal(golden.logits(digits.test[:21], batch=8), full["head"][:, 0])
    assert golden.logits(torch.from_numpy(digits.test[:3])).shape == (3, 10)


def test_taps(graph, digits):
    taps = {}
    env = Golden(graph).run(digits.test[:2], taps)
    node = next(n for n in graph.nodes if n.name == "blocks.2.mlp.fc1")
    x = env["blocks.2.norm2"].long()
    assert torch.equal(taps["blocks.2.mlp.fc1.acc"].long(), x @ torch.from_numpy(node.weight.astype(np.int64)).T)
    norm = next(n for n in graph.nodes if n.name == "blocks.1.norm1")
    rows = env[norm.x.name].long() << torch.from_numpy(norm.a.astype(np.int64))
    assert torch.equal(taps["blocks.1.norm1.S1"], rows.sum(-1)) and torch.equal(
        taps["blocks.1.norm1.S2"], (rows * rows).sum(-1)
    )
    assert ("blocks.0.attn.softmax.h0.L" in taps) == (graph.meta["scheme"]["rule"] == "log2")
    assert "blocks.0.attn.scores.h1.acc" in taps and "blocks.0.attn.attend.h1.acc" in taps


def test_input_is_checked(graph):
    golden = Golden(graph)
    for bad in (np.zeros((1, 16, 4), np.uint8), np.zeros((16, 4), np.int8), np.zeros((1, 15, 4), np.int8)):
        with pytest.raises(ValueError, match=r"must be int8 \(B, 16, 4\), not "):
            golden.run(bad)
