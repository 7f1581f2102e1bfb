"""EfficientViT programs in the emulator: equal to the golden model on every tensor, in any legal order."""

import dataclasses

import numpy as np
import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import KEY_VALUE, Chunk
from vitforge_sw.compiler import OrderError, compile_graph, prove
from vitforge_sw.compiler.program.image import replace
from vitforge_sw.emulator import Machine, differences, emulate, holds_for
from vitforge_sw.families.efficientvit.random import random_efficientvit, random_named
from vitforge_sw.families.vit.random import random_images
from vitforge_sw.golden.model import run
from vitforge_sw.ops import KeyValue, TokenSum

TINY = PRESETS["tiny_hybrid"]
SMALL = dict(widths=(8, 16, 16, 16, 32), depths=(1, 1, 1, 1, 1), head_dim=8, head_widths=(32, 48), size=48, classes=10)


def check(graph, build, count, seed, depth=3):
    """Every tensor of every image, Z and Ksum included."""
    images = random_images(graph, count)
    golden = {k: np.asarray(v) for k, v in run(graph, images).items()}
    for i, result in enumerate(emulate(build, list(images), seed, depth)):
        assert set(result.tensors) == set(graph.tensors)
        for name, value in result.tensors.items():
            want = golden[name][i]
            assert want.shape == value.shape, name
            assert np.array_equal(want, value), (name, np.argwhere(want != value)[0], seed)
        assert np.array_equal(golden[graph.output][i][0], result.logits)


@pytest.mark.parametrize(("seed", "size", "rule"), [(0, 48, "reciprocal"), (1, 40, "log2"), (2, 51, "reciprocal")])
def test_random_network(seed, size, rule):
    graph = random_efficientvit(**(SMALL | dict(size=size)), seed=seed, rule=rule)
    check(graph, compile_graph(graph, TINY), 2, seed, depth=(3, 1, None)[seed])


@pytest.mark.parametrize("preset", ["trio", "hybrid"])
def test_presets(preset):
    shape = dict(widths=(16, 16, 32, 32, 64), depths=(1, 1, 1, 1, 1), head_dim=16, head_widths=(64, 96), classes=20)
    graph = random_efficientvit(**shape, size=64)
    check(graph, compile_graph(graph, PRESETS[preset]), 2, 3)


@pytest.fixture(scope="module")
def small():
    graph = random_efficientvit(**SMALL, seed=4)
    return graph, compile_graph(graph, TINY)


def test_expected_writes_agree_with_the_places(small):
    """Every row of every tensor in the activation buffer once, at its place."""
    graph, build = small
    seen = set()
    for chunk in Chunk:
        for w in build.writes(chunk):
            key = (w.tensor, w.group, w.block, w.plane)
            assert key not in seen
            seen.add(key)
            place = build.places[w.tensor]
            offset = w.address - (place.address + w.group * place.stride + w.block * place.planes + w.plane)
            assert offset == 0 or place.restarts
    elsewhere = {n.out.name for n in graph.nodes if isinstance(n, KeyValue) or isinstance(n, TokenSum) and n.keys}
    tensors = {k[0] for k in seen}
    assert tensors == set(graph.tensors) - elsewhere
    for name in tensors:
        t, planes = graph.tensors[name], build.places[name].planes
        groups = t.height * -(-t.width // TINY.cores) if t.width else -(-t.tokens // TINY.cores)
        assert sum(k[0] == name for k in seen) == groups * -(-t.channels // TINY.word) * planes, name


def test_image_bytes(small):
    graph, build = small
    assert len(build.pack_image(random_images(graph, 1)[0])) == build.image_bytes


def test_deleted_waits_are_races_that_the_emulator_shows(small):
    """A sample of the waits, all of those that K^T V and depthwise instructions have."""
    graph, build = small
    images = list(random_images(graph, 2))
    reference = emulate(build, images)
    waits = [(c, n, w) for c in Chunk for n, i in enumerate(build.programs[c]) for w in range(len(i.waits))]
    special = [x for x in waits if x[0] == Chunk.RMAC and build.programs[x[0]][x[1]].op["kind"] == KEY_VALUE]
    for chunk, number, wait in [*waits[:: len(waits) // 8], *special[:6]]:
        old = build.programs[chunk][number]
        new = dataclasses.replace(old, waits=old.waits[:wait] + old.waits[wait + 1 :])
        programs = build.programs | {chunk: [*build.programs[chunk]]}
        programs[chunk][number] = new
        with pytest.raises(OrderError) as caught:
            prove(programs, build.labels, TINY)
        memory = replace(build.memory_image, chunk, number, new, TINY)
        got = Machine(build, seed=number, depth=None, memory_image=memory).run(images, holds_for(caught.value))
        assert differences(got, reference, build.output), f"{chunk.name} {number} wait {wait}: {caught.value}"


@pytest.mark.slow
def test_efficientvit_b1():
    graph = random_named("efficientvit_b1")
    check(graph, compile_graph(graph, PRESETS["trio"]), 1, 5)
