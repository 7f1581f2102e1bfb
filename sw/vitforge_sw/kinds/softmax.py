"""Softmax of score rows to 4-bit codes; a row of the instruction is a group of queries and makes one ring entry."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, cdiv, grid, reads
from .kind import Clock, InstructionKind, Op
from .memories import Memories


class Softmax(InstructionKind):
    name = "softmax"
    chunks = (Chunk.SOFTMAX,)
    reading = (Memory.ACT,)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        return [reads(Memory.ACT, grid(op["in_addr"], op["in_stride"], rows, cdiv(op["keys"], config.word)))]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        return op | {"in_addr": op.get("in_addr", 0) + rows * op["in_stride"]}

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> None:
        """Codes are no tensor of a buffer."""

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """A key a cycle, in a second pass once more where the rule needs the row's sum before the first code."""
        return op["keys"] + (op["keys"] + t.sm_gap) * (op["rule"] == CodeRule.LOG2)

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        c, t = clock.c, clock.t
        go = max(go, clock.end[chunk][number - 2] if number > 1 else 0, clock.loaded)
        clock.loaded = clock.reads(op["in_addr"], int(go) + 1, cdiv(op["keys"], c.word))
        start = max(clock.loaded + t.sm_load - 1, clock.last(chunk, number))
        freed = number - min(c.code_rows // clock.entry(number), t.sm_entries)
        if freed >= 0:
            start = max(start, int(clock.end[Chunk.SHIFTER][freed]) + 1)
        end = start + self.row_cycles(op, c, t)
        clock.set(chunk, number, go, start, end, end + t.sm_latency - t.sm_load)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        at = op["in_addr"] + row * op["in_stride"]
        return (m.act[at : at + cdiv(op["keys"], m.config.word)].copy(),)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        x = m.tokens(operands[0], 1)[:, : op["keys"]]
        m.codes.append(arithmetic.softmax_codes(x, op["rule"], op["c"], op["sc"]))
        return m.codes[-1]
