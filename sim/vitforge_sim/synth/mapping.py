"""Blocks to netlists of the part's cells: one Yosys job per large block, small ones together, on all cores, cached."""

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import yosys
from .blocks import Block, key

#: characters of Verilog in one job: starting Yosys and reading its cell library costs as much as a small block
JOB = 120_000
_LIBRARY = {
    "xcup": ["read_verilog -lib -specify +/xilinx/cells_sim.v", "read_verilog -lib +/xilinx/cells_xtra.v"],
    "xc7": ["read_verilog -lib -specify +/xilinx/cells_sim.v", "read_verilog -lib +/xilinx/cells_xtra.v"],
    "ecp5": ["read_verilog -lib -specify +/ecp5/cells_sim.v +/ecp5/cells_bb.v"],
}
_MAP = {
    "xcup": "synth_xilinx -family xcup -noiopad -noclkbuf -run prepare:edif",
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf -run prepare:edif",
    "ecp5": "synth_ecp5 -run coarse:blif",
}


def script(names: Iterable[str], target: str) -> list[str]:
    """Yosys commands for blocks ``NAME.v`` beside ``stubs.v``; writes ``NAME.json`` for each. Every block keeps its
    border, its own submodules are flattened into it."""
    names = list(names)
    read = [*_LIBRARY[target], *(f"read_verilog {n}.v" for n in names), "read_verilog -lib stubs.v"]
    keep = [f"setattr -mod -set keep_hierarchy 1 {n}" for n in names]
    # plain names before ABC9, which fails on some of those that Amaranth's arrays make
    work = ["hierarchy -check", "proc", "flatten", "opt_clean -purge", _MAP[target]]
    write = [f"json -o {n}.json {n}" for n in names]
    return [*read, *keep, *work, *write]


def cells(
    found: Mapping[str, Block],
    target: str,
    cache: Path,
    workers: int | None = None,
    done: Callable[[list[str], int], None] = lambda names, left: None,
) -> dict[str, dict]:
    """Block -> Yosys' JSON of its module (ports, cells, netnames).

    cache : folder of netlists by content
    workers : Yosys processes at a time; default: one a core
    done : called with the names of each finished job and the number of jobs left
    """
    context = (target, yosys.version(), "\n".join(script(["NAME"], target)))
    places = {n: cache / f"netlist-{target}-{key(b, found, *context)}.json.gz" for n, b in found.items()}
    todo = list(_jobs([found[n] for n, place in places.items() if not place.exists()]))
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        running = {pool.submit(_synthesise, job, found, target, places): job for job in todo}
        try:
            for left, future in enumerate(as_completed(running), 1):
                future.result()
                done(running[future], len(todo) - left)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {n: json.loads(gzip.decompress(place.read_bytes())) for n, place in places.items()}


def _jobs(todo: list[Block]) -> Iterator[list[str]]:
    """Names of the blocks of each job, the largest first."""
    job, size = [], 0
    for block in sorted(todo, key=lambda b: -len(b.text)):
        if job and size + len(block.text) > JOB:
            yield job
            job, size = [], 0
        job.append(block.name)
        size += len(block.text)
    if job:
        yield job


def _synthesise(names: list[str], found: Mapping[str, Block], target: str, places: dict[str, Path]) -> None:
    stubs = sorted({child for n in names for child in found[n].children} - set(names))
    with tempfile.TemporaryDirectory(prefix="vitforge-synth-") as temporary:
        folder = Path(temporary)
        for n in names:
            (folder / f"{n}.v").write_text(found[n].text)
        (folder / "stubs.v").write_text("".join(found[s].stub for s in stubs))
        try:
            yosys.run(script(names, target), folder)
        except yosys.SynthesisError as error:
            raise yosys.SynthesisError(f"{', '.join(names)} for {target}: {error}") from None
        for n in names:
            module = json.loads((folder / f"{n}.json").read_text())["modules"][n]
            part = places[n].with_suffix(f".{os.getpid()}")
            part.write_bytes(gzip.compress(json.dumps(_plain(module)).encode(), 3))
            os.replace(part, places[n])


def _plain(module: dict) -> dict:
    """Without what nobody reads."""
    for cell in module["cells"].values():
        cell.pop("attributes", None)
    names = {n: v["bits"] for n, v in module["netnames"].items() if not v["hide_name"]}
    return {"ports": module["ports"], "cells": module["cells"], "netnames": names}
