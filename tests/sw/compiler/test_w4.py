"""Weights of 4 bits from graph to program: rules, files, memory image, emulator, cycle model, fallback."""

import dataclasses

import numpy as np
import pytest

from vitforge.commands.compile import unused_bits
from vitforge_hw.arch.config import PRESETS, AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import compile_graph
from vitforge_sw.compiler.program.parameters import paired, paired_rows, weight_rows
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.emulator import emulate
from vitforge_sw.families.vit.bits import average_bits, with_bits
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.families.vit.shapes import SHAPES, shape_graph, shortened
from vitforge_sw.golden.model import run
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph
from vitforge_sw.ops import Matmul
from vitforge_sw.predict import CyclePredictor, predict_cycles

TINY, W4 = PRESETS["tiny"], PRESETS["tiny_w4"]
MIXED = ("blocks.0.attn.[qv]", "blocks.1.attn.proj", "*.mlp.fc[12]", "head")


def matmuls(graph):
    return [node for node in graph.nodes if isinstance(node, Matmul)]


# ---------------------------------------------------------------- graph and file


def test_rule():
    graph = random_graph(1, four=MIXED)
    few = [n for n in matmuls(graph) if n.weight_bits == 4]
    assert {n.name for n in few} >= {"blocks.0.attn.q.h0", "blocks.1.mlp.fc2", "head"}
    assert len(few) < len(matmuls(graph))
    assert all(np.abs(n.weight).max() == 7 for n in few)
    node = few[0]
    for bits, value in ((4, 8), (4, -8), (3, 4), (9, 0), (1, 0)):
        weight = node.weight.copy()
        weight[0, 0] = value
        wrong = dataclasses.replace(node, weight=weight, weight_bits=bits)
        graph.nodes[graph.nodes.index(node)] = wrong
        top = (1 << bits - 1) - 1
        rule = rf"weight must be in -{top}..{top} \(weight_bits {bits}\)" if value else "weight_bits must be in 2..8"
        with pytest.raises(ValueError, match=f"{node.name}: {rule}"):
            check_graph(graph)
        graph.nodes[graph.nodes.index(wrong)] = node


def test_file(tmp_path):
    """4 bits come back; a graph without them is the file that it was before there were any."""
    mixed, plain = random_graph(1, four=MIXED), random_graph(1)
    for graph, there in ((mixed, True), (plain, False)):
        save_graph(graph, tmp_path / "m.safetensors")
        again = load_graph(tmp_path / "m.safetensors")
        assert [n.weight_bits for n in matmuls(again)] == [n.weight_bits for n in matmuls(graph)]
        assert (b"weight_bits" in (tmp_path / "m.safetensors").read_bytes()) == there
        assert graph_hash(again) == graph_hash(graph)


def test_bits_of_shapes():
    shapes = shape_graph(2, 32, 2, 64, 17, 16, 10)
    graph = with_bits(shapes, {"blocks.0.attn.q": 4, "blocks.1.mlp.fc1": 3, "head": 6})
    few = [n.name for n in matmuls(graph) if n.nibbles]
    assert few == ["blocks.0.attn.q.h0", "blocks.0.attn.q.h1", "blocks.1.mlp.fc1"]
    mean, layers = average_bits(graph)
    weights = sum(n.weight.size for n in matmuls(graph))
    assert mean == pytest.approx(8 - (4 * 32 * 32 + 5 * 64 * 32 + 2 * 10 * 32) / weights)
    assert layers[4] == ["blocks.0.attn.q"] and layers[3] == ["blocks.1.mlp.fc1"] and layers[6] == ["head"]
    with pytest.raises(ValueError, match="layer 'blocks.2.attn.q' is none of"):
        with_bits(shapes, {"blocks.2.attn.q": 4})


# ---------------------------------------------------------------- memory image


@pytest.mark.parametrize("n, k", [(8, 16), (24, 20), (40, 64), (5, 9)])
def test_paired_rows(n, k):
    """Byte by byte, from the definition."""
    rng = np.random.default_rng(n)
    weight = rng.integers(-7, 8, (n, k)).astype(np.int8)
    rows = paired_rows(weight, W4)
    tiles, steps = -(-n // 8), -(-k // 8)
    assert rows.shape == (-(-tiles // 2) * steps, 64) and len(rows) <= (len(weight_rows(weight, W4)) + steps) / 2
    at = lambda r, c: int(weight[r, c]) if r < n and c < k else 0  # noqa: E731
    for (row, byte), value in np.ndenumerate(rows):
        (pair, step), (lane, i) = divmod(row, steps), divmod(byte, 8)
        low, high = at(16 * pair + lane, 8 * step + i), at(16 * pair + 8 + lane, 8 * step + i)
        assert value == (low & 15 | (high & 15) << 4)
    with pytest.raises(ValueError, match=r"must be in -7..7, have -8..\d"):
        paired_rows(weight - (weight == -7), W4)


def test_which_layers_are_paired():
    eight = matmuls(random_graph(1))[0]
    four = dataclasses.replace(eight, weight=eight.weight % 4, weight_bits=4)
    assert (paired(four, W4), paired(eight, W4), paired(four, TINY)) == (True, False, False)
    with pytest.raises(ValueError, match="w4 must be false with trio"):
        AcceleratorConfig(name="x", w4=True, trio=True, cores=4)


def test_memory_image_is_smaller():
    """Every paired layer takes half the weight bytes."""
    graph = random_graph(1, four=("blocks.*",))
    build, plain = compile_graph(graph, W4), compile_graph(graph, TINY)
    weights = lambda b: sum(p.beats for p in b.pieces if "weights" in p.name)  # noqa: E731
    ends = sum(p.beats for p in plain.pieces if p.name in ("embed:weights", "head:weights"))
    assert weights(build) == (weights(plain) - ends) / 2 + ends
    assert {i.op["w4"] for i in plain.programs[Chunk.MAT]} == {0}


def test_what_the_machine_does_not_use_is_said():
    graph = with_bits(shape_graph(2, 32, 2, 64, 17, 16, 10), {"blocks.0.mlp.fc1": 3, "blocks.1.mlp.fc1": 6})
    assert unused_bits(graph, W4).startswith(
        "weights of 6 bits in 1 nodes: preset tiny_w4 has 4 and 8 bits, so they run"
    )
    assert "weights of 3, 6 bits in 2 nodes: preset tiny has no w4, so they run" in unused_bits(graph, TINY)
    assert unused_bits(with_bits(graph, {"head": 4}), W4) == "" == unused_bits(with_bits(graph, {}), TINY)


# ---------------------------------------------------------------- emulator


@pytest.mark.parametrize("config", [W4, TINY], ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(4))
def test_random_network(config, seed):
    """Mixed bits, any legal order; on a machine without w4 the same values."""
    shape = ({}, dict(dim=24, mlp=40, classes=17, heads=3), dict(depth=1, mlp=24, patch_k=24), {})[seed]
    graph = random_graph(seed, four=("*",) if seed == 3 else MIXED, residual=("int12", "int8")[seed % 2], **shape)
    images = random_images(graph, 2)
    build = compile_graph(graph, config)
    golden = {k: np.asarray(v) for k, v in run(graph, images).items()}
    for i, result in enumerate(emulate(build, list(images), seed, 3)):
        for name, value in result.tensors.items():
            assert np.array_equal(golden[name][0 if name in graph.constants else i], value), name
        assert np.array_equal(golden[graph.output][i][0], result.logits)
    used = {i.op["w4"] for i in build.programs[Chunk.MAT]}
    assert used == ({0, 1} if config.w4 else {0})


# ---------------------------------------------------------------- cycles


def test_layer_at_twice_the_rate():
    """DeiT-Tiny's fc1, fc2 and proj: cycles of a W8 layer by those of the same W4 layer."""
    graph = shape_graph(1, *SHAPES["deit_tiny_patch16_224"][1:])
    parts = ("attn.proj", "mlp.fc1", "mlp.fc2")
    few = with_bits(graph, {f"blocks.0.{p}": 4 for p in parts})
    busy = []
    for g in (graph, few):
        info = estimate(compile_graph(g, PRESETS["p2vit_w4"]), 64, 100, 3)
        layers = {x["name"]: x for x in info["layers"] if x["chunk"] == "mat"}
        busy.append({name: x["busy"] for name, x in layers.items()})
        for p in parts:
            x = layers[f"blocks.0.{p}"]
            assert x["multipliers"] == (2048 if g is graph else 4096)
            assert 0.95 < x["macs"] / (x["multipliers"] * x["busy"]) <= 1 and x["utilization"] <= 1
        assert 0.5 < info["utilization"] <= 1
    for p in parts:
        assert 1.99 <= busy[0][f"blocks.0.{p}"] / busy[1][f"blocks.0.{p}"] <= 2.01


def test_shortened():
    """Of six blocks the first two and the last: what a model of three blocks has, as it stands there."""
    short, three = shortened(shape_graph(6, 32, 2, 128, 17, 16, 10), 3), shape_graph(3, 32, 2, 128, 17, 16, 10)
    for a, b in zip(short.nodes, three.nodes, strict=True):
        assert (a.name, a.role, a.out, a.inputs) == (b.name, b.role, b.out, b.inputs)
    assert short.tensors == three.tensors
    assert shortened(three, 3) is three


def test_predictor():
    """From shapes: fewer bits are never slower here, a short question equals a long one, sums of blocks come near."""
    shapes = shape_graph(3, 32, 2, 128, 17, 16, 10)
    predictor = CyclePredictor(shapes, W4)
    base = predictor.exact({})
    assert base == estimate(compile_graph(shapes, TINY), 16, 100, 3)["cycles"] == predictor.quick({})
    one = {"blocks.0.mlp.fc1": 4, "blocks.0.mlp.fc2": 4}
    every = {name.replace("0", str(b)): 4 for name in one for b in range(3)}
    assert predictor.exact(every) < predictor.exact(one) < base
    assert predictor.quick(every) == predictor.exact(every)
    assert abs(predictor.quick(one) / predictor.exact(one) - 1) < 0.03
    assert predict_cycles(shapes, W4, every) == predictor.exact(every)
    with pytest.raises(ValueError, match="layer 'x' is none of"):
        predictor.exact({"x": 4})
