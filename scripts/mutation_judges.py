"""Whole runs that judge mutants (scripts/mutation.py): the demo models, histories of jobs, faults of the system."""

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from faults import load

from vitforge_sim.compare.verify import verify
from vitforge_sim.mutation.whole import same_run
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.faults import table
from vitforge_sim.run.topbench import BenchProgram, MemorySettings
from vitforge_sw.compiler import CompileOptions, compile_graph
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph

IMAGES = 1
HISTORIES = 2
FAULTS = 6  #: every so manyth case of the table
#: of the memory: as fast as it can be, and slow with random stalls on every channel
MEMORIES = (
    MemorySettings(bandwidth=16),
    MemorySettings(
        bandwidth=16, jitter=50, stall_ar=60, stall_r=60, stall_aw=60, stall_w=60, stall_b=60, interleave=True
    ),
)
Judge = Callable[[BenchProgram], object]


@functools.cache
def demo_models() -> list:
    folder = Path(tempfile.mkdtemp(prefix="vitforge-mutation-"))
    make = load("tests/e2e/test_hybrid.py").Model.make
    wanted = ("digits_efficientvit", "trio"), ("digits_vit", "vitforge")
    return [make(name, scheme, folder / f"{name}_{scheme}") for name, scheme in wanted]


@functools.cache
def host_target():
    return load("tests/e2e/conftest.py").Digits(Path(tempfile.mkdtemp(prefix="vitforge-mutation-")))


@functools.cache
def odd_networks(config) -> list[tuple]:
    """(graph, build, patches): a ViT of a single group of tokens, an EfficientViT whose jobs hold two images."""
    small = dict(depth=1, dim=16, heads=1, mlp=16, tokens=4, patch_k=8, classes=3)
    vit, evit = random_graph(3, rule="log2", **small), random_efficientvit((8,) * 5, (1,) * 5, 8, (16, 16), 7, 3)
    found = []
    for graph, options in ((vit, CompileOptions()), (evit, CompileOptions(batch=2))):
        t = graph.tensors[graph.input]
        patches = np.random.default_rng(3).integers(-128, 128, (options.batch, t.tokens, t.channels)).astype(np.int8)
        found.append((graph, compile_graph(graph, config, options), patches))
    return found


def model_runs(config, bench: BenchProgram) -> list[Judge]:
    """Demo models with fast or with stalling memory, random networks of shapes that these do not have; every write
    compared with the run without a mutant, which is compared with the golden model here."""

    def model_run(graph, build, patches, settings):
        jobs = [build.pack_job(job) for job in build.jobs(patches)]

        def run(on: BenchProgram, most: int):
            return run_accelerator(
                on, config, build.memory_image, build.program_beats, jobs, build.result_bytes, settings=settings,
                watchdog=most,
            )  # fmt: skip

        want = run(bench, 1_000_000)
        assert verify(graph, build, patches, want, True).bit_exact
        return lambda on: same_run(want, run(on, 2 * want.bench.cycles))

    fast, stalled = MEMORIES
    evit, vit = [(m.graph, m.build, m.patches[:IMAGES]) for m in demo_models()]
    odd = [(*network, fast) for network in odd_networks(config)]
    return [model_run(*run) for run in ((*vit, fast), (*evit, fast), (*vit, stalled), *odd)]


def system_runs(config, bench: BenchProgram) -> list[Judge]:
    """A DRAM anywhere and histories of tests/e2e/test_host.py, and cases of vitforge_sim.run.faults."""
    digits = host_target()
    tests = load("tests/e2e/test_host.py")
    history = tests.test_any_history

    def on(bench: BenchProgram):
        other = copy.copy(digits)
        other.machine = copy.copy(digits.machine)
        other.machine.bench = bench
        return other

    def histories(bench):
        for seed in range(HISTORIES):
            history(on(bench), seed)

    def anywhere(bench):
        for seed in range(HISTORIES):
            tests.test_anywhere_in_64_bits_of_address(on(bench), seed)

    def faults(bench):
        for fault in table(digits)[::FAULTS]:
            fault.run(on(bench))

    return [anywhere, histories, faults]
