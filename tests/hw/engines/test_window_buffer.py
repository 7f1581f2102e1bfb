"""Window buffer alone: the slots of a step against the pixels that it names."""

import dataclasses
import random

import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.engines.window.buffer import LATENCY, REACH, WindowBuffer
from vitforge_sim.bench.replay import Simulator

ROWS = 32
TINY = PRESETS["tiny_hybrid"]
CONFIGS = {
    "tiny_hybrid": TINY,
    "hybrid": PRESETS["hybrid"],
    "five": dataclasses.replace(PRESETS["trio"], name="five", cores=5, masters=1, read_fifo_beats=64),
    "trio": PRESETS["trio"],
    "luts": dataclasses.replace(TINY, name="luts", window_lut_cores=3),
    "eight": dataclasses.replace(TINY, name="eight", cores=8),
    "pairs": dataclasses.replace(TINY, name="pairs", cores=5, attention=False, pool_words=2),
}


def word(config, content, addr, group, core, slot, step):
    """The word of the pixel of ``core`` in ``group`` (relative to the step's), in ``slot``; outside the map the pad."""
    narrow = step["narrow"]
    number = step["group"] + group + (slot if narrow else 0)
    inside = step["row_ok"] and (
        0 <= number < step["last_group"] or (number == step["last_group"] and step["rest"] >> core & 1)
    )
    if not inside:
        return bytes([step["pad"]]) * config.word
    if narrow:
        beside, slot = divmod(slot + group, config.width)
        return content[core][slot][(addr + beside) % ROWS]
    return content[core][slot][(addr + group * step["sets"]) % ROWS]


def expected(config, content, step):
    """(slots, k, v) of a step."""
    cores, width = config.cores, config.width
    scale = 1 + step["stride"]
    slots = []
    for j in range(cores):
        lower = j < cores // config.tap_cycles
        for slot in range(width):
            if step["stride"] and lower == bool(step.get("half")):
                slots.append(bytes(config.word))
                continue
            group, core = divmod(j * scale + step["column"] - REACH, cores)
            slots.append(word(config, content, step["addr"], group, core, slot, step))
    plain = [[word(config, content, step["addr"], 0, core, n, step) for n in range(width)] for core in range(cores)]
    at = step["part"] * width
    k = b"".join(row[step["k_slot"]][at : at + width] for row in plain)
    return b"".join(slots), k, b"".join(row[step["v_slot"]] for row in plain)


@pytest.mark.parametrize(
    "name", [n if n in ("tiny_hybrid", "luts", "pairs") else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS]
)
def test_window_buffer(name):
    """Random rows and steps of both mappings and strides, groups beside the map, rows outside it, with writes between;
    K^T V (column REACH, stride 0) sees its words unturned."""
    config = dataclasses.replace(CONFIGS[name], window_rows=ROWS)
    cores, width, size = config.cores, config.width, config.word
    rng = random.Random(cores)
    dut = WindowBuffer(config)
    content = [[[bytes(size)] * ROWS for _ in range(width)] for _ in range(cores)]

    def random_step():
        stride = int(rng.random() < 0.4)
        half = {"half": stride * rng.randrange(2)} if config.tap_cycles == 2 else {}
        return half | {
            "addr": rng.randrange(ROWS), "row_ok": int(rng.random() < 0.9), "group": rng.randrange(-3, 9),
            "last_group": rng.randrange(1, 10), "rest": rng.getrandbits(cores), "sets": rng.randrange(1, 6),
            "narrow": 0 if stride else rng.randrange(2), "column": rng.choice([REACH, rng.randrange(2 * REACH + 1)]),
            "stride": stride, "pad": rng.getrandbits(8),
            "k_slot": rng.randrange(width), "v_slot": rng.randrange(width), "part": rng.randrange(size // width),
        }  # fmt: skip

    async def write(ctx, rows):
        for addr in rows:
            pairs, slot = {}, 0
            while slot < width:
                pairs[slot] = config.pool_words == 2 and slot < width - 1 and rng.random() < 0.6
                slot += 1 + pairs[slot]
            for slot, pair in rng.sample(list(pairs.items()), len(pairs)):
                given = {}
                for at in range(slot, slot + 1 + pair):
                    given[at % 2] = data = rng.randbytes(cores * size)
                    for core in range(cores):
                        content[core][at][addr] = data[core * size :][:size]
                for port, value in ((dut.write_addr, addr), (dut.write_slot, slot), (dut.write, 1)):
                    ctx.set(port, value)
                if config.pool_words == 2:
                    ctx.set(dut.write_pair, pair)
                await ctx.tick()
                if config.pool_words == 2:  # a cycle later; nobody's word is poisoned
                    for parity, port in enumerate((dut.write_data, dut.write_odd)):
                        data = given.get(parity, rng.randbytes(cores * size))
                        ctx.set(port, int.from_bytes(data, "little"))
                else:
                    ctx.set(dut.write_data, int.from_bytes(data, "little"))
        ctx.set(dut.write, 0)
        await ctx.tick()

    async def bench(ctx):
        for begin in (0, 5):
            await write(ctx, range(begin, ROWS))
            steps = [random_step() for _ in range(60)]
            for n in range(len(steps) + LATENCY):
                if n >= LATENCY:
                    step = steps[n - LATENCY]
                    slots, k, v = expected(config, content, step)
                    got = ctx.get(dut.slots).to_bytes(len(slots), "little")
                    assert got == slots, (n, step)
                    if step["column"] == REACH and not step["stride"]:
                        assert ctx.get(dut.k).to_bytes(len(k), "little") == k, (n, step)
                        assert ctx.get(dut.v).to_bytes(len(v), "little") == v, (n, step)
                if n < len(steps):
                    ctx.set(dut.step, steps[n])
                await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
