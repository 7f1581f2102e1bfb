"""Builds a Verilog design into a simulation program, cached by the hash of everything that goes into it.

`cache` says where, and what of it is kept.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import toolchain
from .cache import cache_folder, clean, locked, used
from .watch import OBJECTS, Watch

BENCH = Path(__file__).parents[1] / "hdl"  # Verilog and C++ that ship with the package

# Verilator: assertions and X propagation are Icarus' job; unknown start values do not reach the outputs of a design
# that resets what it must, and Icarus, which has X, runs the same benches.
VERILATOR_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-lint", "-Wno-fatal")
ICARUS_FLAGS = ("-g2012",)
#: where VITFORGE_COVERAGE names a folder: programs count their points and write them there (vitforge_sim.coverage)
COVERAGE_FLAGS = ("--coverage-line", "--coverage-toggle")


def _verilator_flags() -> tuple[str, ...]:
    return VERILATOR_FLAGS + (COVERAGE_FLAGS if os.environ.get("VITFORGE_COVERAGE") else ())


class BuildError(RuntimeError):
    """A simulator refused the design; the message has its first errors, and the path of the whole log."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A built simulation.

    simulator: "verilator" or "icarus"; top: name of the top module; folder: where it lies;
    command: argv without plusargs; seconds: what building took (0 when it came from the cache).
    """

    simulator: str
    top: str
    folder: Path
    command: tuple[str, ...]
    seconds: float


def _run(command: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str], subject: str) -> None:
    with open(log, "a") as out:
        out.write("$ " + " ".join(command) + "\n")
        out.flush()
        done = subprocess.run(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "rror" in line][:8] or lines[-8:]
        raise BuildError(f"{subject} did not build (exit status {done.returncode}):\n  " + "\n  ".join(errors))


def _verilator(top: str, names: Sequence[str], folder: Path, log: Path, options: "Options", subject: str) -> list[str]:
    env = toolchain.environment("verilator")
    jobs = str(min(4, os.cpu_count() or 1))
    command = [str(toolchain.verilator_bin() / "verilator"), "--cc", "--exe", "--top-module", top, "--prefix", "Vtop"]
    command += ["-Mdir", "obj", "-o", "simulation", *_verilator_flags(), "--timescale", "1ns/1ps"]
    if options.trace:
        command += ["--trace-vcd", "-CFLAGS", "-DVF_TRACE"]
    if options.cocotb:
        from cocotb_tools import config

        ports = [f'public_flat_rw -module "{top}" -var "{port}"' for port in options.public]
        (folder / "public.vlt").write_text("\n".join(["`verilator_config", *ports, ""]))
        command += ["--vpi", "public.vlt", str(config.share_dir / "lib" / "verilator" / "verilator.cpp")]
        command += ["-LDFLAGS", f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator"]
    else:
        command.append("verilator_main.cpp")
        shutil.copy(BENCH / "verilator_main.cpp", folder)
    command += [f"-G{name}={value}" for name, value in options.parameters.items()]
    command += [f"-D{name}={value}" for name, value in options.defines.items()]
    _run([*command, *names], folder, log, env, subject)
    make = ["make", "-C", "obj", "-f", "Vtop.mk", f"OPT_FAST={options.cflags}"]
    planned = subprocess.run([*make, "-n"], cwd=folder, env=env, capture_output=True, text=True, check=False).stdout
    (folder / OBJECTS).write_text(str(len(re.findall(r" -c .*-o \S+\.o\b| -o \S+\.o\b.* -c ", planned))))
    _run([*make, "-j", jobs], folder, log, env, subject)
    shutil.move(folder / "obj" / "simulation", folder / "simulation")
    shutil.rmtree(folder / "obj")
    return ["simulation"]


def _icarus(top: str, names: Sequence[str], folder: Path, log: Path, options: "Options", subject: str) -> list[str]:
    env = toolchain.environment("icarus")
    command = ["iverilog", *ICARUS_FLAGS, "-o", "simulation.vvp", "-s", top]
    (folder / "commands.f").write_text("+timescale+1ns/1ps\n")
    command += ["-f", "commands.f"]
    command += [f"-P{top}.{name}={value}" for name, value in options.parameters.items()]
    command += [f"-D{name}={value}" for name, value in options.defines.items()]
    _run([*command, *names], folder, log, env, subject)
    return ["simulation.vvp"]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to build. cocotb: link cocotb instead of the plain main program; public: ports that cocotb drives or reads
    (Verilator only); parameters and defines: of the top module; trace: waveforms can be asked for (slower);
    cflags: of the C++ compiler. -O1 builds in 60 % of the time of -O2 -march=native, and what it builds runs at 92 % of
    the rate (tiny_hybrid's top)."""

    cocotb: bool = False
    public: tuple[str, ...] = ()
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    defines: Mapping[str, object] = dataclasses.field(default_factory=dict)
    trace: bool = False
    cflags: str = "-O1"


def _key(simulator: str, top: str, texts: Mapping[str, str], options: Options) -> str:
    digest = hashlib.sha256()
    flags = _verilator_flags() if simulator == "verilator" else ICARUS_FLAGS
    parts = [simulator, toolchain.version(simulator), top, *flags, json.dumps(dataclasses.asdict(options), default=str)]
    if simulator == "verilator":
        parts.append((BENCH / "verilator_main.cpp").read_text())
    if options.cocotb:
        import cocotb

        parts.append(f"cocotb {cocotb.__version__} {os.path.realpath(cocotb.__file__)}")
    for name, text in texts.items():
        parts += [name, text]
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()[:20]


def build(
    simulator: str,
    top: str,
    sources: Mapping[str, str],
    options: Options | None = None,
    watch: Watch | None = None,
) -> Program:
    """Builds a simulation of module `top`, or takes it from the cache.

    simulator: "verilator" or "icarus". sources: file name (.v, .sv, .vlt) -> text, in compilation order; .vlt files
    are left out for Icarus. watch: told where to look for how far it is.
    Raises ValueError for an unknown simulator, ToolMissing, BuildError.
    """
    options = options or Options()
    toolchain.check_simulator(simulator)
    if simulator == "icarus":
        sources = {name: text for name, text in sources.items() if not name.endswith(".vlt")}
    if not sources:
        raise ValueError(f"sources of {top} must not be empty")
    cache = cache_folder()
    final = cache / f"{top}-{simulator}-{_key(simulator, top, sources, options)}"
    program = "simulation" if simulator == "verilator" else "simulation.vvp"
    start = time.monotonic()
    built = False
    with locked(final.name):
        if not (final / program).exists():
            built = True
            temporary = Path(tempfile.mkdtemp(prefix=f".{top}-", dir=cache))
            try:
                log = temporary / "build.log"
                if watch:
                    watch.started(temporary)
                for name, text in sources.items():
                    (temporary / name).write_text(text)
                make = _verilator if simulator == "verilator" else _icarus
                make(top, list(sources), temporary, log, options, f"{top} for {simulator}")
                shutil.rmtree(final, ignore_errors=True)
                os.rename(temporary, final)
            except BuildError as error:
                kept = cache / f"{final.name}.failed.log"
                shutil.copy(log, kept)
                raise BuildError(f"{error}\n  log: {kept}") from None
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        used(final)
    if built:
        clean(everything=False)
    path = str(final / program)
    command = (path,) if simulator == "verilator" else ("vvp", path)
    return Program(simulator, top, final, command, time.monotonic() - start if built else 0.0)
