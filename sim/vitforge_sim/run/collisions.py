"""Block RAM whose ports meet: what a read gets of a row that is written in the same cycle is noise.

The Verilog says "old data", which not every part's block RAM gives: a tool then adds a register, a comparator and a
multiplexer to each memory. A design that does not care may tell it so (Yosys: ``-no-rw-check``). This shows that it
does not: the old data come inverted, in every registered read of every memory.
"""

import re
from collections.abc import Mapping

_WRITE = re.compile(r"^    if \((?P<enable>.+)\)\n      (?P<memory>[^\s\[]+ ?)\[(?P<row>.+)\] <= [^;]*;$", re.M)
_READ = re.compile(r"(?P<register>\b_\d+_) <= (?P<memory>[^\s\[]+ ?)\[(?P<row>.+)\];$", re.M)


def collide(sources: Mapping[str, str]) -> dict[str, str]:
    """The Verilog with memories that give noise.

    ValueError where a memory that is read so has no known write, or where there is none: that would prove nothing.
    """
    out = {name: "endmodule".join(_module(part) for part in text.split("endmodule")) for name, text in sources.items()}
    if out == dict(sources):
        raise ValueError("collide: no memory is read into a register as `_0_ <= memory[row]`")
    return out


def _module(text: str) -> str:
    writes: dict[str, list[str]] = {}
    for found in _WRITE.finditer(text):
        writes.setdefault(found["memory"].strip(), []).append(f"({found['enable']}) && ({found['row']}) == ")

    def noisy(found: re.Match) -> str:
        memory, row = found["memory"].strip(), found["row"]
        if memory not in writes:  # a table
            if re.search(rf"(?<![\w$]){re.escape(memory)} ?\[[^\n;]*\] <=", text):
                raise ValueError(f"collide: memory {memory} must be written as `if (enable) memory[row] <= data`")
            return found[0]
        met = " || ".join(f"{write}({row})" for write in writes[memory])
        value = f"{found['memory']}[{row}]"
        return f"{found['register']} <= {met} ? ~{value} : {value};"

    return _READ.sub(noisy, text)
