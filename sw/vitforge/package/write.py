"""``vitforge package``: everything that leaves for Vivado and a board, in one folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from vitforge_hw.verilog import TOP
from vitforge_sim.synth import bound
from vitforge_sim.synth.parts import PARTS

from ..rtl import ensure_rtl
from . import tcl
from .boards import board as board_of
from .folder import PACKAGE, SCHEMA, install, replaceable
from .ipxact import component
from .linux import device_tree
from .model import HEADER, c_model
from .record import read_build, read_synth
from .registers import DRIVERS, systemrdl


def package(build: Path, board: str, folder: Path, command: str = "") -> dict:
    """Write ``folder``, a new one, an empty one or an earlier package; returns what was written.

    ValueError: the board is unknown or has too few ports for the masters; synth.json of the build says that the part is
    too small, or is damaged; the record for drivers is damaged or another build's; ``folder`` holds something else.
    Nothing is left in ``folder`` then.
    """
    data = board_of(board)
    replaceable(folder)
    compiled = read_build(build)
    config = compiled.config
    if config.masters > len(data["processor"]["hp_ports"]):
        raise ValueError(f"board {board}: has {len(data['processor']['hp_ports'])} HP ports, not {config.masters}")
    read_synth(build)  # damaged: before the Verilog is written
    sources = ensure_rtl(config, build)
    if bad := [n for n in sources if not re.fullmatch(r"\w+\.v", n, re.A)] + [TOP] * (f"{TOP}.v" not in sources):
        raise ValueError(f"{build / 'rtl' / 'files.f'}: must list {TOP}.v and plain names of Verilog files: {bad[0]!r}")
    checked = fits(build, config.hash, data["fits"], sources)
    files = [f"rtl/{name}" for name in sources]
    texts = {f"ip/{path}": text for path, text in zip(files, sources.values(), strict=True)}
    texts |= {
        "ip/vitforge_ooc.xdc": tcl.ooc_xdc(data["clock"]["mhz"]),
        "ip/component.xml": component(sources[f"{TOP}.v"], files, config.name, "vitforge_ooc.xdc"),
        "package_ip.tcl": tcl.package_ip(files, data["part"]),
        "block_design.tcl": tcl.block_design(data, config.masters),
        "project.tcl": tcl.project(data),
        "vitforge.core": tcl.fusesoc(files, config.name),
        "synthesis.f": "".join(f"ip/{f}\n" for f in files),
        "simulation.f": "".join(f"ip/{f}\n" for f in files),
        "driver/vitforge.rdl": systemrdl({"watchdog": 1 << config.watchdog_bits}),
        "driver/c/vitforge_model.c": c_model(compiled.driver),
        "driver/c/vitforge_model.h": HEADER,
        "driver/c/vitforge.dtso": device_tree(data, compiled.driver, config.job_depth),
        "driver/build.json": json.dumps({"driver": compiled.driver}, indent=1) + "\n",
    }
    written = {
        f"driver/{path.relative_to(DRIVERS)}": path.read_bytes()
        for path in sorted(DRIVERS.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    written |= {"driver/memory.bin": compiled.memory_image} | {name: text.encode() for name, text in texts.items()}
    info = {
        "schema": SCHEMA, "command": command, "board": board, "part": data["part"],
        "config_hash": f"{config.hash:08x}", "model_hash": compiled.model_hash, "masters": config.masters,
        "fits": checked, "files": files, "written": sorted([*written, PACKAGE]),
    }  # fmt: skip
    install(folder, written | {PACKAGE: (json.dumps(info, indent=1) + "\n").encode()})
    return info


def fits(build: Path, config_hash: int, part: str, sources: Mapping[str, str]) -> str:
    """What is known of the size. ValueError: synth.json of this configuration says that the part is too small, or
    without one its multipliers or memories alone do."""
    info = read_synth(build)
    if info and (info["config_hash"], info["target"]) == (f"{config_hash:08x}", PARTS[part].target):
        if misfits := PARTS[part].misfits(info["total"]):
            raise ValueError(f"board {part}: the design does not fit: {', '.join(misfits)} (synth.json)")
        return "yes, by synth.json's estimate"
    if misfits := bound.misfits(sources, TOP, PARTS[part]):
        raise ValueError(f"board {part}: the design does not fit: {', '.join(misfits)}")
    why = "synth.json is of another configuration or target" if info else "run vitforge synth first"
    return f"unknown: multipliers and memories alone would; {why}"
