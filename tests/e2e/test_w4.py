"""Networks of 4- and 8-bit weights on the emitted `tiny_w4` RTL: every tensor, cycles, mutants of the cell."""

import numpy as np
import pytest

from vitforge.shipped import shipped_model
from vitforge.simulation import prepare
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import Chunk
from vitforge_sim.compare.verify import verify
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.topbench import BenchProgram, MemorySettings
from vitforge_sw.compiler import compile_graph
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.families.vit.bits import average_bits
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.models.resolve import resolve_model

CONFIG, PLAIN = get_config("tiny_w4"), get_config("tiny")
IMAGES, LATENCY = 4, 100
MIXED = (
    ("blocks.1.attn.[kv]", 4),
    ("*.attn.proj", 4),
    ("blocks.0.mlp.fc2", 6),
    ("blocks.2.mlp.fc?", 3),
    ("*.mlp.fc?", 4),
)


@pytest.fixture(scope="module")
def mixed():
    """The shipped digits ViT with weights of 3, 4 and 6 bits in some layers, and images."""
    paths = shipped_model("digits_vit")
    spec = resolve_model(str(paths.model))
    model, image = load_model(spec, paths.checkpoint)
    calib = load_patches(list_images(paths.calib)[:32], image)
    scheme = get_scheme("vitforge", layer_wbits=MIXED)
    graph = quantize_model(model, spec, image, scheme, calib, progress=False)
    return graph, load_patches(list_images(paths.test)[:IMAGES], image)


@pytest.fixture(scope="module")
def bench(mixed, tmp_path_factory) -> BenchProgram:
    return prepare(compile_graph(mixed[0], CONFIG), tmp_path_factory.mktemp("rtl"), "verilator", IMAGES)


def simulated(bench, graph, patches):
    """(build, run); every tensor of every image equals the golden model's."""
    build = compile_graph(graph, CONFIG)
    run = run_accelerator(
        bench, CONFIG, build.memory_image, build.program_beats, [build.pack_image(p) for p in patches],
        build.result_bytes, settings=MemorySettings(bandwidth=CONFIG.beat_bytes, latency=LATENCY), watchdog=300_000,
    )  # fmt: skip
    verdict = verify(graph, build, patches, run)
    assert verdict.bit_exact, verdict.first
    found = {t.name: t for t in verdict.tensors}
    for tensor, info in graph.tensors.items():
        if info.fmt != "code4":
            assert found[tensor].elements == len(patches) * info.tokens * info.channels, tensor
    assert np.ptp(verdict.rtl_logits) > 200
    return build, run


def test_digits(mixed, bench):
    """Weights of all widths, alive, all tensors; cycles of the model; fewer of them than with weights of 8 bits."""
    graph, patches = mixed
    mean, layers = average_bits(graph)
    assert "embed" in layers[8] and "blocks.0.mlp.fc1" in layers[4] and 4.5 < mean < 6
    assert layers[6] == ["blocks.0.mlp.fc2"] and layers[3] == ["blocks.2.mlp.fc1", "blocks.2.mlp.fc2"]
    build, run = simulated(bench, graph, patches)
    assert sum(i.op["w4"] for i in build.programs[Chunk.MAT]) > 8
    done = run.image_end
    steady = (done[-1] - done[0]) / (len(done) - 1)
    model = estimate(build, CONFIG.beat_bytes, LATENCY, IMAGES)["cycles"]
    assert abs(steady / model - 1) < 0.01, (steady, model)
    wide = estimate(compile_graph(graph, PLAIN), PLAIN.beat_bytes, LATENCY, IMAGES)["cycles"]
    assert model < 0.95 * wide, (model, wide)


@pytest.mark.parametrize("seed", range(3))
def test_random_networks(bench, seed):
    """Odd numbers of tiles, single steps, every layer or some of 4 bits."""
    shape = (dict(dim=24, mlp=40, classes=17, heads=3), dict(dim=8, heads=1, mlp=24, patch_k=8), {})[seed]
    four = (("*.q", "*.mlp.fc1", "*.proj", "head"), ("*",), ("blocks.0.*", "embed"))[seed]
    graph = random_graph(seed, four=four, residual=("int8", "int12")[seed % 2], **shape)
    simulated(bench, graph, random_images(graph, 2))
