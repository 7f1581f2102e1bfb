"""Attention x value on the shifter array: the weights are powers of two, or sums of two, that 4-bit codes stand for.

A row is a group of queries: it takes the oldest entry of the code ring, which softmax has made, and reads all values.
"""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, cdiv, grid, reads, writes
from .kind import Clock, InstructionKind, Op, Output
from .memories import Memories


class Attend(InstructionKind):
    name = "attend"
    chunks = (Chunk.SHIFTER,)
    reading = (Memory.ACT,)
    writing = (Memory.ACT,)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        values = grid(op["v_addr"], op["v_stride"], cdiv(op["keys"], config.cores), op["blocks"]).ravel()
        return [
            reads(Memory.ACT, values),
            writes(Memory.ACT, grid(op["out_addr"], op["out_stride"], rows, op["blocks"])),
        ]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        return op | {"out_addr": op.get("out_addr", 0) + rows * op["out_stride"]}

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        return Output(Memory.ACT, op["out_addr"], 1, 1, op.get("out_stride", 0), op["blocks"] * planes)

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return op["blocks"] * max(cdiv(op["keys"], c.attend_keys), c.word)

    def latency(self, c: AcceleratorConfig, t: Latency) -> int:
        """Last step -> done."""
        return t.sh_latency + (c.attend_keys - 1).bit_length() + c.word

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        c, t = clock.c, clock.t
        go = max(go, clock.start[chunk][number - 2] if number > 1 else 0)
        entry = int(clock.done[Chunk.SOFTMAX][number]) + t.sh_entry
        start = max(go + t.sh_start, entry, clock.last(chunk, number))
        end = start + self.row_cycles(op, c, t)
        end += clock.stalls(op["v_addr"], int(start), int(end))
        clock.set(chunk, number, go, start, end, end + self.latency(c, t))

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        groups = np.arange(cdiv(op["keys"], m.config.cores))
        return (m.read_tokens(op["v_addr"], op["v_stride"], groups, op["blocks"])[: op["keys"]],)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        y = arithmetic.attend(m.codes.pop(0), operands[0], op["rule"], op["shift"], bool(op["factor"]))
        return m.store(op, np.array([row]), y, 1)
