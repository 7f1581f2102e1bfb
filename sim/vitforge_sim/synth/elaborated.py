"""The design before mapping, as gates and memories: loads and ways without a register in seconds, where mapping takes
minutes. Every input bit of a gate or of an operator counts as reaching all bits of its output: no way is missed."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from . import yosys
from .blocks import blocks
from .design import Design, flatten
from .netlist import netlist

RESETS = re.compile(r"(^|[._])(rst|reset)")  #: names of the reset tree's nets


def script(names: list[str], top: str) -> list[str]:
    """Yosys commands for blocks ``NAME.v``; writes all.json. Every block keeps its border."""
    read = [f"read_verilog -DSYNTHESIS {n}.v" for n in names]
    keep = [f"setattr -mod -set keep_hierarchy 1 {n}" for n in names]
    gates = ["setattr -unset init w:*", "memory_dff", "memory_collect", "opt_expr -mux_undef", "opt"]
    gates += ["simplemap", "opt", "opt_clean -purge"]
    return [*read, *keep, f"hierarchy -check -top {top}", "proc", "flatten", *gates, "write_json all.json"]


def elaborate(files: Mapping[str, str], top: str) -> Design:
    """The whole design of the emitted ``files`` (name -> Verilog)."""
    found = blocks(files)
    with tempfile.TemporaryDirectory(prefix="vitforge-elaborate-") as temporary:
        folder = Path(temporary)
        for n, block in found.items():
            (folder / f"{n}.v").write_text(block.text)
        yosys.run(script(list(found), top), folder)
        modules = json.loads((folder / "all.json").read_text())["modules"]
    for module in modules.values():
        module["netnames"] = {n: v["bits"] for n, v in module["netnames"].items() if not v["hide_name"]}
    return flatten({n: netlist(n, m, set(modules)) for n, m in modules.items()}, top)


def crowded(design: Design, limit: int) -> list[tuple[int, str]]:
    """Nets with more than ``limit`` loads but the reset tree's: (loads, name), the most first."""
    nets = np.flatnonzero(design.loads > limit)
    named = [(int(design.loads[n]), ".".join(filter(None, design.name(int(n))[::2]))) for n in nets]
    return sorted((n for n in named if not RESETS.search(n[1].rsplit(".", 1)[-1])), reverse=True)
