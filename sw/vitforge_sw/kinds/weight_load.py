"""The weight DMA: weights or parameters from DRAM into their memory; one row."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import Dest
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import Latency

from .access import Access, Memory, grid, writes
from .kind import Clock, InstructionKind, Op, Output
from .memories import Memories

MEMORY = {Dest.WEIGHTS: Memory.WEIGHT, Dest.PARAMS: Memory.PARAM, Dest.LN_PARAMS: Memory.LN_PARAM}


class WeightLoad(InstructionKind):
    name = "weight_load"
    chunks = (Chunk.WEIGHT_DMA,)
    writing: tuple[Memory, ...] = (Memory.WEIGHT, Memory.PARAM, Memory.LN_PARAM)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        n = op["beats"] // config.beats_per_weight_row if op["dest"] == Dest.WEIGHTS else op["beats"]
        return [writes(MEMORY[Dest(op["dest"])], grid(op["dest_addr"], 0, rows, n))]

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output | None:
        """Weights are no tensor."""
        return None

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """A beat a cycle."""
        return op["beats"]

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        if number >= clock.t.dma_requests:
            go = max(go, int(clock.done[chunk][number - clock.t.dma_requests]))
        start, last = clock.transfer(chunk, int(go), op["source"] + row * op["beats"], op["beats"])
        clock.set(chunk, number, go, start, last - clock.latency, last + clock.t.dma_return)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        return (m.dram[op["source"] : op["source"] + op["beats"]],)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray | None:
        memory = m.arrays()[MEMORY[Dest(op["dest"])]]
        data = operands[0].reshape(-1, memory.shape[1])
        memory[op["dest_addr"] : op["dest_addr"] + len(data)] = data
        return None
