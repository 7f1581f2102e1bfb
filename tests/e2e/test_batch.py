"""Jobs of several images on the RTL of `tiny_hybrid`: every tensor of every image, wrong banks, a last job not full."""

import dataclasses
import re

import numpy as np
import pytest

from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge.simulation import prepare, simulate
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import TOKEN_SUM, Chunk
from vitforge_sim.compare.verify import verify
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.topbench import MemorySettings
from vitforge_sw.compiler import CompileOptions, compile_graph
from vitforge_sw.compiler.program.image import replace
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.golden import Golden

CONFIG = get_config("tiny_hybrid")
BATCH, IMAGES = 3, 4


@pytest.fixture(scope="module")
def model():
    """Graph, its build, input bytes."""
    graph = random_efficientvit((8, 16, 16, 16, 16), (1, 1, 1, 1, 1), 8, (24, 32), 37, 10)
    t = graph.tensors[graph.input]
    patches = np.random.default_rng(3).integers(-128, 128, (IMAGES, t.tokens, t.channels)).astype(np.int8)
    return graph, compile_graph(graph, CONFIG, CompileOptions(batch=BATCH)), patches


def test_every_tensor_of_every_image(model, tmp_path, capsys):
    graph, build, patches = model
    result = simulate(graph, build, patches, tmp_path, tensors=True, progress=True)
    assert "4 images are 2 jobs of 3: the last image is repeated 2 times" in capsys.readouterr().out
    info = result.info
    assert info["bit_exact"] and (info["images"], info["batch"]) == (IMAGES, BATCH)
    names = [t["name"] for t in info["tensors"]]
    assert all(names.count(n) == 1 for n in graph.tensors) and not any("@" in n for n in names)
    elements = {t["name"]: t["elements"] for t in info["tensors"]}
    for name, t in graph.tensors.items():
        assert elements[name] == 2 * BATCH * t.tokens * t.channels, name
    want = Golden(graph).run(patches)[graph.output].numpy()[:, 0]
    assert np.array_equal(result.verdict.rtl_logits, want)
    ends = [result.run.start_cycle, *result.run.image_end]
    assert len(ends) == 3 and info["steady_state_cycles"] == (ends[2] - ends[1]) / BATCH


@pytest.fixture(scope="module")
def deferred(model):
    graph, _, patches = model
    return graph, compile_graph(graph, CONFIG, CompileOptions(batch=BATCH, defer=True)), patches


def test_every_tensor_with_a_deferred_classifier(deferred, tmp_path, capsys):
    """The classifier's tensors of a job are compared in the next one; the results are those of the right images."""
    graph, build, patches = deferred
    result = simulate(graph, build, patches, tmp_path, tensors=True, progress=True)
    assert "3 jobs of 3, results a job later: the last image is repeated 5 times" in capsys.readouterr().out
    assert result.info["bit_exact"] and result.info["deferred"]
    elements = {t["name"]: t["elements"] for t in result.info["tensors"]}
    whole = {n.out.name for n in graph.nodes if n.name.startswith("head.classifier")}
    for name, t in graph.tensors.items():
        assert elements[name] == (2 if name in whole else 3) * BATCH * t.tokens * t.channels, name
    want = Golden(graph).run(patches)[graph.output].numpy()[:, 0]
    assert np.array_equal(result.verdict.rtl_logits, want)
    ends = result.run.image_end
    assert result.info["first_image_cycles"] == ends[1] - result.run.start_cycle


def test_estimate_of_a_model_in_jobs(capsys):
    model = shipped_model("digits_efficientvit").model
    found = {}
    for more in ([], ["--defer"]):
        assert main(["estimate", str(model), "--preset", "tiny_hybrid", "--batch", "4", *more]) == 0
        text = capsys.readouterr().out
        assert ("results come with the next job" in text) == bool(more) != ("backbone, from" in text)
        found[len(more)] = int(re.search(r"steady state (\d+) cycles", text)[1])
    assert found[1] < found[0]


def test_wrong_deferred_classifier_is_found(deferred, tmp_path):
    """The first image whose classifier shows the fault is the first one, though the first job shows it already."""
    verdict = _wrong(deferred, tmp_path, Chunk.LAYERNORM, lambda i, _: True, offset=9)
    assert (verdict.first.image, verdict.first.layer) == (0, "head.classifier.1")


def _wrong(model, tmp_path, chunk: Chunk, found, **op):
    """Verdict of a run whose program has one instruction of ``chunk`` changed; ``found``: which."""
    graph, build, patches = model
    number = next(n for n, (i, lab) in enumerate(zip(build.programs[chunk], build.labels[chunk])) if found(i, lab))
    old = build.programs[chunk][number]
    memory = replace(build.memory_image, chunk, number, dataclasses.replace(old, op=old.op | op), CONFIG)
    run = run_accelerator(
        prepare(build, tmp_path, "verilator", IMAGES), CONFIG, memory, build.program_beats,
        [build.pack_job(job) for job in build.jobs(patches)], build.result_bytes,
        settings=MemorySettings(bandwidth=CONFIG.beat_bytes),
    )  # fmt: skip
    return verify(graph, build, patches, run)


def test_wrong_bank_of_a_result_is_found(model, tmp_path):
    verdict = _wrong(model, tmp_path, Chunk.RESULT_DMA, lambda i, _: i.op["bank"] == 2, bank=1)
    assert verdict.first is not None and verdict.first.image == 2 and verdict.first.tensor == "logits in memory"
    assert np.array_equal(verdict.rtl_logits[:2], verdict.golden_logits[:2])


def test_wrong_bank_of_a_pooled_vector_is_found(model, tmp_path):
    """The second image's vector overwrites the third one's place, or is overwritten: the classifier's rows differ."""
    wrong = lambda i, lab: i.op.get("kind") == TOKEN_SUM and lab.tensor == "head.pool" and i.op["bank"] == 1  # noqa: E731
    verdict = _wrong(model, tmp_path, Chunk.RMAC, wrong, bank=3)
    assert verdict.first is not None and verdict.first.image == 1
    assert verdict.first.layer == "head.classifier.0" and "@" not in str(verdict.first)


def test_wrong_weights_of_one_image_are_found(model, tmp_path):
    """A later image's own instruction: image, layer and tensor are named as the model names them."""
    wrong = lambda i, lab: lab.layer == "stages.1.blocks.0.depth_conv" and lab.image == 2  # noqa: E731
    verdict = _wrong(model, tmp_path, Chunk.RMAC, wrong, act0=5)
    assert (verdict.first.image, verdict.first.layer) == (2, "stages.1.blocks.0.depth_conv")
    assert verdict.first.tensor == "stages.1.blocks.0.depth_conv"


def test_two_words_a_cycle_and_odd_cores(model, tmp_path):
    """pool_words 2, and taps of stride 2 in one cycle: every tensor of two images, with memories that give noise where
    their ports meet; cycles within 3 % (of 12,000) of the model, which has fewer than with a word a cycle."""
    graph, _, patches = model
    one = dataclasses.replace(CONFIG, name="one_word", cores=5, attention=False)
    two = dataclasses.replace(one, name="two_words", pool_words=2)
    build = compile_graph(graph, two)
    result = simulate(graph, build, patches[:2], tmp_path, tensors=True, collisions=True)
    assert result.info["bit_exact"]
    took = result.run.image_end[-1] - result.run.start_cycle
    cycles = [estimate(b, two.beat_bytes, images=2)["total_cycles"] for b in (build, compile_graph(graph, one))]
    assert abs(cycles[0] / took - 1) < 0.03 and cycles[0] < cycles[1]
