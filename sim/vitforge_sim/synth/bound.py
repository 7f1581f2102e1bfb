"""What a design needs at the least, by its emitted Verilog alone: seconds, where synthesis takes minutes."""

import re
from collections.abc import Mapping

from .blocks import blocks, instances
from .parts import Part

_MULTIPLIER, _MEMORY = re.compile(r"vf_dsp_"), re.compile(r"vf_(?:shared_)?ram_(\d+)x(\d+)$")
BRAM36, URAM = 36 << 10, 288 << 10  #: bits
BLOCK_ROWS = 1024  #: no tool puts as many rows into LUTs


def least(files: Mapping[str, str], top: str) -> dict[str, int]:
    """{"dsp": multipliers with a sum, one DSP48E2 each; "memory_bits": of memories of BLOCK_ROWS rows and more}."""
    counts = instances(blocks(files), top)
    memories = ((found, times) for name, times in counts.items() if (found := _MEMORY.match(name)))
    return {
        "dsp": sum(times for name, times in counts.items() if _MULTIPLIER.match(name)),
        "memory_bits": sum(
            times * int(m[1]) * int(m[2]) for m, times in memories if int(m[2]) >= BLOCK_ROWS
        ),
    }  # fmt: skip


def misfits(files: Mapping[str, str], top: str, part: Part) -> list[str]:
    """One line per resource of which even the least is too much for ``part``; empty: synthesis must tell."""
    need, bits = least(files, top), part.bram36 * BRAM36 + part.uram * URAM
    out = [f"at least {need['dsp']} dsp of {part.dsp}"] if need["dsp"] > part.dsp else []
    if need["memory_bits"] > bits:
        out.append(f"at least {need['memory_bits'] / 1e6:.1f} Mbit of memory of {bits / 1e6:.1f}")
    return out
