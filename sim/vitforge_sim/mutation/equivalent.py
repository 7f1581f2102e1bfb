"""Which mutants change nothing: Yosys proves the mutant equal to its block, register by register, by induction.

A mutant for which that closes is equivalent and counts no more; one that differs in a state that never is may stay a
survivor.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..synth import yosys
from .make import PREPARE, Mutation, inside, stubs

#: only registers (memories as such) and ports keep names: these both must agree on, and not the mutated wire
NAMES = (
    "memory_map", "opt_clean", "splitnets gold gate",
    "select -set kept gold/t:$*dff* gate/t:$*dff* %u %co:+[Q] w:* %i",
    "rename -hide gold/w:* gate/w:* %u @kept %d x:* %d",
)  # fmt: skip
EQUAL = ("equiv_make gold gate equiv", "hierarchy -top equiv", "equiv_simple -seq 2", "equiv_induct -seq 2")
LARGEST = 400_000  #: characters of Verilog of a block with everything in it, above which what is in it is cut out


def equivalent(sources: Mapping[str, str], mutation: Mutation) -> bool:
    """Is ``mutation`` of its block (of ``sources``, as `mutate_block` took it) proved to change nothing?

    First with the blocks inside cut out (what they are given must be equal, what they give is free), then, where they
    are small, with them in it: an operand that a multiplier does not look at changes nothing.
    Raises SynthesisError.
    """
    block, within = mutation.block, inside(sources, mutation.block)
    ways: list[list[str]] = [[]]
    if within and sum(len(sources[f"{name}.v"]) for name in [block, *within]) < LARGEST:
        ways.append([*(f"read_verilog -overwrite {name}.v" for name in within), "proc", "flatten gold gate"])
    with tempfile.TemporaryDirectory(prefix="vitforge-equivalent-") as temporary:
        folder = Path(temporary)
        start = [*stubs(sources, block, folder), "read_verilog block.v", f"hierarchy -top {block}", *PREPARE]
        start += [f"copy {block} gold", f"mutate {mutation.command}", f"rename {block} gate"]
        (folder / "block.v").write_text(sources[f"{block}.v"])  # the name that the mutation's cells are called after
        for name in within:
            (folder / f"{name}.v").write_text(sources[f"{name}.v"])
        for way in ways:
            try:
                log = yosys.run([*start, *way, *NAMES, *EQUAL, "equiv_status"], folder)
            except yosys.SynthesisError as error:
                if "No SAT model" not in str(error):  # what differs goes through a block that is cut out
                    raise
            else:
                if "Equivalence successfully proven!" in log:
                    return True
    return False
