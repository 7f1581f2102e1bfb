"""Mutants in the whole design: one bench of the top level that has the mutants of many blocks, judged by whole runs.

A judge is what tests do with a bench: it runs it, and raises where anything is wrong.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig

from ..run.accelerator import AcceleratorRun, all_monitors
from ..run.topbench import BenchProgram, SimulationError, build_bench
from .make import PACKAGE

READ = '  initial if (!$value$plusargs("mutant=%d", vf_mutation::number)) vf_mutation::number = 0;\n'
HEADER = re.compile(r"^module vitforge_top\(.*?\);\n", re.M | re.S)
SLOWER = 0.01  #: of the cycles: what the tests of the cycle model see


class Differs(AssertionError):
    """A run with a mutant is not the run without one; the message says in what."""


def build(config: AcceleratorConfig, sources: Mapping[str, str], mutated: Mapping[str, str], memory: int):
    """The bench of ``sources`` in which the blocks of ``mutated`` (name -> Verilog) stand for their own.

    memory: bytes of DRAM. Raises BuildError.
    """
    changed = {"vf_mutation.sv": PACKAGE}
    for name, text in sources.items():
        changed[name.replace(".v", ".sv")] = mutated.get(name.removesuffix(".v"), text)
    changed["vitforge_top.sv"] = HEADER.sub(lambda header: header[0] + READ, changed["vitforge_top.sv"])
    return build_bench("verilator", changed, monitors=all_monitors(config), memory_bytes=memory)


def with_mutant(bench: BenchProgram, number: int) -> BenchProgram:
    """The same bench, mutant ``number`` switched on in every run (0: none)."""
    command = (*bench.program.command, f"+mutant={number}")
    return dataclasses.replace(bench, program=dataclasses.replace(bench.program, command=command))


def same_run(want: AcceleratorRun, got: AcceleratorRun):
    """Raises Differs unless results and every monitored write are the same in their order, the cycles within SLOWER."""
    for name, records in want.bench.monitors.items():
        if name in ("timeline", "array", "rmac_array", "image_end"):  # of cycles
            continue
        other = got.bench.monitors[name]
        if len(records) != len(other):
            raise Differs(f"{name}: {len(other)} writes, not {len(records)}")
        for field in ("addr", "data"):
            if not np.array_equal(records[field], other[field]):
                raise Differs(f"{name}: {field} of a write")
    if want.bench.attributes != got.bench.attributes:
        raise Differs(f"attributes {got.bench.attributes}, not {want.bench.attributes}")
    if not np.array_equal(want.results, got.results):
        raise Differs("results")
    if abs(got.bench.cycles - want.bench.cycles) > SLOWER * want.bench.cycles:
        raise Differs(f"{got.bench.cycles} cycles, not {want.bench.cycles}")


def judge(bench: BenchProgram, judges: Sequence[Callable[[BenchProgram], object]], number: int) -> str | None:
    """What the first judge that objects says of mutant ``number``; None if all are content.

    Any other exception is no verdict on the mutant and goes on.
    """
    switched = with_mutant(bench, number)
    for one in judges:
        try:
            one(switched)
        except (AssertionError, SimulationError) as error:
            return f"{one.__name__}: {type(error).__name__}: {error}".replace("\n", " ")[:120]
    return None
