"""Key loader: every byte's place, order, latency, throughput, under stalls."""

import dataclasses
import random

import numpy as np
import pytest

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import PRESETS, get_config
from vitforge_hw.attention.key_loader import Loader
from vitforge_sim.bench.chunkbench import ChunkBench
from vitforge_sim.bench.reuse import reused

SEED = 815
SHAPES = [(5, 4), (1, 1), (2, 1), (3, 7), (4, 2)]  #: (rows, blocks)
CONFIGS = {
    "tiny": get_config("tiny"),
    "p2vit": get_config("p2vit"),
    "four slices": dataclasses.replace(PRESETS["tiny"], cores=2, attend_keys=2),
    "one slice": dataclasses.replace(PRESETS["tiny"], cores=8),
}


def run(config, shapes, *, stall=0.0, stalled=("rd", "wr", "go", "op"), seed=SEED, first=(9, 40), gap=3):
    """Runs the instructions and compares the weight buffer's bytes with the keys, from docs/architecture.md.

    first: input and weight row of the first one; gap: rows between a group's last word and the next group."""
    rng = np.random.default_rng(seed)
    memory, instructions, keys = {}, [], []
    in_addr, weight_addr = first
    slices = config.lanes // config.cores
    for rows, blocks in shapes:
        stride = blocks + gap
        k = rng.integers(-127, 128, (rows * config.cores, blocks * config.word))
        packed = memmap.to_rows(k, config.cores, config.word)
        for r in range(rows):
            for b in range(blocks):
                memory[in_addr + r * stride + b] = int.from_bytes(packed[r, b].tobytes(), "little")
        instructions.append(
            dict(rows=rows, in_addr=in_addr, in_stride=stride, blocks=blocks, weight_addr=weight_addr)
        )
        keys.append(k)
        in_addr += rows * stride
        weight_addr += -(-rows // slices) * blocks

    dut = reused(Loader, config)
    bench = ChunkBench(dut, instructions, stall=stall, stalled=stalled, seed=seed)
    bench.read_port(dut.rd, memory.__getitem__)
    bench.write_port(dut.wr)
    bench.watch("busy", dut.busy)
    record = bench.run(limit=5000)

    weights = {}
    for _, addr, value, mask in record.writes:
        raw = np.frombuffer(value.to_bytes(config.weight_row_bytes, "little"), dtype=np.int8)
        row = weights.setdefault(addr, np.full(config.weight_row_bytes, 999))
        assert mask.bit_count() == 1
        part = slice((mask.bit_length() - 1) * config.row_bytes, mask.bit_length() * config.row_bytes)
        assert (row[part] == 999).all(), f"slice {part} of row {addr} written twice, seed {seed}"
        row[part] = raw[part]
    seen = 0
    for i, k in zip(instructions, keys, strict=True):
        for token, channels in enumerate(k):
            tile, lane = divmod(token, config.lanes)
            for step in range(i["blocks"]):
                row = weights[i["weight_addr"] + tile * i["blocks"] + step]
                got = row[lane * config.width : (lane + 1) * config.width]
                want = channels[step * config.width : (step + 1) * config.width]
                assert (got == want).all(), f"token {token} step {step}, seed {seed}"
                seen += config.width
    assert seen == sum((row != 999).sum() for row in weights.values()), "bytes beyond the keys were written"
    # done follows each row's last write by a cycle
    ends = np.cumsum([i["blocks"] for i in instructions for _ in range(i["rows"])])
    assert record.done == [record.writes[e - 1][0] + 1 for e in ends]
    assert record.watched["busy"][-1][0] == record.done[-1]
    return record


@pytest.mark.parametrize("name", CONFIGS)
def test_cycles(name):
    """Latency in an idle machine; then one block a cycle over rows and instructions."""
    record = run(CONFIGS[name], SHAPES)
    cycles = [w[0] for w in record.writes]
    blocks = SHAPES[0][1]
    assert cycles[blocks - 1] - record.goes[0] == blocks + Loader.LATENCY
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "stall, stalled", [(0.4, ("rd", "wr", "go", "op")), (0.9, ("wr",)), (0.8, ("rd",)), (0.9, ("go", "op"))]
)
def test_stalls(name, stall, stalled):
    rng = random.Random(SEED)
    for _ in range(2):
        run(CONFIGS[name], SHAPES, stall=stall, stalled=stalled, seed=rng.getrandbits(30))


def test_far_addresses():
    """Every address bit, long strides."""
    run(CONFIGS["tiny"], SHAPES, stall=0.2, first=(9_999, 0xD5FA), gap=3_500)
