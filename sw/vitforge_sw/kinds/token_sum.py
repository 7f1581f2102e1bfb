"""Sums over tokens on R-MAC's adder trees: Ksum of linear attention into its memory, average pooling into one token."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import Kind
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, grid, param_beats, reads, words, writes
from .engine import WindowKind, finish, parameters, pixels
from .kind import Clock, Op, Output
from .memories import Memories


class TokenSum(WindowKind):
    name = "token_sum"
    code = Kind.TOKEN_SUM
    reading = (Memory.ACT, Memory.PARAM)
    writing = (Memory.ACT, Memory.KSUM)
    partial = True  # one bank
    padded = False
    adds = True

    # ------------------------------------------------------------ accesses and rows

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        groups = np.arange(op["in_groups"] * op["height"])[None]
        memory, at = (Memory.KSUM, op["weight_addr"]) if op["dest"] else (Memory.ACT, op["out_addr"])
        return [
            reads(Memory.ACT, words(op["in_addr"], op["in_stride"], groups, op["blocks"])),
            reads(Memory.PARAM, param_beats(op["param_addr"], op["blocks"] * config.lanes, config)),
            writes(memory, grid(at, 0, 1, op["blocks"])),
        ]

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        if op.get("dest", 0):
            return Output(Memory.KSUM, op["weight_addr"], 1, 1, 0, op["blocks"])
        return Output(Memory.ACT, op["out_addr"], 1, 1, op.get("out_stride", 0), op["blocks"] * planes)

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """A word a cycle."""
        return self.steps(op, c)

    def steps(self, op: Op, c: AcceleratorConfig) -> int:
        return op["in_groups"] * op["height"] * op["blocks"]

    def tiles(self, op: Op, c: AcceleratorConfig) -> list[tuple[int, int]]:
        return [(0, block) for block in range(op["blocks"])]

    def tile_count(self, op: Op, c: AcceleratorConfig) -> int:
        return op["blocks"]

    def tail(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return t.rmac_sum_to_result

    def work(self, clock: Clock, op: Op, begin: int, before: int, row: int) -> tuple[int, int]:
        e, count = clock.engines[self.chunks[0]], self.steps(op, clock.c)
        e.fetched = clock.reads(op["in_addr"], begin, count)
        start = max(before, begin)
        return start, max(start + count, e.fetched)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        return pixels(m, op, op["in_addr"]), parameters(m, op["param_addr"], op["blocks"] * m.config.lanes)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        """Returns (1, channels)."""
        x, params = operands
        c, blocks = m.config, op["blocks"]
        acc = (np.maximum(x, 0) if op["relu"] else x).sum(axis=0, keepdims=True, dtype=np.int64)
        y = finish(acc, arithmetic.constants(params), op)
        data = (y & 255).astype(np.uint8).reshape(blocks, c.word)
        if op["dest"]:
            m.ksum[op["weight_addr"] : op["weight_addr"] + blocks] = data
        else:
            at = op["bank"] * c.word
            m.act[op["out_addr"] : op["out_addr"] + blocks, at : at + c.word] = data
        return y

    def placed(
        self, m: Memories, value: np.ndarray, op: Op, first: int, row: int, stride: int, planes: int
    ) -> tuple[np.ndarray, int, int]:
        """One token."""
        return value, 0, 0
