"""The cell for weights of 8 and 4 bits, with what feeds it: sums against plain integers, in both forms of the DSP."""

import itertools
import random

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from vitforge_hw.arch.config import ACC_BITS
from vitforge_hw.units import w4_cell
from vitforge_hw.units.pe_cell import packed_inputs
from vitforge_hw.units.w4_cell import W4Cell, w4_lanes

LATENCY = 1 + w4_cell.LATENCY
A, W, W4 = range(-128, 128), range(-127, 128), range(-7, 8)


class Lanes(wiring.Component):
    """``lanes`` lanes of ``w4_lanes`` for ``cores`` tokens, with ports."""

    def __init__(self, width, cores=2, lanes=1):
        self.shape = width, cores, lanes
        ports = {"x": In(8 * width * cores), "w": In(8 * width * lanes), "four": In(1), "valid": In(1), "first": In(1)}
        super().__init__(ports | {"acc": Out(ACC_BITS).array(2 * lanes * cores)})

    def elaborate(self, platform):
        width, cores, lanes = self.shape
        m = Module()
        valid, first = Signal(), Signal()
        m.d.sync += [valid.eq(self.valid), first.eq(self.first)]
        pairs = packed_inputs(m, self.x, 0, cores, width, width)
        acc = w4_lanes(m, pairs, self.x, self.w, self.four, valid, first, cores, lanes)
        flat = [value for lane in acc for value in lane]
        m.d.comb += [port.eq(value) for port, value in zip(self.acc, flat, strict=True)]
        return m


def run(steps, width, cores=2, lanes=1, gaps=False, seed=1):
    """Accumulators (lanes or 2 * lanes, cores) behind each step, those of upper lanes a cycle later.

    ``steps``: (x (cores, width), weights, first); weights (lanes, width), or (2, lanes, width) for 4 bits.
    """
    dut = Lanes(width, cores, lanes)
    rng = random.Random(seed)
    out = [None] * len(steps)

    async def bench(ctx):
        due, cycle, todo = {}, 0, list(enumerate(steps))
        while todo or due:
            for number, upper in due.pop(cycle, []):
                at = range(lanes * cores, 2 * lanes * cores) if upper else range(lanes * cores)
                values = [(v := ctx.get(dut.acc[i])) - (v >> ACC_BITS - 1 << ACC_BITS) for i in at]
                out[number] = (out[number] or []) + values
            if todo and not (gaps and rng.random() < 0.4):
                number, (x, w, first) = todo.pop(0)
                four = int(np.ndim(w) == 3)
                due.setdefault(cycle + LATENCY, []).append((number, 0))
                if four:
                    due.setdefault(cycle + LATENCY + 1, []).append((number, 1))
                    w = np.asarray(w)
                    w = (w[0] & 15) | ((w[1] & 15) << 4)
                valid = 1
            else:
                valid, first, four = 0, rng.randrange(2), rng.randrange(2)
                x, w = (np.array([rng.choices(A, k=width) for _ in range(n)]) for n in (cores, lanes))
            for port, value in ((dut.x, x), (dut.w, w)):
                ctx.set(port, int.from_bytes((np.asarray(value) & 255).astype(np.uint8).tobytes(), "little"))
            for port, value in ((dut.valid, valid), (dut.first, first), (dut.four, four)):
                ctx.set(port, int(value))
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return out


def expected(steps):
    """Plain integers; every step of a tile has weights of one kind."""
    out, acc = [], None
    for x, w, first in steps:
        product = np.einsum("...lk,tk->...lt", np.asarray(w), np.asarray(x)).ravel()
        acc = product if first else acc + product
        out.append(acc.tolist())
    return out


def step(rng, width, four, first=True, a=A, cores=2, lanes=1):
    pick = lambda values, *shape: np.array(rng.choices(list(values), k=int(np.prod(shape)))).reshape(shape)  # noqa: E731
    return pick(a, cores, width), pick(W4, 2, lanes, width) if four else pick(W, lanes, width), first


def test_formulas_for_all_operands():
    """The module's equations for every a0, a1, w0, w1 (one product a field), and for sums of two at their ends."""
    a = np.arange(-128, 128)
    for w0, w1 in itertools.product(W4, repeat=2):
        s = np.array(np.broadcast_arrays(a[:, None] * w0, a[:, None] * w1, a * w0, a * w1))
        check_formulas(s)
    ends = np.array([-1792, -1791, -1025, -1, 0, 1, 511, 512, 1023, 1791, 1792])
    check_formulas(np.array(np.meshgrid(*[ends] * 4)))


def check_formulas(s):
    p = s[0] + (s[1] << 9) + (s[2] << 18) + (s[3] << 27)
    wrap = lambda v: ((v + 4) & 7) - 4  # noqa: E731
    h = [wrap((p >> 9 * (i + 1)) - s[i + 1]) for i in range(3)]
    for i in range(3):
        assert np.array_equal((p >> 9 * i & 511) + 512 * h[i] - (h[i - 1] if i else 0), s[i])
    assert np.array_equal((p >> 27) - h[2], s[3]) and int(np.abs(p).max()) < 1 << 38


@pytest.mark.parametrize("four", [True, False])
def test_every_operand_pair(four):
    """Each a with each w in every position of the fields, among random neighbours."""
    rng = random.Random(4)
    pairs = list(itertools.product(A, W4 if four else W))
    rng.shuffle(pairs)
    steps, width = [], 16
    for at in range(0, len(pairs), width):
        x, w, first = step(rng, width, four)
        for i, (a, b) in enumerate(pairs[at : at + width]):
            x[at // width % 2, i] = a
            w[(at // width // 2 % 2, 0, i) if four else (0, i)] = b
        steps.append((x, w, first))
    if four:  # each pair as every product of a multiplier
        steps = [(x[::t], w[::n], f) for x, w, f in steps for t in (1, -1) for n in (1, -1)]
    assert run(steps, width) == expected(steps)


@pytest.mark.parametrize("width", [8, 16])
def test_extremes(width):
    """Every combination of extreme operands on all inputs, each input alone among extreme neighbours."""
    ends, small = (-128, 127), (-7, 7)
    full = lambda v: [v] * width  # noqa: E731
    steps = []
    for a0, a1, w0, w1 in itertools.product((-128, -1, 0, 127), (-128, -1, 0, 127), (-7, -1, 0, 7), (-7, -1, 0, 7)):
        steps.append(([full(a0), full(a1)], [[full(w0)], [full(w1)]], True))
    for a0, a1, w in itertools.product(ends, ends, (-127, 127)):
        steps.append(([full(a0), full(a1)], [full(w)], True))
    for i, a, w in itertools.product(range(width), itertools.product(ends, ends), itertools.product(small, small)):
        x, weights = np.full((2, width), -128), np.full((2, 1, width), 7)
        x[:, i], weights[:, 0, i] = a, w
        steps.append((x, weights, True))
    assert run(steps, width) == expected(steps)


@pytest.mark.parametrize("gaps", [False, True])
def test_sums_of_both_kinds(gaps):
    """Tiles of 2 to 9 steps, their kinds mixed, two lanes of four tokens; idle cycles with wild operands."""
    rng, steps = random.Random(2), []
    while len(steps) < 300:
        four = rng.random() < 0.6
        steps += [step(rng, 8, four, i == 0, cores=4, lanes=2) for i in range(rng.randrange(2, 10))]
    assert run(steps, 8, 4, 2, gaps) == expected(steps)


def test_longest_reduction():
    """4128 products of the largest magnitude."""
    x = [[-128] * 16, [127] * 16]
    four = [(x, [[[-7] * 16], [[7] * 16]], i == 0) for i in range(258)]
    eight = [(x, [[-127] * 16], i == 0) for i in range(258)]
    for steps in (four, eight):
        assert run(steps, 16)[-1] == expected(steps)[-1]
    assert expected(four)[-1] == [4128 * v for v in (128 * 7, -127 * 7, -128 * 7, 127 * 7)]


def test_width_is_checked():
    with pytest.raises(ValueError, match="W4 cell: width must be a multiple of 8, not 12"):
        W4Cell(12)


@pytest.mark.parametrize("name, value", [("LOW", 2), ("LOW_DELAY", 5), ("LATENCY", w4_cell.LATENCY + 1)])
def test_a_wrong_cell_is_found(name, value, monkeypatch):
    """One overlapping bit less, low bits of other operands, flags a cycle late: sums of both kinds show each."""
    monkeypatch.setattr(w4_cell, name, value)
    rng = random.Random(3)
    steps = [step(rng, 8, four, i == 0, a=(-128, 127)) for four in (True, False, True) * 4 for i in range(3)]
    assert run(steps, 8, gaps=True) != expected(steps)


def test_minus_eight_is_outside():
    """Two products of -128 and -8 are one more than a field holds: the graph's rule keeps such weights away."""
    steps = [([[-128] * 8] * 2, [[[-8] * 8]] * 2, True)]
    assert run(steps, 8) != expected(steps)
