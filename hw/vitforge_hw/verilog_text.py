"""Verilog as linters and readers want it: operands of equal width, reductions instead of ``!``, a default in every
case, memories cleared by one loop, plain module names.

Amaranth's back end shortens zero- and sign-extended operands (``a + b`` of 20 and 5 bits), its Yosys pass writes
``x == 0`` as ``! x`` and FSMs without a default. All are right, but each is a warning of Verilator's WIDTH and
CASEINCOMPLETE checks, which find real mistakes elsewhere and therefore stay on.
"""

import contextlib
import re

from amaranth.back import rtlil

_open = False  # inside back_end()


@contextlib.contextmanager
def back_end():
    """Inside, Amaranth's back end keeps operands at their full width, except of multiplications (their width is cost),
    shifts parts out of a signal at its full width, and writes no contents for memories of zeros: :func:`tidy` adds a
    loop, much shorter than a line per row."""
    global _open
    if _open:
        yield
        return
    emitter = rtlil.ModuleEmitter
    emit, shorten, fill, part = emitter.emit_operator, emitter.shorten_operand, emitter.emit_memory, emitter.emit_part
    keep = False

    def emit_operator(self, index, cell):
        nonlocal keep
        keep = cell.operator != "*"
        return emit(self, index, cell)

    def shorten_operand(self, value, *, signed):
        return value if keep else shorten(self, value, signed=signed)

    def emit_memory(self, index, cell):
        if any(cell.init):
            fill(self, index, cell)

    def emit_part(self, index, cell):
        result, width = self.cell_wires[index], cell.width
        if len(cell.value) <= width:
            return part(self, index, cell)
        shifted = self.cell_wires[index] = self.builder.wire(len(cell.value))
        cell.width = len(cell.value)
        part(self, index, cell)
        self.cell_wires[index], cell.width = result, width
        self.builder.connect(result.name, f"{shifted.name} [{width - 1}:0]")

    emitter.emit_operator, emitter.shorten_operand, emitter.emit_memory = emit_operator, shorten_operand, emit_memory
    emitter.emit_part = emit_part
    _open = True
    try:
        yield
    finally:
        emitter.emit_operator, emitter.shorten_operand, emitter.emit_memory = emit, shorten, fill
        emitter.emit_part = part
        _open = False


def flat_module_names(text: str, name: str) -> str:
    """RTLIL with submodules ``name.a.b`` renamed ``name_a_b``. Raises ValueError if two names become one."""
    modules = re.findall(r"^module \\(\S+)$", text, re.M)
    flat = {module: re.sub(r"\W", "_", module) for module in modules}
    if len(set(flat.values())) != len(modules):
        raise ValueError(f"{name}: submodule names must differ in letters and digits, not {sorted(modules)}")

    def rename(match):
        return match[1] + flat.get(match[2], match[2])

    return re.sub(r"^((?:module|  cell) \\)(\S+)", rename, text, flags=re.M)


_MODULE = re.compile(r"^((?:\(\*[^\n]*\*\)\n)*)module (\w+)\(.*?^endmodule\n", re.M | re.S)


def split_modules(text: str) -> list[tuple[str, str]]:
    """(name, text) of every module in a Verilog file that Yosys wrote."""
    return [(match[2], match[0]) for match in _MODULE.finditer(text)]


_NOT = re.compile(r"= ! (?=[^;]*;)")
_CASE = re.compile(r"^\s*(?:\(\*.*\*\) *)*case[xz]? \(")
_MEMORY = re.compile(r"^  reg (?:\[\d+:0\] )?(\\\S+ |\w+) \[(\d+):0\];\n", re.M)
_START = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
_BARE = re.compile(r"^  always @\*\n(    [^\n]*;)\n", re.M)
_HEADER = re.compile(r"^module \w+\(.*?\);\n", re.M | re.S)
_NET_ATTRIBUTES = re.compile(r"^(?:  \(\* X_INTERFACE_\w+ = [^\n]*\*\)\n)+(?=  (?:wire|reg) )", re.M)


def _clear(text: str, match: re.Match) -> str:
    """A memory's declaration with a loop that clears it, unless it has contents: for simulators, which would start from
    X. Hardware needs no contents there (a second job finds those of the first), UltraRAM has none, and Yosys would
    spend minutes on the loop; it and Vivado define SYNTHESIS."""
    memory, depth = match[1], int(match[2]) + 1
    if re.search(rf"^\s+{re.escape(memory)}\[\d+\] = ", text, re.M):
        return match[0]
    index = re.sub(r"\W", "_", memory).strip("_") + "_index"
    loop = f"for ({index} = 0; {index} < {depth}; {index} = {index} + 1)"
    clear = f"  integer {index};\n  initial {loop} {memory}[{index}] = 0;\n"
    return f"{match[0]}`ifndef SYNTHESIS\n{clear}`endif\n"


def tidy(text: str) -> str:
    """One module: ``! x`` as reduction NOR; an empty default where a case has none (what it assigns has a default
    before it); loops that clear memories; a name for Yosys' start-up variable; interface attributes at ports only."""
    text = _MEMORY.sub(lambda match: _clear(text, match), text)
    text = _NET_ATTRIBUTES.sub("", _START.sub("evaluate_at_start", text))
    # a variable with a value from the start makes no event in SystemVerilog, and blocks that read only such would not
    # run (Icarus): all of them read a net, whose value at time 0 is one
    text = _BARE.sub(r"  always @* begin\n    if (evaluate_at_start) begin end\n\1\n  end\n", text)
    text = text.replace("  reg evaluate_at_start = 0;\n", "")
    if "(evaluate_at_start)" in text:
        text = _HEADER.sub(r"\g<0>  wire evaluate_at_start = 1'b0;\n", text, count=1)
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
