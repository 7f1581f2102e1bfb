"""The system side anywhere in 64 bits of address, with any attributes, and what aresetn leaves behind when the memory
is not reset with it."""

import random

import pytest

from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.registers import Error
from vitforge_sim.bench.host_bench import RESULT, SIZE, HostBench

TINY = get_config("tiny")
ATTRIBUTES = ("arcache", "arprot", "aruser", "awcache", "awprot", "awuser")


def instructions(bench):
    """A load for each memory, two image loads, a result, all of random places."""
    c, rng = bench.config, bench.rng
    weights = []
    for dest in (0, 1, 2, 1):
        beats = rng.randint(1, 8) * (c.beats_per_weight_row if dest == 0 else 3)
        start = len(weights) << 14
        place = dict(source=rng.randrange(64, 3000), dest_addr=rng.randrange(start, start + 16000))
        weights.append(dict(rows=2, beats=beats, dest=dest, **place))
    images = []
    for job in (0, 1):
        beats = rng.randint(1, 8) * c.beats_per_row
        place = rng.randrange(job << 15, 32000 + (job << 15))
        images.append(dict(rows=2, source=rng.randrange(100), beats=beats, job=job, out_addr=place))
    result = dict(rows=2, in_addr=rng.randrange(300), count=rng.randint(1, 90), offset=rng.randrange(7000))
    result["bank"] = rng.randrange(c.cores)
    return weights, images, result


def check(bench, weights, images, result):
    c = bench.config
    for op in weights:
        data = bytes(bench.image[op["source"] * c.beat_bytes :][: 2 * op["beats"] * c.beat_bytes])
        sink = bench.sinks[op["dest"]]
        assert sink.bytes(op["dest_addr"], len(data) // sink.row_bytes) == data, op
    for op in images:
        source = bench.job if op["job"] else bytes(bench.image)
        data = source[op["source"] * c.beat_bytes :][: 2 * op["beats"] * c.beat_bytes]
        assert c.beats_per_row * c.beat_bytes == c.row_bytes
        assert bench.buffer.bytes(op["out_addr"], len(data) // c.row_bytes) == data, op
    where = RESULT + 16 * result["offset"]
    for row in range(2):
        first = result["in_addr"] + row * result["count"]
        rows = bench.rows[first : first + result["count"]]
        data = b"".join(r[result["bank"] * c.word :][: c.word] for r in rows)
        data += bytes(-len(data) % 16)
        assert bytes(bench.dram[where : where + len(data)]) == data, row
        where += len(data)


@pytest.mark.parametrize(
    "seed, lives", [(1, 2), pytest.param(2, 6, marks=pytest.mark.slow), pytest.param(3, 12, marks=pytest.mark.slow)]
)
def test_lives(seed, lives):
    """aresetn in the midst of loads, images and a result, again and again; the memory answers what is under way when
    the next life has begun: dropped, and what the last life loads and writes is right."""
    base = (random.Random(0).getrandbits(64) ^ -(seed & 1)) & ((1 << 64) - 4096)  # of odd and even seeds: no common bit
    assert base < (1 << 64) - SIZE
    bench = HostBench(TINY, seed=seed, latency=(5, 60), dram=base)

    async def test(bench):
        ctx, rng, strays = bench.world.ctx, bench.rng, 0
        for life in range(lives):
            attributes = rng.getrandbits(16)
            await bench.write("axi_attributes", attributes)
            await bench.setup(jobs=rng.randint(1, 4))
            port = bench.host.m_axi_gmem0
            low, got = 0, 0
            for name in ATTRIBUTES:
                signal = getattr(port, name)
                got |= ctx.get(signal) << low
                low += len(signal)
            assert got == attributes
            weights, images, result = instructions(bench)
            for driver, ops in ((bench.weight, weights), (bench.image_in, images), (bench.result, [result])):
                for op in ops:
                    driver.add(**op)
            if life < lives - 1:
                await bench.world.step(rng.randrange(20, 150))
                outstanding = bench.memory.outstanding
                await bench.aresetn(rng.randint(1, 3))
                await bench.world.step(rng.choice([0, 60, 200]))
                for sink in (*bench.sinks, bench.buffer):
                    sink.rows.clear()
                assert await bench.read("errors") in ((0, 1 << Error.STRAY) if outstanding else (0,))
                strays += await bench.read("errors") >> Error.STRAY
                continue
            await bench.finish()
            await bench.world.step(4)
            assert await bench.read("errors") in (0, 1 << Error.STRAY)
            check(bench, weights, images, result)
        assert strays or lives == 2

    bench.run(test, simulators=("icarus",))

