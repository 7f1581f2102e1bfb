"""The board in simulation, at its serial pins."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vitforge_sim.run import toolchain
from vitforge_sim.run.build import Options, Program
from vitforge_sim.run.build import build as build_simulation
from vitforge_sim.run.collisions import collide
from vitforge_sw.compiler import Build

from . import build as design
from .board import divisor
from .host import Frame, Reply

BENCH = Path(__file__).with_name("bench.v")


def program(
    build: Build, simulator: str = "verilator", memory: bytes | None = None, collisions: bool = False
) -> Program:
    """The design and the bench around it, built; ``collisions``: memories give noise where their ports meet."""
    texts = design.sources(build, memory=memory)
    texts = (collide(texts) if collisions else texts) | {BENCH.name: BENCH.read_text()}
    return build_simulation(simulator, "ulx3s_bench", texts, Options(parameters={"DIVISOR": divisor(design.MHZ)}))


def exchange(simulation: Program, frame: Frame, requests: Sequence[bytes], timeout: float = 900.0) -> list[Reply]:
    """Send requests one after the other, each when the reply to the one before it is complete.

    Raises ValueError when the board stays silent or sends nonsense.
    """
    with tempfile.TemporaryDirectory(prefix="vitforge-board-") as temporary:
        folder = Path(temporary)
        (folder / "requests.bin").write_bytes(b"".join(requests))
        sizes = {"request_bytes": frame.request_bytes, "reply_bytes": frame.reply_bytes, "frames": len(requests)}
        done = subprocess.run(
            [*simulation.command, *(f"+{k}={v}" for k, v in sizes.items())], cwd=folder, timeout=timeout,
            env=toolchain.environment(simulation.simulator), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "VF_DONE" not in done.stdout or "VF_FATAL" in done.stdout:
            raise ValueError(f"ulx3s simulation: {done.stdout.strip().splitlines()[-1:] or done.stderr[-500:]}")
        data = (folder / "replies.bin").read_bytes()
    size = frame.reply_bytes
    return [frame.reply(data[i : i + size]) for i in range(0, len(data), size)]
