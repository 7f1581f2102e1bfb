"""Proves the assertions of a module: Yosys turns it into clauses and asks its SAT solver.

An induction proves a property for all time; without it the property holds for the given number of cycles after reset.
"""

import re
import tempfile
from pathlib import Path

from amaranth.back import rtlil

from ..synth import yosys

PREPARE = (
    "read_rtlil design.il", "hierarchy -top formal", "prep -flatten", "async2sync", "memory_map", "opt -full",
    "dffunmap", "opt_clean",
)  # fmt: skip


class Refuted(AssertionError):
    """A property does not hold, or the induction does not close; the message says in which cycle, and the inputs."""


def prove(module, ports, depth: int, induction: bool = True) -> None:
    """Check every Assert of ``module`` (an Elaboratable with free inputs ``ports``), and that its assumptions leave
    something to check.

    depth : cycles after reset that are searched; with ``induction`` its longest
    Raises Refuted, SynthesisError.
    """
    kind = "-tempinduct" if induction else "-tempinduct -tempinduct-baseonly"
    with tempfile.TemporaryDirectory(prefix="vitforge-formal-") as temporary:
        folder = Path(temporary)
        (folder / "design.il").write_text(rtlil.convert(module, ports=ports, name="formal", emit_src=False))
        possible = f"sat -seq {depth} -set-assumes -show-inputs"
        proof = f"sat {kind} -prove-asserts -set-assumes -show-inputs -maxsteps {depth}"
        log = yosys.run([*PREPARE, possible, proof], folder)
    if "model found:" not in log:
        raise Refuted(f"Assumptions contradict each other within {depth} cycles: everything would hold")
    log = log[log.index("Executing SAT pass", log.index("model found:")) :]
    if "SUCCESS!" not in log:
        steps = re.findall(r"^Base case for induction length (\d+) proven", log, re.M)
        shown = log[log.find("  Time Signal Name") :] if "  Time Signal Name" in log else ""
        raise Refuted(f"Assert failed in cycle {len(steps) + 1}, or no induction of {depth} cycles:\n{shown[:3000]}")
