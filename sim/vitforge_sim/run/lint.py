"""Verilator's lint over emitted modules."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import toolchain

WAIVED = ("DECLFILENAME", "UNUSEDSIGNAL", "PROCASSINIT")  #: what Amaranth's output cannot avoid


def lint(modules: Mapping[str, str], top: str, folder: Path) -> str:
    """Writes each block's Verilog to ``folder``; returns the warnings for all of them under ``top``, "" if none."""
    for name, text in modules.items():
        (folder / f"{name}.v").write_text(text)
    waived = [f"-Wno-{w}" for w in WAIVED]
    command = [toolchain.verilator_bin() / "verilator", "--lint-only", "-Wall", *waived, "--top-module", top]
    done = subprocess.run(
        [*map(str, command), *(f"{name}.v" for name in modules)], cwd=folder,
        env=toolchain.environment("verilator"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (done.stderr or f"exit status {done.returncode}") if done.returncode else ""
