"""What the kinds of both engines share: post-processing in cycles and in the emulator."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import POST_PARAM_FIELDS, Chunk
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .kind import Clock, InstructionKind, Op
from .memories import Memories


def phases(c: AcceleratorConfig) -> int:
    """Cycles of a tile on the post-processing lanes."""
    return c.word // c.post_channels


def post_tail(op: Op, c: AcceleratorConfig, t: Latency) -> int:
    """A row's last tile -> done."""
    tail = t.mat_result_to_phase + t.mat_phase_to_write + t.trio_lanes * c.trio + t.mat_write_to_done
    return tail + phases(c) - 1 + op.get("out_wide", 0)


def parameters(m: Memories, at: int, channels: int) -> dict[str, np.ndarray]:
    """Post-processing entries of ``channels`` channels from beat ``at``; ValueError where a read would not begin."""
    unit = m.config.param_read_bytes // m.config.beat_bytes
    if at % unit:
        raise ValueError(f"program: parameters must begin at a multiple of {unit} beats, not at {at}")
    return m.entries(m.param, at, channels, POST_PARAM_FIELDS)


def finish(acc: np.ndarray, constants: dict, op: Op, residual: np.ndarray | int = 0) -> np.ndarray:
    """Accumulators (tokens, channels) through the post-processing lanes."""
    bits = 12 if op.get("out_wide") else 8
    return arithmetic.postprocess(acc, constants, op["act"], op["act0"], op["act1"], residual, bits, bool(op["narrow"]))


class WindowKind(InstructionKind):
    """R-MAC's kinds other than pointwise: they work on whole maps through the window buffer, or beside it."""

    chunks = (Chunk.RMAC,)

    def work(self, clock: Clock, op: Op, begin: int, before: int, row: int) -> tuple[int, int]:
        """(start, end) of a row whose reads can begin at ``begin`` and whose work can begin at ``before``."""
        raise NotImplementedError

    def tail(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """Last step issued -> last tile: the tiles of a step or pass leave one by one."""
        raise NotImplementedError

    def walk(self, clock: Clock, chunk: Chunk, number: int, op: Op, go: int, row: int) -> None:
        c, t, e = clock.c, clock.t, clock.engines[chunk]
        before = clock.last(chunk, number)
        if self.code != e.kind:
            before, e.kind = max(before, e.drained + t.rmac_switch), self.code
        go = max(go, e.free)
        begin = max(go + 3, e.fetched)
        if row == 0:
            e.rows = []
        start, end = self.work(clock, op, begin, before, row)
        e.free = begin
        end = clock.post(start, end, self.tile_count(op, c))
        e.rows.append(end)
        e.drained = end - 1 + self.tail(op, c, t)
        clock.set(chunk, number, go, start, end, e.drained + post_tail(op, c, t))


def pixels(m: Memories, op: Op, address: int) -> np.ndarray:
    """int8 (pixels, channels) of the whole map, padding left out."""
    x = m.read_tokens(address, op["in_stride"], np.arange(op["in_groups"] * op["height"]), op["blocks"])
    return x.reshape(op["height"], -1, x.shape[1])[:, : op["width"]].reshape(-1, x.shape[1])
