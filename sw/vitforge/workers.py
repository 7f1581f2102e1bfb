"""Processes that share one evaluation: torchrun's, or copies of the command that it starts by itself."""

import contextlib
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vitforge_sw.graph.ir import Graph
from vitforge_sw.shards import Shard

FOLDER = "VITFORGE_WORKERS"  #: environment: where copies of a command meet
WORTH = 2e11  #: MACs of all the work from which another process pays for its start of a few seconds
PATIENCE = datetime.timedelta(days=1)  #: the last process may be that much later than the first


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def worth_while(graph: Graph, images: int) -> int:
    """Processes for an evaluation: all the cores there are, or one where starting others takes longer."""
    macs = sum(node.macs(graph) for node in graph.nodes if hasattr(node, "macs"))
    return cores() if macs * images >= WORTH else 1


def outside() -> bool:
    """Whether this process is one of several that somebody else started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def shards(argv: list[str], processes: int) -> Iterator[Shard]:
    """This process's part of the command ``argv`` on ``processes`` ones; those of torchrun where it runs us.

    Each has one thread, so that the result does not depend on their number. Raises RuntimeError for a copy that ended
    before its work.
    """
    from vitforge_sw.threads import one_thread

    with one_thread(), _joined(argv, processes) as shard:
        yield shard


@contextlib.contextmanager
def _joined(argv: list[str], processes: int) -> Iterator[Shard]:
    if outside():
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        with _group(rank, count, os.environ.get(FOLDER)) as shard:
            yield shard
    elif processes == 1:
        yield Shard()
    else:
        with tempfile.TemporaryDirectory() as folder, _copies(argv, processes, folder) as copies:
            _wait(copies, Path(folder))
            with _group(0, processes, folder) as shard:
                yield shard


@contextlib.contextmanager
def _group(rank: int, count: int, folder: str | None) -> Iterator[Shard]:
    """PyTorch's process group: over a file in ``folder``, or at the address that torchrun has set."""
    import torch.distributed as group

    if folder is not None:
        (Path(folder) / f"ready.{rank}").touch()
    where = "env://" if folder is None else f"file://{folder}/store"
    group.init_process_group("gloo", where, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Shard(rank, count)
    finally:
        group.destroy_process_group()


@contextlib.contextmanager
def _copies(argv: list[str], processes: int, folder: str) -> Iterator[list[subprocess.Popen]]:
    local = {"WORLD_SIZE": str(processes), FOLDER: folder, "GLOO_SOCKET_IFNAME": "lo"}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    started = [
        subprocess.Popen([sys.executable, "-m", "vitforge.cli", *argv], env=os.environ | local | {"RANK": str(rank)})
        for rank in range(1, processes)
    ]
    try:
        yield started
    finally:
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _wait(copies: list[subprocess.Popen], folder: Path) -> None:
    """Until every copy is about to join."""
    while missing := [i for i in range(len(copies)) if not (folder / f"ready.{i + 1}").exists()]:
        if any(copies[i].poll() is not None for i in missing):
            raise RuntimeError("evaluate: another process ended before it began; --processes 1 does without")
        time.sleep(0.05)
