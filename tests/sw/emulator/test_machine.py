"""The emulator runs what the compiler encoded: equal to the golden model on every tensor, in any legal order."""

import numpy as np
import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import BlockSchedule, CompileOptions, compile_graph
from vitforge_sw.emulator import Machine, emulate
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.golden.model import run

TINY, TWO = PRESETS["tiny"], PRESETS["tiny_hybrid"]

ENGINES = (Chunk.MAT, Chunk.RMAC)


def check(graph, build, images, seed, depth=3):
    """Every tensor of every image against the golden model."""
    golden = {k: np.asarray(v) for k, v in run(graph, images).items()}
    for i, result in enumerate(emulate(build, list(images), seed, depth)):
        assert set(result.tensors) == set(graph.tensors)
        for name, value in result.tensors.items():
            want = golden[name][0 if name in graph.constants else i]
            assert np.array_equal(want, value), (name, np.argwhere(want != value)[0], seed)
        assert np.array_equal(golden[graph.output][i][0], result.logits)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("residual", "rule"), [("int12", "maxrel"), ("int8", "log2")])
def test_random_network(residual, rule, seed):
    graph = random_graph(seed, residual=residual, rule=rule)
    check(graph, compile_graph(graph, TINY), random_images(graph, 3), seed, depth=(3, 1, None)[seed])


def chosen(pipelining="both", engines="both", piece_rows=None, **blocks):
    """Options of one block schedule."""
    own = BlockSchedule(**blocks)
    return CompileOptions(pipelining=pipelining, engines=engines, piece_rows=piece_rows, blocks=own)


@pytest.mark.parametrize(
    "options",
    [
        chosen(),
        chosen(row_blocks=(2, 3), out_in_place=True, pos_in_place=True, v_slots=1, score_slots=1, key_slots=1),
        chosen(row_blocks=(1, 2, 2), weights_resident=False, piece_rows=12, hidden_block=True),
        chosen(input_over_hidden=True, piece_rows=20),
        chosen(row_blocks=(2, 1, 2), attend_lead=0.5),
        chosen(row_blocks=(2, 3), attend_lead=0.0),
        chosen(pipelining="none"),
        chosen(pipelining="inter", row_blocks=(2, 3)),
        chosen(pipelining="intra"),
    ],
)
def test_options_do_not_change_results(options):
    graph = random_graph(5)
    check(graph, compile_graph(graph, TINY, options), random_images(graph, 2), 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("residual", "rule"), [("int12", "maxrel"), ("int8", "log2")])
def test_two_engines(residual, rule, seed):
    graph = random_graph(seed, residual=residual, rule=rule, tokens=(17, 30, 33)[seed], classes=(10, 8, 20)[seed])
    build = compile_graph(graph, TWO)
    steps = {c: sum(i.rows * i.op["tiles"] * i.op["ksteps"] for i in build.programs[c]) for c in ENGINES}
    assert 0.35 < steps[Chunk.RMAC] / sum(steps.values()) < 0.5
    check(graph, build, random_images(graph, 3), seed, depth=(3, 1, None)[seed])


TOGETHER = dict(heads_together=True, row_blocks=(2, 1, 2))


@pytest.mark.parametrize(
    "options",
    [
        chosen(),
        chosen(engines="mat"),
        chosen(row_blocks=(3, 2), v_slots=1, score_slots=1, key_slots=1, out_in_place=True),
        chosen(**TOGETHER),
        chosen(**TOGETHER, proj_ahead=True, embed_beside=True, pos_in_place=True),
        chosen(**TOGETHER, proj_ahead=True, embed_beside=True, weights_resident=False, piece_rows=30),
        chosen(pipelining="none"),
        chosen(pipelining="inter", row_blocks=(2, 3)),
        chosen(pipelining="intra"),
    ],
)
def test_options_of_two_engines(options):
    graph = random_graph(5)
    check(graph, compile_graph(graph, TWO, options), random_images(graph, 2), 1)


def test_tokens_that_fill_their_groups():
    graph = random_graph(4, tokens=32, heads=4)
    check(graph, compile_graph(graph, TINY), random_images(graph, 2), 2)


def test_p2vit_preset():
    graph = random_graph(6, depth=1, dim=64, heads=2, mlp=128, tokens=27, patch_k=48, classes=20)
    check(graph, compile_graph(graph, PRESETS["p2vit"]), random_images(graph, 2), 3)


@pytest.mark.slow
def test_deit_tiny_block():
    graph = random_graph(8, depth=1, dim=192, heads=3, mlp=768, tokens=197, patch_k=768, classes=1000)
    check(graph, compile_graph(graph, PRESETS["p2vit"]), random_images(graph, 1), 4)


def test_wrong_weight_is_seen():
    graph = random_graph(1)
    build = compile_graph(graph, TINY)
    images = list(random_images(graph, 1))
    piece = next(p for p in build.pieces if p.name == "blocks.1.mlp.fc1:weights")
    memory = bytearray(build.memory_image)
    memory[piece.beat * TINY.beat_bytes] ^= 0x40  # one master: DRAM order is plain
    first = emulate(build, images)[0].tensors
    second = Machine(build, memory_image=bytes(memory)).run(images)[0].tensors
    changed = [n for n in first if not np.array_equal(first[n], second[n])]
    assert changed and all(n.startswith(("blocks.1.mlp", "norm", "head")) for n in changed)
