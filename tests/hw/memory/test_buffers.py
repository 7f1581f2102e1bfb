"""Activation buffer (arbitration, rotator, latency) and weight buffer against a dictionary of rows."""

import functools
import random

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.memory.activation import READERS, WRITERS, ActivationBuffer
from vitforge_hw.memory.weights import WeightBuffer
from vitforge_sim.replay import Simulator

CONFIG = get_config("tiny")


def simulate(dut, *processes):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for p in processes:
        sim.add_testbench(p)
    sim.run()


@pytest.mark.parametrize("seed", range(3))
def test_activation_buffer(seed):
    """Random writes by every client, then random reads by all clients at once: data, order and latency 2."""
    rng = random.Random(seed)
    dut = ActivationBuffer(CONFIG)
    rows = [rng.randrange(CONFIG.act_rows) for _ in range(40)] + [0, CONFIG.pool_rows - 1, CONFIG.pool_rows]
    rows = list(dict.fromkeys(rows))
    word = CONFIG.word * 8
    content, writers_left, readers_left = {}, [len(WRITERS)], [len(READERS)]

    async def writer(ctx, name, mine):
        port = getattr(dut, f"write_{name}")
        for addr in mine:
            value = rng.getrandbits(CONFIG.row_bytes * 8)
            content[addr] = value
            ctx.set(port.addr, addr)
            ctx.set(port.data, value)
            ctx.set(port.mask, (1 << CONFIG.cores) - 1)
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
        writers_left[0] -= 1

    async def reader(ctx, name):
        while writers_left[0]:
            await ctx.tick()
        await ctx.tick().repeat(2)
        port = getattr(dut, f"read_{name}")
        expected, cycle = [], 0
        for _ in range(60):
            addr, offset = rng.choice(rows), rng.randrange(CONFIG.cores)
            ctx.set(port.addr, addr)
            banks = [addr] * CONFIG.cores
            if name == "mat_in":
                pool = addr // CONFIG.pool_rows
                upper = rng.choice([r for r in rows if r // CONFIG.pool_rows == pool])
                mask = rng.getrandbits(CONFIG.cores)
                ctx.set(port.addr_upper, upper)
                ctx.set(port.upper, mask)
                ctx.set(port.offset, offset)
                banks = [upper if mask >> b & 1 else addr for b in range(CONFIG.cores)]
            else:
                offset = 0
            want = 0
            for lane in range(CONFIG.cores):
                bank = (lane + offset) % CONFIG.cores
                want |= (content[banks[bank]] >> bank * word & (1 << word) - 1) << lane * word
            ctx.set(port.valid, rng.random() < 0.7)
            accepted = ctx.get(port.valid & port.ready)
            expected.append((cycle + 2, want) if accepted else (cycle + 2, None))
            _, _, valid, data = await ctx.tick().sample(port.data_valid, port.data)
            if cycle >= 2:
                due, value = expected[cycle - 2]
                assert due == cycle and valid == (value is not None)
                if value is not None:
                    assert data == value, (name, cycle)
            cycle += 1
        ctx.set(port.valid, 0)
        readers_left[0] -= 1

    share = {n: rows[i :: len(WRITERS)] for i, n in enumerate(WRITERS)}
    processes = [functools.partial(writer, name=n, mine=share[n]) for n in WRITERS]
    processes += [functools.partial(reader, name=n) for n in READERS]
    simulate(dut, *processes)
    assert readers_left == [0]


def test_weight_buffer_columns():
    """Beats by DMA and slices by the loader land in their columns; the loader wins a collision."""
    dut = WeightBuffer(CONFIG)
    beat, piece = CONFIG.beat_bytes * 8, CONFIG.row_bytes * 8
    rng = random.Random(1)
    data = rng.getrandbits(CONFIG.weight_row_bytes * 8)
    keys = rng.getrandbits(piece)

    async def bench(ctx):
        for i in range(CONFIG.beats_per_weight_row):
            ctx.set(dut.dma.addr, 5)
            ctx.set(dut.dma.mask, 1 << i)
            ctx.set(dut.dma.data, data & ((1 << beat) - 1) << i * beat)
            ctx.set(dut.dma.valid, 1)
            await ctx.tick()
        ctx.set(dut.loader.valid, 1)
        ctx.set(dut.loader.addr, 5)
        ctx.set(dut.loader.mask, 2)
        ctx.set(dut.loader.data, keys << piece)
        assert ctx.get(dut.dma.ready) == 0
        await ctx.tick()
        ctx.set(dut.loader.valid, 0)
        ctx.set(dut.dma.valid, 0)
        ctx.set(dut.read.addr, 5)
        await ctx.tick().repeat(2)
        low = data & (1 << piece) - 1
        assert ctx.get(dut.read.data) == (keys << piece | low)

    simulate(dut, bench)
