"""Whole runs that judge mutants (scripts/mutation.py): the demo models, histories of jobs, faults of the system."""

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from faults import load

from vitforge_sim.compare.verify import verify
from vitforge_sim.mutation.whole import same_run
from vitforge_sim.run.accelerator import run_accelerator
from vitforge_sim.run.faults import table
from vitforge_sim.run.topbench import BenchProgram, MemorySettings

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


def model_runs(config, bench: BenchProgram) -> list[Judge]:
    """Demo models with fast or with stalling memory, every write compared with the run without a mutant, which is
    compared with the golden model here."""

    def model_run(model, settings):
        build = model.build
        jobs = [build.pack_job(job) for job in build.jobs(model.patches[:IMAGES])]

        def run(on: BenchProgram, most: int):
            return run_accelerator(
                on, config, build.memory_image, build.program_beats, jobs, build.result_bytes, settings=settings,
                watchdog=most,
            )  # fmt: skip

        want = run(bench, 1_000_000)
        assert verify(model.graph, build, model.patches[:IMAGES], want, True).bit_exact
        return lambda on: same_run(want, run(on, 2 * want.bench.cycles))

    fast, stalled = MEMORIES
    evit, vit = demo_models()
    return [model_run(*pair) for pair in ((vit, fast), (evit, fast), (vit, stalled))]


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
