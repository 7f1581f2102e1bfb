"""What a test did to a component in Amaranth's simulator, done again to its emitted Verilog, cycle by cycle.

`Simulator` takes the place of amaranth.sim.Simulator: it records every port at every clock edge, and when the run has
ended, plays the inputs to the component's Verilog (where: USUAL) and compares every output in every cycle.
Unknown bits are differences, but for the payload of a stream or AXI channel that is not valid (where a test resets the
component, known bits neither: a memory's output register keeps its value then, in Amaranth's simulator not). So each
test of values, latency, stalls and gaps is a test of the Verilog too; what it asserts in one simulator holds in the
others, or `ReplayDiffers` names simulator, cycle and port.
"""

import dataclasses
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import amaranth.sim
from amaranth.hdl import Cat, ClockDomain, Const, Elaboratable, Module, Value
from amaranth.lib import wiring

from vitforge_hw.emit import convert, emitting

from ..run import toolchain
from ..run.build import Options, build
from ..run.topbench import ports_of
from . import reuse

BOTH = ("verilator", "icarus")
#: where a test replays unless it says so itself: Icarus, which knows X. Verilator runs the whole accelerator's tests,
#: and these too where points are counted or VITFORGE_REPLAY is "both" (make bench); building them is long
USUAL = BOTH if os.environ.get("VITFORGE_REPLAY") == "both" or os.environ.get("VITFORGE_COVERAGE") else ("icarus",)
#: a memory's output register: unknown in the Verilog until the first read, 0 in Amaranth's simulator
_READ_REGISTER = re.compile(r"^(  reg (?:\[\d+:0\] )?_\d+_);$", re.M)


class ReplayDiffers(AssertionError):
    """The Verilog does something else than the component in Amaranth's simulator; the message names the place."""


@dataclasses.dataclass(frozen=True)
class Emitted:
    """A component as Verilog: module name, file name -> text, has it a clock, its ports as (name, bits), ``rst`` among
    the inputs where a test resets it."""

    name: str
    sources: Mapping[str, str]
    clocked: bool
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """Of one cycle's record."""
        return -(-sum(bits for _, bits in self.inputs + self.outputs) // 8)


def _ports(component: wiring.Component) -> tuple[dict[str, Value], dict[str, Value]]:
    found: tuple[dict[str, Value], dict[str, Value]] = ({}, {})
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if len(value) and not isinstance(value, Const):
            found[member.flow != wiring.In]["__".join(map(str, path))] = value
    return found


_emitted: dict[tuple, Emitted] = {}


def emitted(component: wiring.Component, resets: bool = False) -> Emitted:
    """Verilog of a component as the generator emits it, once per class, parameters and ports in a process.

    resets: its reset is one more input.
    """
    inputs, outputs = ({n: len(v) for n, v in side.items()} for side in _ports(component))
    plain = {n: v for n, v in vars(component).items() if isinstance(v, int | str) or dataclasses.is_dataclass(v)}
    key = (type(component), resets, *sorted((n, repr(v)) for n, v in plain.items()), *inputs.items(), *outputs.items())
    if key not in _emitted:
        name = "dut_" + type(component).__name__.lower()
        with emitting() as modules:
            text = convert(component, name)
        header = set(ports_of(text, name))
        inputs |= {"rst": 1} if resets else {}
        sides = (tuple((n, bits) for n, bits in side.items() if n in header) for side in (inputs, outputs))
        sources = {f"{n}.v": body for n, body in {**modules, name: text}.items()}
        _emitted[key] = Emitted(name, sources, "clk" in header, *sides)
    return _emitted[key]


def _valid_of(port: str, outputs: Mapping[str, int]) -> str | None:
    """The valid signal that goes with a payload port: x__payload, or an AXI channel's signals (x__wdata, x__wvalid)."""
    match = re.fullmatch(r"(.*__)(?:payload|(aw|ar|w|r|b)[a-z]+)", port)
    valid = f"{match[1]}{match[2] or ''}valid" if match else port
    return valid if valid != port and valid in outputs else None


def _bench(unit: Emitted) -> str:
    """Module vf_replay. A cycle takes four edges of ``clk``: set the inputs, compare the outputs, clock up, clock down;
    so nothing is set or read while the component's own clock moves, and no simulator's order of events matters."""
    size, at, connections, checks = 8 * unit.bytes, 0, [], []
    if unit.clocked:
        connections += [".clk(edge_)", *([] if ("rst", 1) in unit.inputs else [".rst(1'b0)"])]
    for name, bits in unit.inputs:
        connections.append(f".{name}(vector[{at} +: {bits}])")
        at += bits
    wires = []
    valids = dict(unit.outputs)
    resets = ("rst", 1) in unit.inputs
    for name, bits in unit.outputs:
        valid = _valid_of(name, valids)
        unknown = "1'b1" if resets else f"^got_{name} === 1'bx"
        strobes = name.removesuffix("data") + "strb"  # bytes whose strobe is off are no data
        strobed = f" && got_{strobes} !== 0" if resets and name.endswith("wdata") and strobes in valids else ""
        known = f" && (got_{valid} !== 1'b0{strobed} || !({unknown}))" if valid else ""
        wires.append(f"    wire [{bits - 1}:0] got_{name};")
        connections.append(f".{name}(got_{name})")
        checks.append(
            f"            if (got_{name} !== vector[{at} +: {bits}]{known}) begin\n"
            f'                $display("VF_DIFFERS cycle %0d port {name} %h %h", cycle, vector[{at} +: {bits}], '
            f"got_{name});\n                failed = 1'b1;\n            end"
        )
        at += bits
    return "\n".join([
        "// Generated by vitforge_sim.bench.replay",
        "module vf_replay (input wire clk);",
        f"    reg [{size - 1}:0] vector;",
        "    reg edge_ = 1'b0, failed = 1'b0;",
        "    reg [1:0] phase = 2'd0;",
        "    reg [8 * 1024 - 1:0] path;",
        "    integer file, got, cycle = 0;",
        *wires,
        f"    {unit.name} dut (", "        " + ",\n        ".join(connections), "    );",
        "    initial begin",
        '        if ($value$plusargs("vectors=%s", path)) file = $fopen(path, "rb"); else file = 0;',
        "    end",
        "    always @(posedge clk) begin",
        "        phase <= phase + 2'd1;",
        "        if (phase == 2'd0) begin",
        "            edge_ <= 1'b0;",
        "            got = $fread(vector, file);",
        f"            if (got != {unit.bytes}) begin",
        '                $display("VF_REPLAYED %0d", cycle);',
        "                $finish;",
        "            end",
        "        end else if (phase == 2'd1) begin",
        *checks,
        "            if (failed) $finish;",
        "        end else if (phase == 2'd2) begin",
        "            edge_ <= 1'b1;",
        "            cycle = cycle + 1;",
        "        end",
        "    end",
        "endmodule",
        "",
    ])  # fmt: skip


_ICARUS_MAIN = """module vf_main;
    reg clk = 1'b0;
    always #5 clk = ~clk;
    vf_replay vf_replay (.clk(clk));
endmodule
"""


def replay(
    unit: Emitted, vectors: Sequence[int], simulator: str, *, edit: Callable[[str], str] = str, timeout: float = 300.0
) -> None:
    """Play recorded cycles to the Verilog and compare. Raises ReplayDiffers, BuildError, ToolMissing.

    vectors: per cycle, inputs in the lowest bits, outputs above them, as ``unit`` lists them. edit: changes the
    Verilog first, for tests that a wrong operator is found.
    """
    sources = {name: edit(_READ_REGISTER.sub(r"\1 = 0;", text)) for name, text in unit.sources.items()}
    sources["vf_replay.v"] = _bench(unit)
    top = "vf_replay"
    if simulator == "icarus":
        top, sources["vf_main.v"] = "vf_main", _ICARUS_MAIN
    program = build(simulator, top, sources, Options(cflags="-O0"))
    with tempfile.TemporaryDirectory(prefix="vitforge-replay-") as folder:
        with open(Path(folder) / "vectors.bin", "wb") as file:
            for vector in vectors:
                file.write(vector.to_bytes(unit.bytes, "big"))
        try:
            done = subprocess.run(
                [*program.command, "+vectors=vectors.bin"], cwd=folder, env=toolchain.environment(simulator),
                capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ReplayDiffers(f"{unit.name} in {simulator} did not finish in {timeout:g} s") from None
    differs = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("VF_DIFFERS")]
    if differs:
        _, cycle, _, port, expected, got = differs[0]
        raise ReplayDiffers(
            f"{unit.name} in {simulator}, cycle {cycle}, port {port}: Amaranth's simulator has {expected}, "
            f"the Verilog {got} (hexadecimal)"
        )
    if f"VF_REPLAYED {len(vectors)}" not in done.stdout.splitlines():
        tail = (done.stdout + done.stderr).strip()[-800:]
        raise ReplayDiffers(f"{unit.name} in {simulator} did not play {len(vectors)} cycles:\n  {tail}")


class Resettable(Elaboratable):
    """``dut`` in a clock domain of its own: a test sets ``reset`` as aresetn would."""

    def __init__(self, dut: wiring.Component):
        self.dut, self.domain = dut, ClockDomain("sync")
        self.reset = self.domain.rst

    def elaborate(self, platform):
        m = Module()
        m.domains += self.domain
        m.submodules.dut = self.dut
        return m


class Simulator(amaranth.sim.Simulator):
    """amaranth.sim.Simulator whose `run` ends with a replay.

    toplevel: what is simulated. components: whose ports are recorded and whose Verilog is replayed (default: the top
    level itself, a Component). simulators: where. A component without clock is recorded by `await sim.sample(ctx)`;
    what comes from `reuse.reused` starts once. The reset of a `Resettable` is replayed too, if the test ever sets it.
    """

    def __init__(self, toplevel, *, components: Sequence[wiring.Component] | None = None, simulators=USUAL):
        if start := reuse.started(toplevel):
            self._design, self._engine = start.design, start.again()
            self._clocked, self._running = set(), False
        else:
            super().__init__(toplevel)
            if reuse.is_reused(toplevel):
                reuse.Start(toplevel, self._design, self._engine)
        self.simulators = tuple(simulators)
        self._resets = isinstance(toplevel, Resettable)
        chosen = components or [toplevel.dut if self._resets else toplevel]
        self._units = [(c, *_ports(c), []) for c in chosen] if self.simulators else []
        for _, inputs, _, _ in self._units if self._resets else []:
            inputs["rst"] = toplevel.reset

    def _values(self, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> Value:
        return Cat(*inputs.values(), *outputs.values())

    def add_clock(self, period, **options):
        super().add_clock(period, **options)
        for _, inputs, outputs, log in self._units:
            self.add_process(self._recorder(self._values(inputs, outputs), log))

    @staticmethod
    def _recorder(values: Value, log: list[int]):
        async def record(ctx):
            async for _, _, level in ctx.tick().sample(values):
                log.append(level)

        return record

    def sample(self, ctx) -> None:
        """Record the present levels of components without clock."""
        for _, inputs, outputs, log in self._units:
            log.append(ctx.get(self._values(inputs, outputs)))

    def run(self):
        super().run()
        for component, inputs, outputs, log in self._units:
            assert log, f"{type(component).__name__}: nothing was recorded"
            if self._resets:
                at = sum(map(len, inputs.values())) - 1
                if not any(level >> at & 1 for level in log):
                    log = [level & ((1 << at) - 1) | level >> at + 1 << at for level in log]
                    del inputs["rst"]
            unit = emitted(component, "rst" in inputs)
            missing = {*inputs, *outputs} - {n for n, _ in unit.inputs + unit.outputs}
            assert not missing, f"{unit.name}: ports missing in Verilog: {missing}"
            for simulator in self.simulators:
                replay(unit, log, simulator)
