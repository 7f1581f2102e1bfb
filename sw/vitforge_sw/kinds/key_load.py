"""The key loader: keys of one head from the activation buffer into the weight buffer, a group of tokens a row."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import Latency

from .access import Access, Memory, grid, reads, writes
from .kind import Clock, InstructionKind, Op
from .memories import Memories


class KeyLoad(InstructionKind):
    name = "key_load"
    chunks = (Chunk.LOADER,)
    reading = (Memory.ACT,)
    writing = (Memory.WEIGHT,)
    partial = True  # the lanes of its tokens

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        tile = np.arange(rows) * config.cores // config.lanes
        dest = op["weight_addr"] + tile[:, None] * op["blocks"] + np.arange(op["blocks"])
        return [
            reads(Memory.ACT, grid(op["in_addr"], op["in_stride"], rows, op["blocks"])),
            writes(Memory.WEIGHT, dest),
        ]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        assert rows % self.split_unit(config) == 0, rows
        tiles = rows * config.cores // config.lanes
        return op | {
            "in_addr": op.get("in_addr", 0) + rows * op["in_stride"],
            "weight_addr": op.get("weight_addr", 0) + tiles * op["blocks"],
        }

    def split_unit(self, config: AcceleratorConfig) -> int:
        return config.lanes // config.cores

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> None:
        """Keys have been written as a tensor before."""

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return op["blocks"]

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        start = max(go, clock.last(chunk, number))
        end = clock.reads(op["in_addr"], int(start) + 1, op["blocks"]) - 1
        clock.set(chunk, number, start, start, end, end + clock.t.ld_latency)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        at = op["in_addr"] + row * op["in_stride"]
        return (m.act[at : at + op["blocks"]].copy(),)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> None:
        """A buffer row holds words of ``cores`` keys; weight row tile * blocks + step, byte lane * width + i."""
        c = m.config
        lane = row * c.cores % c.lanes
        at = op["weight_addr"] + row * c.cores // c.lanes * op["blocks"]
        m.weight[at : at + op["blocks"], lane * c.width : (lane + c.cores) * c.width] = operands[0]
