"""Wrong operators in the emitted Verilog: text changes, all in one build, the plusarg `mutant` chooses one."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from .topbench import MemorySettings


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One operator made wrong.

    module: beginning of the module's name. line: regular expression of the right-hand side, with one group around what
    changes; wrong: what stands there instead (``\\1`` is what stood there). place: regular expression that the first
    mismatch's "layer tensor" must match whole: the values that this operator makes, not what follows from them.
    """

    name: str
    module: str
    line: str
    wrong: str
    place: str


def mutate(sources: Mapping[str, str], mutants: Sequence[Mutant]) -> dict[str, str]:
    """The sources with every mutant in them; 0 chooses none, n the nth. AssertionError where a line is not found."""
    changed = dict(sources)
    for number, mutant in enumerate(mutants, 1):
        head = re.compile(rf"^module {mutant.module}\w*\(.*?\);\n", re.M | re.S)
        found = 0
        for name, text in changed.items():
            for module in list(head.finditer(text)):
                end = text.index("\nendmodule", module.start())
                body = text[module.end() : end]
                line = re.compile(rf"^  assign (\S+) +=( )(?={mutant.line};$).*;$", re.M)
                match = line.search(body)
                if match is None or found:
                    continue
                found += 1
                right = match[0].split("= ", 1)[1].rstrip(";")
                inner = re.fullmatch(mutant.line, right)
                wrong = right[: inner.start(1)] + inner.expand(mutant.wrong) + right[inner.end(1) :]
                target = f"  assign {match[1]} {'' if match[1].startswith(chr(92)) else ''}"
                new = f"{target} = vf_mutant == {number} ? {wrong} : {right};"
                body = body[: match.start()] + new + body[match.end() :]
                if "vf_mutant;" not in body:
                    body = (
                        "  integer vf_mutant;\n"
                        '  initial if (!$value$plusargs("mutant=%d", vf_mutant)) vf_mutant = 0;\n' + body
                    )
                changed[name] = text[: module.end()] + body + text[end:]
                break
        assert found, f"mutant {mutant.name!r}: no line of {mutant.module}* matches {mutant.line!r}"
    return changed


@dataclasses.dataclass(frozen=True)
class Mutated(MemorySettings):
    """Memory settings that carry the number of the mutant."""

    mutant: int = 0
