"""Post-processing units against arch.arith: values and latency, one result a cycle."""

import random

import pytest

from vitforge_hw.arch import arith
from vitforge_hw.units import gelu, post_lane, requantize, residual
from vitforge_hw.units.gelu import Gelu
from vitforge_hw.units.post_lane import PostLane
from vitforge_hw.units.requantize import Requantize
from vitforge_hw.units.residual import ResidualAdd
from vitforge_sim.replay import Simulator


def stream(dut, stages, outputs, latency, cases):
    """One case (a dict) a cycle, each operand its own number of cycles after the first; outputs after ``latency``."""
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    out = []

    async def bench(ctx):
        for cycle in range(len(cases) + latency):
            for name, stage in stages.items():
                if 0 <= cycle - stage < len(cases):
                    ctx.set(getattr(dut, name), cases[cycle - stage][name])
            if cycle >= latency:
                out.append(tuple(ctx.get(getattr(dut, o)) for o in outputs))
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return out


def test_requantize():
    top = (1 << 26) - 1
    rng = random.Random(3)
    cases = [dict(acc=0, bias=0, s1=s) for s in range(48)]
    for s1 in range(48):
        half = 1 << max(s1 - 1, 0)
        ties = (half, -half, half - 1, -half - 1, 3 * half, -3 * half)
        for acc in (1, -1, *ties, 2047 << s1, -2049 << s1, top, -top - 1):
            if -top - 1 <= acc <= top:
                cases.append(dict(acc=acc, bias=0, s1=s1))
    for _ in range(1500):
        size = rng.randrange(2, 27)
        acc, bias = (rng.randrange(-(1 << size - 1), 1 << size - 1) for _ in range(2))
        if -top - 1 <= acc + bias <= top:
            cases.append(dict(acc=acc, bias=bias, s1=rng.randrange(48)))
    got = stream(Requantize(), dict(acc=0, bias=0, s1=1), ["p"], requantize.LATENCY, cases)
    want = [(arith.saturate(arith.round_shift(c["acc"] + c["bias"], c["s1"]), 12),) for c in cases]
    assert got == want


@pytest.mark.parametrize("e", range(arith.GELU_EXP_MIN, arith.GELU_EXP_MAX + 1))
def test_gelu_exhaustive(e):
    cases = [dict(p=p, exp_index=e, exp_out=e, act=arith.ACT_GELU) for p in range(-2048, 2048)]
    stages = dict(p=0, exp_index=gelu.INDEX_STAGE, exp_out=gelu.OUT_STAGE, act=gelu.OUT_STAGE)
    got = stream(Gelu(), stages, ["h"], gelu.LATENCY, cases)
    assert got == [(arith.gelu(p, e),) for p in range(-2048, 2048)]


def test_gelu_is_bypassed():
    rng = random.Random(4)
    cases = [
        dict(p=rng.randrange(-2048, 2048), exp_index=e, exp_out=e, act=rng.randrange(2))
        for e in (rng.randrange(3, 11) for _ in range(1000))
    ]
    stages = dict(p=0, exp_index=gelu.INDEX_STAGE, exp_out=gelu.OUT_STAGE, act=gelu.OUT_STAGE)
    got = stream(Gelu(), stages, ["h"], gelu.LATENCY, cases)
    assert got == [(arith.activation(c["p"], c["act"], c["exp_out"]),) for c in cases]


def outcome(y):
    return (y & 255, (y >> 8) & 255)


def test_residual_add():
    rng = random.Random(5)
    h = (-2048, -1, 0, 1, 2047)
    r = (-32768, -129, -1, 0, 1, 127, 32767)
    cases = [
        dict(h=a, residual=b, eh=x, er=y, s2=s, offset=o, wide=w, narrow=n)
        for a in h for b in r for x in (0, 15) for y in (0, 15) for s in (0, 1, 31) for o in (-128, 127)
        for w in (0, 1) for n in (0, 1)
    ]  # fmt: skip
    for _ in range(2000):  # results near the range, ties included
        eh, er, s2 = rng.randrange(6), rng.randrange(6), rng.randrange(8)
        cases.append(
            dict(h=rng.randrange(-300, 300), residual=rng.randrange(-300, 300), eh=eh, er=er, s2=s2,
                 offset=rng.randrange(-128, 128), wide=rng.randrange(2), narrow=rng.randrange(2))
        )  # fmt: skip
    stages = dict(h=0, residual=0, eh=0, er=0, s2=residual.S2_STAGE, offset=residual.OFFSET_STAGE,
                  wide=residual.OUT_STAGE, narrow=residual.OUT_STAGE)  # fmt: skip
    got = stream(ResidualAdd(), stages, ["low", "high"], residual.LATENCY, cases)
    for case, value in zip(cases, got, strict=True):
        total = (case["h"] << case["eh"]) + (case["residual"] << case["er"])
        y = arith.round_shift(total, case["s2"]) + case["offset"]
        assert value == outcome(arith.saturate(y, 12 if case["wide"] else 8, bool(case["narrow"]))), case


def test_lane():
    rng = random.Random(6)
    cases = []
    for _ in range(3000):
        e, size = rng.randrange(3, 11), rng.randrange(4, 26)
        acc = rng.randrange(-(1 << size), 1 << size)
        cases.append(
            dict(acc=acc, bias=rng.randrange(-1000, 1000), s1=max(0, size - rng.randrange(5, 14)), exp_index=e,
                 exp_out=e, act=rng.randrange(2), residual=rng.randrange(-2048, 2048), eh=rng.randrange(8),
                 er=rng.randrange(8), s2=rng.randrange(16), offset=rng.randrange(-128, 128), wide=rng.randrange(2),
                 narrow=rng.randrange(2))
        )  # fmt: skip
    got = stream(PostLane(), post_lane.STAGE, ["low", "high"], post_lane.LATENCY, cases)
    for c, value in zip(cases, got, strict=True):
        names = ("bias", "s1", "act", "eh", "residual", "er", "s2", "offset")
        kinds = dict(gelu_exp=c["exp_out"], out_bits=12 if c["wide"] else 8, narrow=bool(c["narrow"]))
        y = arith.postprocess(c["acc"], **kinds, **{n: c[n] for n in names})
        assert value == outcome(y), c
    assert len(set(got)) > 200
