"""One stream case on one component in Amaranth's simulator, Verilator and Icarus.

The three must agree on every word and on the clock edge of every transfer, otherwise `SimulatorsDisagree` names the
first difference. Tests then compare the common result with the plain-int definition and assert the latency.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

from amaranth.back import verilog
from amaranth.hdl import Cat, Const, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from ..run.build import Options, build
from ..run.topbench import SimulationHang
from .cocotb_run import run_cocotb
from .streams import CROSSED, Driver, StreamRuleBroken, Transfers, pattern

SIMULATORS = ("amaranth", "verilator", "icarus")


class SimulatorsDisagree(AssertionError):
    """Two simulators of one component differ; the message names stream, transfer, values and cycles."""


def emit(component: wiring.Component, name: str) -> str:
    """Verilog of a component as module `name`, without source locations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)


def port_names(component: wiring.Component) -> list[str]:
    """Verilog names of the component's ports ("i__valid"), constants left out."""
    return ["__".join(map(str, path)) for path, _, value in component.signature.flatten(component)
            if not isinstance(Value.cast(value), Const)]  # fmt: skip


def _free_inputs(component: wiring.Component, streams: Sequence[str]) -> list[str]:
    """Input ports that belong to none of `streams`; left alone they would be unknown in Icarus."""
    return [
        "__".join(map(str, path))
        for path, member, value in component.signature.flatten(component)
        if member.flow == wiring.In and str(path[0]) not in streams and not isinstance(Value.cast(value), Const)
    ]


def _port(component, name: str) -> Value:
    value = component
    for part in name.split("__"):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return Value.cast(value)


def _amaranth(component, case: dict, idle: Sequence[int], stall: Sequence[int]) -> dict:
    driver = Driver(case["inputs"], case["outputs"], idle, stall, case["linger"], case["max_cycles"])

    def settable(name):
        value = _port(component, name)
        return None if isinstance(value, Const) else Cat(value)

    ins = {n: [settable(f"{n}__{s}") for s in ("valid", "payload")] for n in case["inputs"]}
    readies = {n: settable(f"{n}__ready") for n in case["outputs"]}
    watched = [Cat(_port(component, f"{n}__ready")) for n in case["inputs"]]
    for n in case["outputs"]:
        watched += [Cat(_port(component, f"{n}__valid")), Cat(_port(component, f"{n}__payload"))]

    async def bench(ctx):
        def put(value, level):
            if value is not None:
                ctx.set(value, level)

        for name, value in case["constants"].items():
            put(settable(name), value)
        while not driver.finished:
            offers, ready = driver.drive()
            for name, (valid, payload) in offers.items():
                put(ins[name][0], valid)
                put(ins[name][1], payload)
            for name, level in ready.items():
                put(readies[name], level)
            if sequential:
                _, _, *levels = await ctx.tick().sample(*watched)
            else:
                await ctx.delay(1e-8)
                levels = [ctx.get(value) for value in watched]
            count = len(ins)
            outputs = {n: (levels[count + 2 * k], levels[count + 2 * k + 1]) for k, n in enumerate(case["outputs"])}
            driver.sample(dict(zip(ins, levels[:count])), outputs, ready)

    simulator = Simulator(component)
    sequential = "clk" in case["ports"]
    if sequential:
        simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    error = None
    try:
        simulator.run()
    except StreamRuleBroken as caught:
        error = f"cycle {driver.cycle}: {caught}"
    return driver.answer(error)


def _cocotb(simulator: str, top: str, sources: Mapping[str, str], case: dict, timeout: float) -> list[dict]:
    program = build(simulator, top, sources, Options(cocotb=True, public=tuple(case["ports"])))
    return run_cocotb(program, "vitforge_sim.bench.unit_cocotb", case, timeout)


def _same(names: Sequence[str], answers: Sequence[dict], what: str) -> None:
    for name, answer in zip(names[1:], answers[1:]):
        for stream, (values, cycles) in answers[0]["transfers"].items():
            other_values, other_cycles = answer["transfers"][stream]
            pairs = list(zip(zip(values, cycles), zip(other_values, other_cycles)))
            for number, ((v, c), (w, d)) in enumerate(pairs):
                if (v, c) != (w, d):
                    raise SimulatorsDisagree(
                        f"{what}: stream {stream}, transfer {number}: {names[0]} has {v:#x} in cycle {c}, "
                        f"{name} has {w:#x} in cycle {d}"
                    )
            if len(values) != len(other_values):
                raise SimulatorsDisagree(
                    f"{what}: stream {stream}: {names[0]} has {len(values)} transfers, {name} {len(other_values)}"
                )


def run_stream_cases(
    component: wiring.Component,
    vectors: Sequence[int] | Mapping[str, Sequence[int]],
    *,
    patterns: Sequence[tuple] = CROSSED,
    outputs: int | Mapping[str, int] | None = None,
    constants: Mapping[str, int] | None = None,
    simulators: Sequence[str] = SIMULATORS,
    sources: Mapping[str, str] | None = None,
    linger: int = 16,
    max_cycles: int | None = None,
    timeout: float = 600.0,
) -> list[dict[str, Transfers]]:
    """Plays the vectors once per (idle, stall) of `patterns`, in one process per simulator, a reset between them.

    Returns per pattern: stream name -> Transfers(values, cycles), inputs and outputs, the same in every simulator.

    vectors: payloads (unsigned ints) of input stream `i`, or {stream: payloads}. outputs: words expected from `o`
    (default: as many as vectors), or {stream: number}. constants: other input ports -> level, as Verilog names
    ("config__shift"); 0 where not given. patterns: names of streams.PATTERNS or bits. simulators: leave out "amaranth"
    for a component with an Instance, whose Verilog then goes into `sources` (file name -> text). linger: cycles to
    watch for surplus words. max_cycles: of one play, default 40 a word and 2000. timeout: seconds per simulator.

    Raises SimulatorsDisagree, SimulationHang (words missing), StreamRuleBroken, ValueError, BuildError.
    """
    inputs = {"i": list(vectors)} if not isinstance(vectors, Mapping) else {n: list(v) for n, v in vectors.items()}
    if outputs is None:
        outputs = max(map(len, inputs.values()))
    outputs = {"o": outputs} if isinstance(outputs, int) else dict(outputs)
    for name in simulators:
        if name not in SIMULATORS:
            raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {name!r}")
    for name, values in inputs.items():
        width = len(_port(component, f"{name}__payload"))
        bad = next((v for v in values if not 0 <= v < 1 << width), None)
        if bad is not None:
            raise ValueError(f"payloads of stream {name} must be unsigned {width}-bit ints, not {bad}")
    bits = [(pattern(idle), pattern(stall)) for idle, stall in patterns]
    top = "unit_" + type(component).__name__.lower()
    text = emit(component, top)
    header = text[text.index(f"module {top}(") :]
    header = header[: header.index(");")]
    clocked = [name for name in ("clk", "rst") if name in header.replace("(", ",").replace(" ", "").split(",")]
    words = sum(map(len, inputs.values())) + sum(outputs.values())
    levels = dict.fromkeys(_free_inputs(component, [*inputs, *outputs]), 0) | dict(constants or {})
    case = {
        "inputs": inputs,
        "outputs": outputs,
        "patterns": bits,
        "linger": linger,
        "max_cycles": max_cycles or 2000 + 40 * words,
        "constants": {name: level % (1 << len(_port(component, name))) for name, level in levels.items()},
        "ports": [*clocked, *port_names(component)],
    }
    answers = []
    for name in simulators:
        if name == "amaranth":
            answers.append([_amaranth(component, case, idle, stall) for idle, stall in bits])
        else:
            answers.append(_cocotb(name, top, {**(sources or {}), "unit.v": text}, case, timeout))
        for (idle, stall), answer in zip(patterns, answers[-1]):
            what = f"{top} in {name} (idle {idle}, stall {stall})"
            if answer["error"]:
                raise StreamRuleBroken(f"{what}: {answer['error']}")
            if not answer["complete"]:
                raise SimulationHang(f"{what}: {answer['state']}")
    for (idle, stall), *same in zip(patterns, *answers):
        _same(simulators, same, f"{top} (idle {idle}, stall {stall})")
    return [{name: Transfers(*pair) for name, pair in answer["transfers"].items()} for answer in answers[0]]


def run_stream_case(
    component: wiring.Component,
    vectors: Sequence[int] | Mapping[str, Sequence[int]],
    *,
    idle: str | Sequence[int] = "full",
    stall: str | Sequence[int] = "full",
    **options,
) -> dict[str, Transfers]:
    """One pattern of `run_stream_cases`, which has the options: stream name -> Transfers(values, cycles)."""
    return run_stream_cases(component, vectors, patterns=[(idle, stall)], **options)[0]


@dataclasses.dataclass(frozen=True)
class Latency:
    """Cycles from an input transfer to the output transfer that it causes, one word in, one word out."""

    least: int
    most: int


def latency(result: Mapping[str, Transfers], source: str = "i", target: str = "o") -> Latency:
    """Latency over all words of a one-in, one-out unit; assert it equal to the unit's figure with no stalls."""
    differences = [b - a for a, b in zip(result[source].cycles, result[target].cycles)]
    return Latency(min(differences), max(differences))
