"""``vitforge synth``: a configuration's Verilog as hardware, by open tools."""

import json
from collections.abc import Callable
from pathlib import Path

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.sources import source_lines
from vitforge_hw.verilog import TOP
from vitforge_sim.run.cache import cache_folder
from vitforge_sim.synth import yosys
from vitforge_sim.synth.blocks import blocks, instances
from vitforge_sim.synth.design import flatten
from vitforge_sim.synth.mapping import cells
from vitforge_sim.synth.netlist import netlist
from vitforge_sim.synth.parts import Part
from vitforge_sim.synth.report import resources, timing
from vitforge_sw.graph.serialize import write_atomic
from vitforge_sw.progress import working

from .rtl import GENERATOR, ensure_rtl

SCHEMA = "vitforge/synth/1"


def synthesise(
    config: AcceleratorConfig,
    folder: Path,
    part: Part,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> dict:
    """Synthesise every block of ``config`` for the part's target, count, time the whole; writes folder/synth.json and
    returns what it holds.

    progress : takes a line for each finished job
    """
    # Yosys folds no sums into a DSP48E2 and finds no cascade, as the vendor's tool does: they are written out
    primitives = "dsp48e2" if part.target == "xcup" and config.packed else ""
    files = ensure_rtl(config, folder, command, progress is not None, primitives)
    found = blocks(files)

    def done(names: list[str], left: int) -> None:
        if progress:
            progress(f"synthesised {', '.join(names)}; jobs left: {left}")

    modules = cells(found, part.target, cache_folder(), done=done)
    with working("reading netlists", progress is not None, after=5):
        netlists = {name: netlist(name, module, set(modules)) for name, module in modules.items()}
    info = {
        "schema": SCHEMA,
        "command": command,
        "preset": config.name,
        "config_hash": f"{config.hash:08x}",
        "model_hash": None,  # the hardware depends on the configuration alone
        "tool": yosys.version(),
        "target": part.target,
        "part": part.name,
        "multipliers": config.multipliers,
    }
    info |= resources(netlists, instances(found, TOP))
    info["misfits"] = part.misfits(info["total"])
    if part.target != "ecp5":
        with working("static timing", progress is not None, after=5):
            info |= timing(flatten(netlists, TOP), sources(config))
    write_atomic(Path(folder) / "synth.json", (json.dumps(info, indent=1) + "\n").encode())
    return info


def sources(config: AcceleratorConfig) -> dict[str, dict[str, str]]:
    """Where each block's signals are declared; elaborated once per configuration and generator version."""
    path = cache_folder() / f"sources-{config.name}-{config.hash:08x}-{GENERATOR}.json"
    if not path.exists():
        write_atomic(path, json.dumps(source_lines(config)).encode())
    return json.loads(path.read_text())
