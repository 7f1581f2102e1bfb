"""Rows and tiles that wait in distributed RAM: order, every place used, full and empty, all bits."""

import collections
import random

import pytest

from vitforge_hw.engines.tile_fifo import TileBank, TileFifo
from vitforge_hw.post.planes import Planes
from vitforge_sim.bench.replay import Simulator


def levels(depth, rng, cycles):
    """(a row comes in, a row leaves) of each cycle: filled to the brim, emptied, then anything between, and full
    again."""
    level, out = 0, []
    wishes = ((0.9, 0.1), (0.1, 0.9), (0.5, 0.5))
    for cycle in range(cycles):
        wish = wishes[cycle // (2 * depth) % 3]
        leaves = level > 0 and rng.random() < wish[1]
        comes = level < depth and rng.random() < wish[0]
        out.append((comes, leaves))
        level += comes - leaves
    return out


def run(dut, bench):
    sim = Simulator(dut, simulators=("icarus",))

    async def process(ctx):
        await bench(ctx)

    sim.add_clock(1e-6)
    sim.add_testbench(process)
    sim.run()


@pytest.mark.parametrize("bits, depth", [(216, 32), (52, 64)])
def test_bank(bits, depth):
    dut, rng, held = TileBank(bits, depth), random.Random(1), collections.deque()

    async def bench(ctx):
        most = 0
        for comes, leaves in levels(depth, rng, 12 * depth):
            value = rng.getrandbits(bits)
            ctx.set(dut.push, comes)
            ctx.set(dut.value, value)
            ctx.set(dut.pop, leaves)
            if held:
                assert ctx.get(dut.out) == held[0]
            if leaves:
                held.popleft()
            if comes:
                held.append(value)
            most = max(most, len(held))
            await ctx.tick()
        assert most == depth

    run(dut, bench)


def test_fifo():
    """``ready`` at every level, the deepest included."""
    tokens, bits, depth = 4, 216, 32
    dut, rng, held = TileFifo(tokens, bits, depth), random.Random(2), collections.deque()

    async def bench(ctx):
        most = 0
        for comes, leaves in levels(depth, rng, 10 * depth):
            tile = rng.getrandbits(tokens * bits)
            ctx.set(dut.push, comes)
            ctx.set(dut.tile, tile)
            ctx.set(dut.pop, leaves)
            assert ctx.get(dut.ready) == bool(held)
            if held:
                assert ctx.get(dut.first) == held[0]
            if leaves:
                held.popleft()
            if comes:
                held.append(tile)
            most = max(most, len(held))
            await ctx.tick()
        assert most == depth

    run(dut, bench)


def test_planes():
    """Both planes at once, one after the other, or the low one alone; the high one is then what was there."""
    bits, depth = 128, 32
    dut, rng, held = Planes(bits, depth), random.Random(3), collections.deque()
    places = {"low": [0] * depth, "high": [0] * depth}

    async def bench(ctx):
        filled = used = 0
        for comes, leaves in levels(depth, rng, 10 * depth):
            room = len(held) < depth
            for name, places_of in places.items():
                writes = room and (rng.random() < 0.5 or (comes and name == "low"))
                row = rng.getrandbits(bits)
                ctx.set(getattr(dut, name), row)
                ctx.set(getattr(dut, f"write_{name}"), writes)
                if held:
                    assert ctx.get(getattr(dut, f"oldest_{name}")) == places_of[used % depth]
                if writes:
                    places_of[filled % depth] = row
            ctx.set(dut.filled, comes)
            ctx.set(dut.used, leaves)
            if leaves:
                held.popleft()
                used += 1
            if comes:
                held.append(filled)
                filled += 1
            await ctx.tick()
        assert filled > 2 * depth

    run(dut, bench)
