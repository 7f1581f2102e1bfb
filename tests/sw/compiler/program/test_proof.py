"""The order proof: holds for compiled programs, fails for each deleted wait and for rings that are too small."""

import dataclasses

import pytest

from vitforge_hw.arch.config import PRESETS, AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import DeadlockError, OrderError, compile_graph, prove
from vitforge_sw.compiler.program.image import replace
from vitforge_sw.emulator import Machine, differences, emulate, holds_for
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.families.vit.shapes import SHAPES, shape_graph

TINY = PRESETS["tiny"]


def without(build, chunk, number, wait):
    """(programs, changed instruction) without one wait."""
    old = build.programs[chunk][number]
    new = dataclasses.replace(old, waits=old.waits[:wait] + old.waits[wait + 1 :])
    programs = dict(build.programs)
    programs[chunk] = [*programs[chunk][:number], new, *programs[chunk][number + 1 :]]
    return programs, new


def waits_of(build):
    return [(c, n, w) for c in Chunk for n, i in enumerate(build.programs[c]) for w in range(len(i.waits))]


def test_every_deleted_wait_is_a_race_that_the_emulator_shows():
    graph = random_graph(depth=1)
    build = compile_graph(graph, TINY)
    images = list(random_images(graph, 2))
    reference = emulate(build, images)
    for chunk, number, wait in waits_of(build):
        programs, changed = without(build, chunk, number, wait)
        with pytest.raises(OrderError, match=r"order: (read|write) of .* row .* and (read|write) of .*") as caught:
            prove(programs, build.labels, TINY)
        assert caught.value.first.text in str(caught.value) and caught.value.second.text in str(caught.value)
        memory = replace(build.memory_image, chunk, number, changed, TINY)
        got = Machine(build, seed=number, depth=None, memory_image=memory).run(images, holds_for(caught.value))
        assert differences(got, reference, build.output), f"{chunk.name} {number} wait {wait}: {caught.value}"


@pytest.mark.parametrize("shape", [dict(depth=1, heads=1), dict(depth=2, heads=4, tokens=33), dict(tokens=64)])
def test_waits_are_irredundant(shape):
    sizes = dict(depth=1, dim=32, heads=2, mlp=64, tokens=17, patch_k=16, classes=10) | shape
    build = compile_graph(shape_graph(**sizes), TINY)
    for chunk, number, wait in waits_of(build):
        with pytest.raises(OrderError):
            prove(without(build, chunk, number, wait)[0], build.labels, TINY)


def test_deadlock_named():
    build = compile_graph(random_graph(), TINY)
    small = AcceleratorConfig(**(dataclasses.asdict(TINY) | {"name": "s", "max_tokens": 1, "code_rows": 1}))
    with pytest.raises(DeadlockError, match="SOFTMAX blocks.0.attn.softmax.h0 .* waits for room in the code ring"):
        prove(build.programs, build.labels, small)


def test_deit_tiny_is_proved():
    build = compile_graph(shape_graph(*SHAPES["deit_tiny_patch16_224"]), PRESETS["p2vit"])
    assert build.prove().rows == 2 * sum(i.rows for p in build.programs.values() for i in p)
