"""The emitted Verilog as blocks: one file, one block, with its own submodules; what it instantiates."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_MODULE = re.compile(r"^module (\w+)\s*\(.*?\);\n(.*?)^endmodule", re.M | re.S)
_PORT = re.compile(r"^  (?:input|output|inout) .*\n", re.M)
_INSTANCE = re.compile(r"^  (\w+) (?:#\(.*?\) )?(?:\w+|\\\S+ ) ?\($", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One emitted file.

    name : of its last module, its top
    text : Verilog
    children : blocks that it instantiates -> how often, through its own submodules
    stub : the top's header and ports alone, for those that instantiate it
    """

    name: str
    text: str
    children: Counter
    stub: str


def blocks(files: Mapping[str, str]) -> dict[str, Block]:
    """File name -> text to block name -> block, children before parents as the file list is."""
    names = {name.removesuffix(".v") for name in files}
    out = {}
    for file, text in files.items():
        name = file.removesuffix(".v")
        bodies = {m[1]: m for m in _MODULE.finditer(text)}
        if name not in bodies:
            raise ValueError(f"{file}: must define module {name}")
        top = bodies[name]
        header = top[0][: top.start(2) - top.start()]
        stub = f"{header}{''.join(_PORT.findall(top[2]))}endmodule\n"
        out[name] = Block(name, _without_head(text), _children(name, bodies, names), stub)
    return out


def _children(name: str, bodies: dict[str, re.Match], names: set[str]) -> Counter:
    found: Counter = Counter()
    for kind in _INSTANCE.findall(bodies[name][2]):
        if kind in bodies:
            found += _children(kind, bodies, names)
        elif kind in names:
            found[kind] += 1
    return found


def _without_head(text: str) -> str:
    """Comments name the configuration; the same block of two configurations is synthesised once."""
    return re.sub(r"^//.*\n", "", text, flags=re.M)


def instances(found: Mapping[str, Block], top: str) -> Counter:
    """Block -> number of its instances in the whole design."""
    count: Counter = Counter({top: 1})
    for name in reversed(list(found)):  # parents before children
        for child, times in found[name].children.items():
            count[child] += times * count[name]
    return count


def key(block: Block, found: Mapping[str, Block], *context: str) -> str:
    """SHA-256 of all that the block's netlist depends on: its text, its children's ports, the script, the tool."""
    parts = [block.text, *(found[child].stub for child in sorted(block.children)), *context]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
