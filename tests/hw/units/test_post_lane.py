"""Post-processing units against arch.arith: values and latency, one result a cycle."""

import random

import pytest

from vitforge_hw.arch import arith
from vitforge_hw.units import dyadic, gelu, hardswish, post_lane, requantize, residual
from vitforge_hw.units.dyadic import Dyadic
from vitforge_hw.units.gelu import Gelu
from vitforge_hw.units.hardswish import Hardswish
from vitforge_hw.units.post_lane import PostLane
from vitforge_hw.units.requantize import Requantize
from vitforge_hw.units.residual import ResidualAdd
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.bench.reuse import reused


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
    cases = [dict(acc=0, bias=0, s1=s) for s in range(32)]
    for s1 in range(32):
        half = 1 << max(s1 - 1, 0)
        ties = (half, -half, half - 1, -half - 1, 3 * half, -3 * half)
        for acc in (1, -1, *ties, 2047 << s1, -2049 << s1, top, -top - 1):
            if -top - 1 <= acc <= top:
                cases.append(dict(acc=acc, bias=0, s1=s1))
    for _ in range(1500):
        size = rng.randrange(2, 27)
        acc, bias = (rng.randrange(-(1 << size - 1), 1 << size - 1) for _ in range(2))
        bias >>= size > 25
        if -top - 1 <= acc + bias <= top:
            cases.append(dict(acc=acc, bias=bias, s1=rng.randrange(32)))
    got = stream(Requantize(), dict(acc=0, bias=0, s1=1), ["p"], requantize.LATENCY, cases)
    want = [(arith.saturate(arith.round_shift(c["acc"] + c["bias"], c["s1"]), 12),) for c in cases]
    assert got == want


@pytest.mark.parametrize("e", range(arith.GELU_EXP_MIN, arith.GELU_EXP_MAX + 1))
def test_gelu_exhaustive(e):
    cases = [dict(p=p, exp_index=e, exp_out=e, act=1) for p in range(-2048, 2048)]
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
    assert got == [(arith.activation(c["p"], c["act"], exp=c["exp_out"]),) for c in cases]


def outcome(y):
    return (y & 255, (y >> 8) & 255)


def sum_fits(h, r, e, s2):
    """The rule of ops.post: (h << eh) + (residual << er) and its rounding stay below 2^31, whatever the signs."""
    return (abs(h) << max(e, 0)) + (abs(r) << max(-e, 0)) + (1 << s2 >> 1) < 1 << 31


@pytest.mark.parametrize("h_bits", [requantize.P_BITS, hardswish.H_BITS])
def test_residual_add(h_bits):
    rng = random.Random(5)
    edge = 2047 if h_bits == requantize.P_BITS else 2048 * 4095
    h = (-edge - (h_bits == requantize.P_BITS), -1, 0, 1, edge)
    r = (-32768, -129, -1, 0, 1, 127, 32767)
    cases = [
        dict(h=a, residual=b, e=e, s2=s, offset=o, wide=w, narrow=n)
        for a in h for b in r for e in (-16, -15, -1, 0, 1, 7, 15) for s in (0, 1, 31) for o in (-128, 127)
        for w in (0, 1) for n in (0, 1) if sum_fits(a, b, e, s)
    ]  # fmt: skip
    for sign in (-1, 1):  # as far as the sum reaches, every shift
        for e in range(-16, 16):
            for s in range(32):
                a = min(edge, (1 << 30) - 1 >> max(e, 0))
                b = min(32767, (1 << 30) - 1 >> max(-e, 0))
                cases.append(dict(h=sign * a, residual=sign * b, e=e, s2=s, offset=sign * 127 - 1,
                                  wide=s & 1, narrow=e & 1))  # fmt: skip
    for _ in range(3000):  # results near the range, ties included
        s = rng.randrange(32)
        y = rng.randrange(-2400, 2400) << s  # about; half of it from either operand
        e = rng.randrange(-6, 6)
        a = max(-edge, min(edge, (y >> 1) + rng.randrange(-1 << s, 1 << s) >> max(e, 0)))
        b = max(-32768, min(32767, y - (a << max(e, 0)) >> max(-e, 0)))
        cases.append(dict(h=a, residual=b, e=e, s2=s, offset=rng.randrange(-128, 128), wide=rng.randrange(2),
                          narrow=rng.randrange(2)))  # fmt: skip
    for _ in range(2000):
        cases.append(
            dict(h=rng.randrange(-300, 300), residual=rng.randrange(-300, 300), e=rng.randrange(-6, 6),
                 s2=rng.randrange(8), offset=rng.randrange(-128, 128), wide=rng.randrange(2), narrow=rng.randrange(2))
        )  # fmt: skip
    cases = [c for c in cases if sum_fits(c["h"], c["residual"], c["e"], c["s2"])]
    assert len(cases) > 5000
    stages = dict(h=0, residual=0, e=0, s2=residual.S2_STAGE, offset=residual.OFFSET_STAGE,
                  wide=residual.OUT_STAGE, narrow=residual.OUT_STAGE)  # fmt: skip
    got = stream(ResidualAdd(h_bits), stages, ["low", "high"], residual.LATENCY, cases)
    for case, value in zip(cases, got, strict=True):
        total = (case["h"] << max(case["e"], 0)) + (case["residual"] << max(-case["e"], 0))
        y = arith.round_shift(total, case["s2"]) + case["offset"]
        assert value == outcome(arith.saturate(y, 12 if case["wide"] else 8, bool(case["narrow"]))), case


def test_dyadic():
    top = (1 << 26) - 1
    rng = random.Random(7)
    names = ("acc", "bias", "m1", "s1")
    cases = [
        dict(zip(names, v, strict=True))
        for acc in (-top - 1, -top, -1, 0, 1, top)
        for m1 in (0, 1, 32766, 32767)
        for s1 in range(32)
        for v in [(acc, 0, m1, s1)]
    ]
    cases += [dict(acc=-top - 1 + (1 << 25), bias=-(1 << 25), m1=32767, s1=31)]
    cases += [dict(acc=top - (1 << 25) + 1, bias=(1 << 25) - 1, m1=32767, s1=s) for s in (0, 31)]
    for _ in range(3000):
        size = rng.randrange(2, 26)
        acc, bias = (rng.randrange(-(1 << size - 1), 1 << size - 1) for _ in range(2))
        s1 = max(0, min(31, size + rng.randrange(-14, 4)))
        cases.append(dict(acc=acc, bias=bias, m1=rng.randrange(1 << 15), s1=s1))
    for s1 in range(32):  # ties: an odd multiple of the half
        for acc in (1, -1, 3, -3, 5, -7, 4095, -4095):
            for place in {max(0, s1 - 1), min(s1, 10)}:
                cases.append(dict(acc=acc << min(place, 14), bias=0, m1=0, s1=s1))
    for c in cases:
        c |= dict(mantissa=0, exponent=dyadic.NO_DIVISION, divide=0)
    extremes = [(acc, m, p, s) for acc in (-top - 1, -1, 0, 1, top) for m in (0, 1, 128, 255)
                for p in (0, 31) for s in (0, 31)]  # fmt: skip
    for _ in range(2000):
        size = rng.randrange(2, 26)
        m, p = arith.divisor_factor(rng.randrange(1 << rng.randrange(1, 27)), rng.randrange(2), rng.randrange(10))
        extremes.append((rng.randrange(-(1 << size), 1 << size), m, p, rng.randrange(32)))
    cases += [dict(acc=a, bias=0, m1=0, s1=s, mantissa=m, exponent=p, divide=1)
              for a, m, p, s in extremes]  # fmt: skip
    rng.shuffle(cases)
    stages = dict.fromkeys(("acc", "bias", "m1", "mantissa", "divide"), 0)
    stages |= dict.fromkeys(("s1", "exponent"), dyadic.SHIFT_STAGE)
    got = stream(Dyadic(), stages, ["p"], dyadic.LATENCY, cases)
    for c, (p,) in zip(cases, got, strict=True):
        if c["divide"]:
            assert arith.saturate(p, 8, True) == arith.divide(c["acc"], c["mantissa"], c["exponent"], c["s1"]), c
        else:
            assert p == arith.dyadic(c["acc"], c["bias"], c["m1"] + (1 << 15), c["s1"] + 15), c


def test_hardswish():
    rng = random.Random(8)
    cases = [dict(p=p, q3=a, q6=b) for p in (-2048, -1, 0, 1, 2047) for a in (0, 1, 2047, 4095) for b in (0, 1, 4095)]
    cases += [dict(p=p, q3=300, q6=600) for p in range(-2048, 2048)]
    for _ in range(2000):
        q3 = rng.randrange(1 << rng.randrange(1, 12))
        cases.append(dict(p=rng.randrange(-2048, 2048), q3=q3, q6=min(4095, 2 * q3 + rng.randrange(2))))
    got = stream(Hardswish(), dict(p=0, q3=0, q6=hardswish.CLIP_STAGE), ["h"], hardswish.LATENCY, cases)
    assert got == [(arith.hardswish(c["p"], c["q3"], c["q6"]),) for c in cases]


def lane_case(rng, trio, attention):
    """Operands of one result that keep it alive: the lane's inputs, and those of the reference."""
    exp, size = rng.randrange(3, 11), rng.randrange(4, 26)
    acc = rng.randrange(-(1 << size), 1 << size)
    case = dict(acc=acc, bias=rng.randrange(-1000, 1000), s1=max(0, size - rng.randrange(5, 14)), exp_index=exp,
                exp_out=exp, take_gelu=attention and rng.randrange(2), residual=rng.randrange(-2048, 2048),
                e=rng.randrange(-8, 8), s2=rng.randrange(16), offset=rng.randrange(-128, 128),
                wide=rng.randrange(2), narrow=rng.randrange(2))  # fmt: skip
    if trio:
        q3 = rng.randrange(1 << rng.randrange(1, 12))
        hard, divide = rng.randrange(2), rng.randrange(4) == 0
        case |= dict(m1=0 if divide else rng.randrange(1 << 15), divide=divide,
                     mantissa=rng.randrange(128, 256) if divide else 0,
                     exponent=rng.randrange(10) if divide else dyadic.NO_DIVISION)  # fmt: skip
        case |= dict(zip(("q3", "q6"), (q3, min(2 * q3, 4095)) if hard or attention else hardswish.IDENTITY))
        case["take_hardswish"] = hard
        if hard:
            case |= dict(take_gelu=0, s2=rng.randrange(6, 32), e=rng.randrange(-16, 8))
    return case


def lane_extremes(rng):
    """Of a lane with everything: each stage at its ends alone, what is behind it passes on all bits that it can."""
    names = "acc bias m1 s1 mantissa divide take_gelu take_hardswish q3 q6 residual e s2 offset narrow".split()
    plain = dict.fromkeys(names, 0) | dict(exponent=dyadic.NO_DIVISION, exp_index=3, exp_out=3, wide=1)
    top, cases = (1 << 26) - 1, []
    for _ in range(500):  # the multiplier: ties and ends of the range of p
        s1, m1 = rng.randrange(32), rng.choice((0, 1, 32766, 32767, rng.randrange(1 << 15)))
        goal = rng.choice((-4097, -2049, -2048, -1, 0, 1, 2047, 2048, rng.randrange(-2100, 2100)))
        acc = (2 * goal + 1 << s1 + 15) // (2 * ((1 << 15) + m1)) + rng.randrange(-1, 2)
        cases.append(plain | dict(acc=max(-top - 1, min(top, acc)), m1=m1, s1=s1))
    for p in (-2048, 2047, 0, -1, *(rng.randrange(-2048, 2048) for _ in range(400))):  # acc is p << 15: p, exactly
        exp = rng.randrange(3, 11)
        cases.append(plain | dict(acc=p << 15, exp_index=exp, exp_out=exp, take_gelu=1))
        q3 = rng.choice((0, 1, 2047, 4095, rng.randrange(1 << rng.randrange(1, 12))))
        q6 = rng.choice((0, 1, 4095, min(4095, 2 * q3)))
        cases.append(plain | dict(acc=p << 15, q3=q3, q6=q6, take_hardswish=1, s2=rng.randrange(14)))
    for _ in range(1200):  # the sum: results on both sides of the formats' ends, ties, every shift and offset
        s2, e = rng.randrange(32), -rng.randrange(17) if rng.randrange(2) else rng.randrange(16)
        wide, narrow = rng.randrange(2), rng.randrange(2)
        offset = rng.choice((-128, 127, 0, rng.randrange(-128, 128)))
        goal = rng.choice((-1, 1)) * (2047 if wide else 127) + rng.randrange(-3, 4) - offset
        if rng.randrange(4) == 0:
            goal = rng.choice((rng.randrange(-3000, 3000), -2048 + (1 << rng.randrange(7, 12)))) - offset
        total = (2 * goal + rng.randrange(2) << s2) >> 1
        residual = max(-32768, min(32767, total + rng.randrange(-1, 2) >> max(-e, 0)))
        p = max(-2048, min(2047, total - (residual << max(-e, 0)) >> max(e, 0)))
        case = plain | dict(acc=p << 15, residual=residual, e=e, s2=s2, offset=offset, wide=wide, narrow=narrow)
        if sum_fits(p, residual, e, s2):
            cases.append(case)
    assert len(cases) > 2200
    rng.shuffle(cases)
    return cases


@pytest.mark.parametrize("trio, attention", [(False, True), (True, False), (True, True)])
def test_lane(trio, attention):
    rng = random.Random(6)
    lane_check(trio, attention, [lane_case(rng, trio, attention) for _ in range(3000)])


def test_lane_extremes():
    lane_check(True, True, lane_extremes(random.Random(9)))


def lane_check(trio, attention, cases):
    """Cases to a lane, one a cycle; results by the functions of the contract."""
    dut = reused(PostLane, trio, attention)
    stages = {n: s for n, s in post_lane.stages(trio).items() if n in dut.signature.members}
    got = stream(dut, stages, ["low", "high"], post_lane.latency(trio), cases)
    for c, value in zip(cases, got, strict=True):
        m1, s1 = (1 << 15, c["s1"] + 15) if not trio else (
            (c["mantissa"], c["s1"] + c["exponent"]) if c["divide"] else ((1 << 15) + c["m1"], c["s1"] + 15)
        )  # fmt: skip
        p = arith.dyadic(c["acc"], c["bias"], m1, s1)
        h = arith.gelu(p, c["exp_out"]) if c["take_gelu"] else p
        if trio and c["take_hardswish"]:
            h = arith.hardswish(p, c["q3"], c["q6"])
        total = (h << max(c["e"], 0)) + (c["residual"] << max(-c["e"], 0))
        y = arith.round_shift(total, c["s2"]) + c["offset"]
        assert value == outcome(arith.saturate(y, 12 if c["wide"] else 8, bool(c["narrow"]))), c
    assert len(set(got)) > 200
