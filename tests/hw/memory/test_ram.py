"""The RAM block and the code ring alone, against a list: values, latency, collisions, full and empty."""

import random

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.attention.code_ring import ENTRIES, CodeRing, word_bits
from vitforge_hw.memory.ram import Ram
from vitforge_sim.bench.replay import Simulator

CONFIG = get_config("tiny")


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


#: those of `tiny_hybrid`
LARGE = [pytest.param(*size, marks=pytest.mark.slow) for size in (
    (64, 32), (64, 64), (64, 1024), (128, 512), (128, 2048), (128, 4096)
)]  # fmt: skip


@pytest.mark.parametrize("bits, rows", [(8, 16), (64, 37), *LARGE])
@pytest.mark.parametrize("busy", [1.0, 0.4])
def test_ram(bits, rows, busy):
    """Two cycles from an enabled read to its data, which stay; a read in the cycle of a write sees old data."""
    dut = Ram(bits, rows)
    rng = random.Random(rows)

    async def bench(ctx):
        content, pipe, shown, collisions, recent = [0] * rows, [None, None], 0, 0, [0] * 16
        for _ in range(1500):
            read, write = rng.random() < busy, rng.random() < busy
            addr, to, value = rng.randrange(rows), rng.randrange(rows), rng.getrandbits(bits)
            if rng.random() < 0.7:
                addr = rng.choice(recent)
            if rng.random() < 0.2:
                to = addr
            collisions += read and write and addr == to and content[to] != value
            for port, level in (
                (dut.read_enable, read), (dut.read_addr, addr), (dut.write_enable, write), (dut.write_addr, to),
                (dut.write_data, value),
            ):  # fmt: skip
                ctx.set(port, level)
            pipe.append(content[addr] if read else None)
            if write:
                content[to] = value
                recent = [*recent[1:], to]
            due = pipe.pop(0)
            if due is not None:
                shown = due
            assert ctx.get(dut.read_data) == shown
            await ctx.tick()
        assert collisions > 20

    simulate(dut, bench)


@pytest.mark.parametrize("longest, reader", [(32, 0.9), (32, 0.03), (1, 0.02)])
def test_code_ring(longest, reader):
    """Random entries; a slow reader fills the words, or with short entries the entries; a fast one empties the ring."""
    dut = CodeRing(CONFIG)
    rng = random.Random(longest)
    push, pop = dut.push, dut.pop

    async def bench(ctx):
        entries, left, now, seen_full, seen_empty, freed = [], 0, [], 0, 0, 0
        visible, used, pipe = 0, 0, [None, None]
        for cycle in range(6000):
            if not left and not now:
                need = rng.randrange(1, longest + 1)
                ctx.set(push.need, need)
                room = CONFIG.code_rows - used >= need and len(entries) < ENTRIES
                assert ctx.get(push.room) == room, cycle
                seen_full += not room
                start = room and rng.random() < 0.8
            else:
                start = False
            ctx.set(push.start, start)
            word = rng.getrandbits(word_bits(CONFIG))
            valid = left > 0 and rng.random() < 0.9
            ctx.set(push.valid, valid)
            ctx.set(push.word, word)
            commit = bool(now) and left == 0
            factors = rng.getrandbits(len(push.mant)), rng.getrandbits(len(push.p))
            ctx.set(push.commit, commit)
            ctx.set(push.words, len(now))
            ctx.set(push.mant, factors[0])
            ctx.set(push.p, factors[1])

            committed = [e for e in entries if e[2] is not None]
            if committed and cycle - committed[0][2] >= CodeRing.COMMIT_LATENCY and freed != cycle:
                assert ctx.get(pop.valid), "late"
            free = False
            if ctx.get(pop.valid):
                assert committed, "an entry that nobody committed"
                words, (mant, p), _ = committed[0]
                assert (ctx.get(pop.mant), ctx.get(pop.p)) == (mant, p)
                index = rng.randrange(len(words))  # also in the cycle of `free`
                ctx.set(pop.index, index)
                pipe.append(words[index])
                free = rng.random() < reader
            else:
                seen_empty += 1
                pipe.append(None)
            due = pipe.pop(0)
            if due is not None:
                assert ctx.get(pop.word) == due, cycle
            ctx.set(pop.free, free)
            await ctx.tick()
            if start:
                left, used = need, used + need
                entries.append([now, None, None])
            if valid:
                now.append(word)
                left -= 1
            if commit:
                entries[-1][1:] = [factors, cycle]
                now = []
            if free:
                used -= len(entries.pop(0)[0])
                visible, freed = visible + 1, cycle + 1
        assert visible > 30 and (seen_full > 30 if reader < 0.5 else seen_empty > 30)

    simulate(dut, bench)
