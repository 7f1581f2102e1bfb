"""Runs one cocotb test module on a built simulation: a case goes in as JSON, an answer comes back as JSON."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..run import toolchain
from ..run.build import Program
from ..run.topbench import SimulationError, SimulationHang


def run_cocotb(program: Program, module: str, case, timeout: float, folder: Path | None = None):
    """The answer of the one test in Python module ``module``, which reads the file that VITFORGE_CASE names and writes
    the same name with `.out`.

    program: built with Options(cocotb=True). case: whatever JSON can hold. folder: where the case's own files are.
    Raises SimulationHang, SimulationError (the test failed, or the simulation ended without an answer).
    """
    import find_libpython
    from cocotb_tools import config
    from cocotb_tools.check_results import get_results

    top, simulator = program.top, program.simulator
    env = toolchain.environment(simulator)
    env["PATH"] += os.pathsep + str(config.libs_dir)
    package_root = str(Path(__file__).parents[2])
    env |= {
        "PYTHONPATH": os.pathsep.join([package_root, *sys.path]),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": ";".join([find_libpython.find_libpython(), config.pygpi_entry_point()]),
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_LOG_LEVEL": "WARNING",
        "TOPLEVEL_LANG": "verilog",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory(prefix="vitforge-cocotb-") as temporary:
        place = Path(folder or temporary)
        (place / "case.json").write_text(json.dumps(case))
        env |= {"VITFORGE_CASE": str(place / "case.json"), "COCOTB_RESULTS_FILE": str(place / "results.xml")}
        env.pop("PYTEST_CURRENT_TEST", None)  # cocotb would rewrite assertions
        if simulator == "icarus":
            command = ["vvp", "-m", str(config.lib_entry("vpi", "icarus")), program.command[-1], "-none"]
        else:
            command = list(program.command)
        try:
            done = subprocess.run(
                command, cwd=place, env=env, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise SimulationHang(f"{top} in {simulator} did not finish in {timeout:g} s") from None
        answer = place / "case.json.out"
        tail = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        if not answer.exists() or not (place / "results.xml").exists():
            raise SimulationError(f"{top} in {simulator} ended without an answer, exit {done.returncode}:\n  {tail}")
        tests, failed = get_results(place / "results.xml")
        if tests != 1 or failed:
            raise SimulationError(f"{top} in {simulator}: {failed} of {tests} cocotb tests failed:\n  {tail}")
        return json.loads(answer.read_text())
