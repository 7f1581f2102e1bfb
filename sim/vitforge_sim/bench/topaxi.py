"""The generated top level between cocotbext-axi's AXI4-Lite master and AXI4 memories, which share no code with ours."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..run import script
from ..run.build import Options, build
from ..run.topbench import ports_of
from .cocotb_run import run_cocotb

_OPS = {script.Write: "write", script.Read: "read", script.Poll: "poll", script.WaitInterrupt: "interrupt"}


def run_top(
    sources: Mapping[str, str],
    commands: Sequence[script.Command],
    memory: np.ndarray,
    *,
    top: str = "vitforge_top",
    size: int = 1 << 20,
    seed: int = 1,
    pause: float = 0.2,
    limit: int = 100_000,
    timeout: float = 300.0,
) -> tuple[list[int], np.ndarray]:
    """Play Write, Read, Poll and WaitInterrupt(1) in Verilator; returns what the Reads gave, and the memory afterwards.

    memory: uint8, DRAM from address 0 on; size: of DRAM in bytes; pause: probability that a channel of the master or
    of a memory stands still in a cycle; limit: polls of one Poll, cycles of one WaitInterrupt.
    Raises SimulationError (also for what a Poll never saw), SimulationHang, BuildError, ToolMissing.
    """
    text = next(t for t in sources.values() if f"module {top}(" in t)
    ports = ports_of(text, top)
    program = build("verilator", top, dict(sources), Options(cocotb=True, public=tuple(ports)))
    plays = []
    for command in commands:
        _, address, value, mask = command.words()
        plays.append((_OPS[type(command)], address, value, mask))
    with tempfile.TemporaryDirectory(prefix="vitforge-topaxi-") as temporary:
        path = Path(temporary) / "memory.bin"
        path.write_bytes(memory.tobytes())
        case = {
            "script": plays,
            "memory": str(path),
            "size": size,
            "masters": sum(p.startswith("m_axi_gmem") and p.endswith("_arvalid") for p in ports),
            "seed": seed,
            "pause": pause,
            "limit": limit,
        }
        values = run_cocotb(program, "vitforge_sim.bench.top_cocotb", case, timeout)
        return values, np.fromfile(f"{path}.out", np.uint8)
