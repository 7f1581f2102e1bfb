"""The emitted top level of the hybrid preset with a program by hand: image DMA, R-MAC, result DMA, all counters."""

import random

import numpy as np
import pytest

from vitforge_hw.arch import isa, memmap
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.checksum import balance
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import Chunk, Instruction, Wait
from vitforge_hw.verilog import emit
from vitforge_sim.measure.monitors import decode
from vitforge_sim.run.accelerator import all_monitors, run_accelerator
from vitforge_sim.run.topbench import build_bench

CONFIG = get_config("tiny_hybrid")
ROWS = 4  #: groups of the image
SUM = dict(kind=isa.TOKEN_SUM, in_addr=8, in_stride=1, in_groups=ROWS, width=ROWS * CONFIG.cores, height=1, blocks=1)
PROGRAM = {
    Chunk.IMAGE_DMA: [Instruction(Chunk.IMAGE_DMA, 2, dict(job=1, beats=ROWS // 2 * CONFIG.beats_per_row, out_addr=8))],
    Chunk.RMAC: [
        Instruction(
            Chunk.RMAC, 1, SUM | dict(out_addr=11, out_stride=1, out_groups=1, bank=0), (Wait(Chunk.IMAGE_DMA, 2),)
        )
    ],
    Chunk.RESULT_DMA: [
        Instruction(Chunk.RESULT_DMA, 1, dict(in_addr=8, count=ROWS), (Wait(Chunk.IMAGE_DMA, 2), Wait(Chunk.RMAC, 1)))
    ],
}


def image(programs) -> bytes:
    """Header and instructions, logical bytes."""
    header, words = {"magic": isa.MAGIC, "config_hash": CONFIG.hash, "build_hash": build_hash(CONFIG)}, []
    for chunk in Chunk:
        mine = programs.get(chunk, [])
        name = chunk.name.lower()
        header |= {f"{name}_start": 1 + len(words), f"{name}_count": len(mine)}
        words += [i.encode() for i in mine]
    first = isa.pack(isa.HEADER_FIELDS, header, "header")
    logical = b"".join(w.to_bytes(isa.INSTRUCTION_BYTES, "little") for w in (first, *words))
    at = 4 * isa.CHECKSUM_WORD
    checksum = balance(logical, CONFIG.beat_bytes, isa.CHECKSUM_WORD)
    return logical[:at] + checksum.to_bytes(4, "little") + logical[at + 4 :]


@pytest.mark.campaign
def test_image_through_rmac():
    """The sum over all pixels replaces the last row's word of bank 0; parameters in memory are zero: m1 2^15, s1 15."""
    c = CONFIG
    logical = image(PROGRAM)
    rng = random.Random(1)
    x = np.array([[rng.randrange(-9, 9) for _ in range(c.word)] for _ in range(ROWS * c.cores)])
    rows = memmap.to_rows(x, c.cores, c.word)
    bench = build_bench("verilator", emit(c), monitors=all_monitors(c), memory_bytes=1 << 20, cflags="-O0")
    job = memmap.stripe(memmap.rows_to_beats(rows, c.beat_bytes).tobytes(), c.masters)
    memory = memmap.stripe(logical, c.masters)
    run = run_accelerator(bench, c, memory, len(logical) // c.beat_bytes, [job], 64, watchdog=200_000)
    got = np.asarray(run.results[0][: ROWS * c.word]).view(np.int8).reshape(ROWS, c.word)
    want = x[:: c.cores].copy()
    want[-1] = np.clip(x.sum(0), -128, 127)
    assert (got == want).all()
    monitors = run.bench.monitors
    assert len(monitors["image"]) == ROWS and len(monitors["rmac"]) == len(monitors["rmac_tile"]) == 1
    assert run.units["rmac"]["busy"] > 0 and run.units["mat"]["busy"] == 0
    timeline = decode(run.bench)
    rows_done = {chunk: len(t.done) for chunk, t in timeline.chunks.items() if len(t.done)}
    assert rows_done == {Chunk.IMAGE_DMA: 2, Chunk.RMAC: 1, Chunk.RESULT_DMA: 1}
    assert len(timeline.rmac_array) > 1 and len(timeline.rmac_row_end) == 1
