"""Mutants against what the benches did to a component: the replay of bench.replay, which every test of a component ends
with, on Verilog that has the mutants of one block in it.

A test drives the component in Amaranth's simulator, asserts what it must do, and plays the same inputs to the emitted
Verilog, where every output must be the same in every cycle. A mutant that changes an output is killed by that test.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..bench import replay
from ..run import toolchain
from ..run.build import Options, Program, build
from .make import PACKAGE, Mutation, inside

PLUSARG = '    initial if (!$value$plusargs("mutant=%d", vf_mutation::number)) vf_mutation::number = 0;\n'
LARGEST = 2_000_000  #: characters of a component's Verilog; the core takes minutes to build, for its own mutants alone


@contextlib.contextmanager
def recording(found: dict[str, list[tuple[replay.Emitted, list[int]]]]):
    """Tests that run inside keep what they would replay, by the component's name; the replay itself is left out."""

    def keep(unit, vectors, simulator, **_):
        kept = found.setdefault(unit.name, [])
        if not any(v is vectors for _, v in kept):
            kept.append((unit, vectors))

    before, replay.replay = replay.replay, keep
    try:
        yield
    finally:
        replay.replay = before


class Nearest:
    """The recordings that judge ``block`` of the design in ``sources``, shortest first, at most so many cycles.

    First those of tests that drive a component with the block's ports, names and widths: the block stands for it, and
    must do the same. Then those of components (at most ``most_builds``, all below LARGEST) that have the block in
    their Verilog exactly as ``sources``.

    block, sources: what is to be mutated. One simulation with all mutants is built for each component.
    """

    def __init__(self, block: str, sources: Mapping[str, str], recordings, most_cycles=200_000, most_builds=2):
        self.block, self.sources = block, sources
        self._plays: list[tuple[replay.Emitted, list[int], bool]] = []
        self._programs: dict[tuple[int, bool], Program] = {}
        text = self._body(sources[f"{block}.v"])
        plays = sorted((r for kept in recordings.values() for r in kept), key=lambda r: len(r[1]))
        own = [r for r in plays if self._ports(r[0].sources, r[0].name) == self._ports(sources, block)]
        small = [r for r in plays if sum(map(len, r[0].sources.values())) < LARGEST]
        around = [r for r in small if self._body(r[0].sources.get(f"{block}.v", "")) == text]
        for kind, alone in ((own, True), (around, False)):
            cycles, builds = 0, set()
            for unit, vectors in kind:
                if cycles < most_cycles and len(builds | {id(unit)}) <= most_builds:
                    self._plays.append((unit, vectors, alone))
                    builds.add(id(unit))
                    cycles += len(vectors)
        self.alone = sum(alone for _, _, alone in self._plays)

    @staticmethod
    def _body(text: str) -> str:
        return re.sub(r"^//.*\n+", "", text).strip()

    @staticmethod
    def _ports(sources: Mapping[str, str], name: str) -> list[str]:
        """Directions, widths and names of a module's ports."""
        text = sources[f"{name}.v"]
        module = text[re.search(rf"^module {re.escape(name)}\b", text, re.M).start() :]
        return sorted(re.findall(r"^  ((?:input|output) [^;]*);", module[: module.index("\nendmodule")], re.M))

    def __len__(self):
        return len(self._plays)

    def _program(self, unit: replay.Emitted, text: str, alone: bool) -> Program:
        key = (id(unit), alone)
        if key not in self._programs:
            sources = {"vf_mutation.sv": PACKAGE}
            if alone:
                sources |= {f"{name}.sv": self.sources[f"{name}.v"] for name in inside(self.sources, self.block)}
                text = re.sub(rf"^module {self.block}\b", f"module {unit.name}", text, flags=re.M)
            else:
                sources |= {n.replace(".v", ".sv"): t for n, t in unit.sources.items() if n != f"{self.block}.v"}
            sources[f"{self.block}.sv"] = text
            bench = replay._bench(unit)
            sources["vf_replay.sv"] = bench.replace("(input wire clk);\n", "(input wire clk);\n" + PLUSARG, 1)
            self._programs[key] = build("verilator", "vf_replay", sources, Options(cflags="-O0"))
        return self._programs[key]

    def judge(self, mutations: Sequence[Mutation], text: str) -> dict[int, str]:
        """Number of each mutant that a play sees -> component, cycle and port of the first difference."""
        killed: dict[int, str] = {}
        with tempfile.TemporaryDirectory(prefix="vitforge-nearest-") as temporary:
            for number, (unit, vectors, alone) in enumerate(self._plays):
                path = Path(temporary) / f"{number}.bin"
                path.write_bytes(b"".join(v.to_bytes(unit.bytes, "big") for v in vectors))
                program = self._program(unit, text, alone)
                for mutant in (0, *(m.number for m in mutations if m.number not in killed)):
                    command = [*program.command, f"+vectors={path}", f"+mutant={mutant}"]
                    env = toolchain.environment("verilator")
                    try:
                        out = subprocess.run(
                            command, env=env, capture_output=True, text=True, timeout=120, check=False
                        ).stdout
                    except subprocess.TimeoutExpired:
                        out = "VF_DIFFERS cycle 0 port none: combinational loop"
                    differs = next((line for line in out.splitlines() if line.startswith("VF_DIFFERS")), None)
                    if mutant == 0:
                        if differs:
                            break  # a bench that sets inner signals: not replayable alone
                    elif differs or "VF_REPLAYED" not in out:
                        killed[mutant] = f"{unit.name}: {' '.join((differs or 'crash').split()[1:5])}"
                path.unlink()
        return killed
