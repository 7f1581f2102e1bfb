"""``vitforge package``: everything that leaves for Vivado and a board, in one folder."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from vitforge_hw.verilog import TOP
from vitforge_sim.synth import bound
from vitforge_sim.synth.parts import PARTS
from vitforge_sw.compiler import load_build

from ..rtl import ensure_rtl
from . import tcl
from .boards import board as board_of
from .ipxact import component
from .model import HEADER, c_model
from .registers import DRIVERS, systemrdl

_SILICON = "synth.json"


def package(build: Path, board: str, folder: Path, command: str = "") -> dict:
    """Write ``folder`` (made if missing); returns what was written. ValueError: the board is unknown, has too few ports
    for the masters, or synth.json of the build says that the part is too small."""
    data, compiled = board_of(board), load_build(build)
    config = compiled.config
    if config.masters > len(data["processor"]["hp_ports"]):
        raise ValueError(f"board {board}: has {len(data['processor']['hp_ports'])} HP ports, not {config.masters}")
    sources = ensure_rtl(config, build)
    checked = fits(build, config.hash, data["fits"], sources)
    if not compiled.driver:
        raise ValueError(f"build directory {build}: has no record for drivers; compile again")
    ip = folder / "ip"
    (ip / "rtl").mkdir(parents=True, exist_ok=True)
    for stale in (ip / "rtl").glob("*.v"):
        stale.unlink()
    files = [f"rtl/{name}" for name in sources]
    for name, text in sources.items():
        (ip / "rtl" / name).write_text(text)
    (ip / "vitforge_ooc.xdc").write_text(tcl.ooc_xdc(data["clock"]["mhz"]))
    (ip / "component.xml").write_text(component(sources[f"{TOP}.v"], files, config.name, "vitforge_ooc.xdc"))
    for name, text in (
        ("package_ip.tcl", tcl.package_ip(files, data["part"])),
        ("block_design.tcl", tcl.block_design(data, config.masters)),
        ("project.tcl", tcl.project(data)),
        ("vitforge.core", tcl.fusesoc(files, config.name)),
        ("synthesis.f", "".join(f"ip/{f}\n" for f in files)),
        ("simulation.f", "".join(f"ip/{f}\n" for f in files)),
    ):
        (folder / name).write_text(text)
    shutil.copytree(DRIVERS, folder / "driver", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "driver" / "vitforge.rdl").write_text(systemrdl({"watchdog": 1 << config.watchdog_bits}))
    (folder / "driver" / "c" / "vitforge_model.c").write_text(c_model(compiled.driver))
    (folder / "driver" / "c" / "vitforge_model.h").write_text(HEADER)
    shutil.copy(build / "memory.bin", folder / "driver")
    info = {
        "schema": "vitforge/package/1", "command": command, "board": board, "part": data["part"],
        "config_hash": f"{config.hash:08x}", "model_hash": compiled.model_hash, "masters": config.masters,
        "fits": checked, "files": files,
    }  # fmt: skip
    (folder / "driver" / "build.json").write_text(json.dumps({"driver": compiled.driver}, indent=1) + "\n")
    (folder / "package.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def fits(build: Path, config_hash: int, part: str, sources: Mapping[str, str]) -> str:
    """What is known of the size. ValueError: synth.json of this configuration says that the part is too small, or
    without one its multipliers or memories alone do."""
    path = build / _SILICON
    info = json.loads(path.read_text()) if path.is_file() else {}
    if info.get("config_hash") == f"{config_hash:08x}" and info.get("target") == PARTS[part].target:
        if misfits := PARTS[part].misfits(info["total"]):
            raise ValueError(f"board {part}: the design does not fit: {', '.join(misfits)} (synth.json)")
        return "yes, by synth.json's estimate"
    if misfits := bound.misfits(sources, TOP, PARTS[part]):
        raise ValueError(f"board {part}: the design does not fit: {', '.join(misfits)}")
    why = "synth.json is of another configuration or target" if info else "run vitforge synth first"
    return f"unknown: multipliers and memories alone would; {why}"
