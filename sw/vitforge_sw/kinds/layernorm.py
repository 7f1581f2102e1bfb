"""LayerNorm of token groups, with Hardswish and one more re-quantization behind it where ``act`` is set."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import LN_PARAM_FIELDS, PARAM_BYTES, Chunk
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, grid, param_beats, reads, writes
from .kind import Clock, InstructionKind, Op, Output
from .memories import Memories


class LayerNorm(InstructionKind):
    name = "layernorm"
    chunks = (Chunk.LAYERNORM,)
    reading = (Memory.ACT, Memory.LN_PARAM)
    writing = (Memory.ACT,)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        return [
            reads(Memory.ACT, grid(op["in_addr"], op["in_stride"], rows, op["blocks"] * (1 + op["in_wide"]))),
            reads(Memory.LN_PARAM, param_beats(op["param_addr"], op["blocks"] * config.word, config)),
            writes(Memory.ACT, grid(op["out_addr"], op["out_stride"], rows, op["blocks"])),
        ]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        return op | {f"{x}_addr": op.get(f"{x}_addr", 0) + rows * op[f"{x}_stride"] for x in ("in", "out")}

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        return Output(Memory.ACT, op["out_addr"], 1, 1, op.get("out_stride", 0), op["blocks"] * planes)

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return max(op["blocks"] * c.word, c.cores + t.ln_between_rows)

    def latency(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """go -> done."""
        n = max(2 + op["in_wide"], PARAM_BYTES * c.word // c.beat_bytes)
        return 2 * op["blocks"] * c.word + n + c.cores + t.ln_latency + 1

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        c, t = clock.c, clock.t
        go = max(go, clock.start[chunk][number - t.ln_ahead] if number >= t.ln_ahead else 0)
        start = max(go, clock.last(chunk, number))
        clock.set(chunk, number, go, start, start + self.row_cycles(op, c, t), start + self.latency(op, c, t))

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        planes = 1 + op["in_wide"]
        at = op["in_addr"] + row * op["in_stride"]
        x = m.tokens(m.act[at : at + op["blocks"] * planes], planes)
        return x, m.entries(m.ln_param, op["param_addr"], op["blocks"] * m.config.word, LN_PARAM_FIELDS)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        if op["act"]:
            x, params = operands
            y = arithmetic.layernorm_hardswish(x, params, op["q3"], op["q6"], op["s2"], op["offset"])
        else:
            y = arithmetic.layernorm(*operands)
        return m.store(op, np.array([row]), y, 1)
