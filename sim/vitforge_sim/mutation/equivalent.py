"""Which mutants change nothing: Yosys proves it, from any state by one call of its solver, or by induction.

A mutant for which that closes is equivalent and counts no more; one that differs in a state that never is may stay a
survivor.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..synth import yosys
from .make import PREPARE, Mutation, inside, stubs

#: registers and ports of blocks that are cut out become ports; outputs and what registers take next must be equal
FROM_ANY_STATE = (
    "expose -evert -evert-dff -shared -sep ~ gold gate", "miter -equiv -flatten -make_assert gold gate miter",
    "hierarchy -top miter", "opt_expr", "opt_merge -share_all", "opt_clean",
    "sat -verify -prove-asserts -set-def-inputs miter",
)  # fmt: skip
#: only registers and ports keep names: these both must agree on, and not the mutated wire
BY_INDUCTION = (
    "splitnets gold gate",
    "select -set kept gold/t:$*dff* gate/t:$*dff* %u %co:+[Q] w:* %i",
    "rename -hide gold/w:* gate/w:* %u @kept %d x:* %d",
    "equiv_make gold gate equiv", "hierarchy -top equiv", "opt_expr", "opt_merge -share_all", "opt_clean",
    "equiv_simple -seq 2", "equiv_induct -seq 2", "equiv_status -assert",
)  # fmt: skip
#: likewise, bit by bit, without the bits of registers that nothing reads: these need not agree
OF_READ_BITS = (
    "setattr -unset init gold/w:* gate/w:*", "simplemap gold gate", "opt_clean -purge gold gate",
    *(line.replace("$*dff*", "$_DFF*") for line in BY_INDUCTION),
)  # fmt: skip
#: likewise, adders in gates: a count of which only the lower bits are read
IN_GATES = tuple(line.replace("simplemap", "techmap") for line in OF_READ_BITS)
LARGEST = 400_000  #: characters of Verilog of a block with everything in it, above which what is in it is cut out
SECONDS = 20  #: for one proof
#: what the proofs say of mutants that they do not prove: other errors are faults
NOT_PROVED = ("proof did fail", "No SAT model", "unproven $equiv", "no answer", "Unable to import cell")


def equivalent(sources: Mapping[str, str], mutation: Mutation) -> bool:
    """Is ``mutation`` of its block (of ``sources``, as `mutate_block` took it) proved to change nothing?

    First with the blocks inside cut out (what they are given must be equal, what they give is free), then, where they
    are small, with them in it: an operand that a multiplier does not look at changes nothing.
    The proofs know no clock: a mutant of one is never proved. Raises SynthesisError.
    """
    if re.search(r"-port \S*clk", mutation.command, re.I):
        return False
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
            for proof in (OF_READ_BITS, FROM_ANY_STATE, BY_INDUCTION, IN_GATES):
                try:
                    yosys.run([*start, *way, "memory_map", "opt_clean", *proof], folder, SECONDS)
                except yosys.SynthesisError as error:
                    if not any(said in str(error) for said in NOT_PROVED):
                        raise
                else:
                    return True
    return False
