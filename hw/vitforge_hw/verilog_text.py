"""Verilog as linters want it: operands of equal width, reductions instead of ``!``, a default in every case.

Amaranth's back end shortens zero- and sign-extended operands (``a + b`` of 20 and 5 bits), its Yosys pass writes
``x == 0`` as ``! x`` and FSMs without a default. All are right, but each is a warning of Verilator's WIDTH and
CASEINCOMPLETE checks, which find real mistakes elsewhere and therefore stay on.
"""

import contextlib
import re

from amaranth.back import rtlil


@contextlib.contextmanager
def full_width():
    """Inside, the back end keeps operands at their full width, except of multiplications (their width is cost)."""
    emitter = rtlil.ModuleEmitter
    emit, shorten = emitter.emit_operator, emitter.shorten_operand
    keep = False

    def emit_operator(self, index, cell):
        nonlocal keep
        keep = cell.operator != "*"
        return emit(self, index, cell)

    def shorten_operand(self, value, *, signed):
        return value if keep else shorten(self, value, signed=signed)

    emitter.emit_operator, emitter.shorten_operand = emit_operator, shorten_operand
    try:
        yield
    finally:
        emitter.emit_operator, emitter.shorten_operand = emit, shorten


_NOT = re.compile(r"= ! (?=[^;]*;)")
_CASE = re.compile(r"^\s*(?:\(\*.*\*\) *)*case[xz]? \(")


def tidy(text: str) -> str:
    """``! x`` as reduction NOR; an empty default where a case has none (what it assigns has a default before it)."""
    lines, has_default = [], []
    for line in _NOT.sub("= ~| ", text).split("\n"):
        word = line.strip()
        if _CASE.match(line):
            has_default.append(False)
        elif has_default and word.startswith("default"):
            has_default[-1] = True
        elif word == "endcase" and not has_default.pop():
            lines.append(f"{line[: len(line) - len(line.lstrip())]}  default: begin end")
        lines.append(line)
    return "\n".join(lines)
