"""Depthwise convolutions on R-MAC: self-accumulation of kernel^2 taps, windows from the window buffer (docs/hybrid.md).

A row is an output row of the map; it finds the map rows that the instruction's earlier rows have read in the window
buffer (emulator: ``Memories.window``).
"""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import Kind
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, cdiv, param_beats, reads, words, writes
from .engine import WindowKind, finish, parameters, phases
from .kind import Clock, Op, Output
from .memories import Memories

#: cycles from an instruction to its first step, behind the last step of the one before (engines/window/issue.py)
PREPARED = 4


def narrow_mapping(blocks: int, stride: int) -> bool:
    """Slots hold token groups of the one block (docs/hybrid.md); otherwise blocks of one group."""
    return blocks == 1 and stride == 1


class Depthwise(WindowKind):
    name = "depthwise"
    code = Kind.DEPTHWISE
    reading = (Memory.ACT, Memory.WEIGHT, Memory.PARAM)
    writing = (Memory.ACT,)
    windows = True

    # ------------------------------------------------------------ accesses and rows

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        """A row reads the map rows that no row of the instruction before it has read; the first all that it needs."""
        stride, half = op["stride"] + 1, op["kernel"] // 2
        last = np.minimum(op["height"] - 1, (op["first"] + np.arange(rows)) * stride + half) + 1
        begin = np.concatenate([[max(0, op["first"] * stride - half)], last[:-1]])
        count = last - begin
        out = []
        edges = [0, *(1 + np.flatnonzero(np.diff(count))), rows]  # runs of rows that read equally many map rows
        for a, b in zip(edges, edges[1:]):
            if count[a]:
                groups = begin[a:b, None] * op["in_groups"] + np.arange(count[a] * op["in_groups"])
                out.append(reads(Memory.ACT, words(op["in_addr"], op["in_stride"], groups, op["blocks"]), int(a)))
        weights = cdiv(op["blocks"], config.width) * op["kernel"] ** 2
        groups = np.arange(rows)[:, None] * op["out_groups"] + np.arange(op["out_groups"])
        return [
            *out,
            reads(Memory.WEIGHT, op["weight_addr"] + np.arange(weights)),
            reads(Memory.PARAM, param_beats(op["param_addr"], op["blocks"] * config.lanes, config)),
            writes(Memory.ACT, words(op["out_addr"], op["out_stride"], groups, op["blocks"])),
        ]

    def row_groups(self, op: Op) -> int:
        return op["out_groups"]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        at = op.get("out_addr", 0) + rows * op["out_groups"] * op["out_stride"]
        return op | {"first": op.get("first", 0) + rows, "out_addr": at}

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        groups = op["out_groups"]
        return Output(Memory.ACT, op["out_addr"], groups, groups, op.get("out_stride", 0), op["blocks"] * planes)

    # ------------------------------------------------------------ cycles

    def sets(self, op: Op, c: AcceleratorConfig) -> int:
        """Self-accumulations of a row."""
        if _narrow(op):
            return cdiv(op["out_groups"], c.width)
        return op["out_groups"] * cdiv(op["blocks"], c.width)

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        """A set takes its taps; its tiles leave one by one."""
        sets = self.sets(op, c)
        return max(self.steps(op, c), sets * cdiv(self.tile_count(op, c) * phases(c), sets))

    def requests(self, op: Op, y: int, c: AcceleratorConfig) -> int:
        """Reads of map row ``y``: a word each, or with pool_words 2 an even row of the buffer and the one behind it, a
        pixel's next word, where both slots lie in one window row."""
        if c.pool_words == 1:
            return op["in_groups"] * op["blocks"]
        full, rest = divmod(op["blocks"], c.width)
        first = op["in_addr"] + (y * op["in_groups"] + np.arange(op["in_groups"])) * op["in_stride"]
        even, odd = full * c.width // 2 + cdiv(rest, 2), full * (c.width // 2 + 1) + (rest // 2 + 1) * (rest > 0)
        return int(np.where(first % 2, odd, even).sum())

    def steps(self, op: Op, c: AcceleratorConfig) -> int:
        """At stride 2 an even number of cores takes two cycles a tap."""
        return self.sets(op, c) * op["kernel"] ** 2 * (c.tap_cycles if op["stride"] else 1)

    def tiles(self, op: Op, c: AcceleratorConfig) -> list[tuple[int, int]]:
        return [(group, block) for group in range(op["out_groups"]) for block in range(op["blocks"])]

    def tile_count(self, op: Op, c: AcceleratorConfig) -> int:
        return op["out_groups"] * op["blocks"]

    def tail(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return t.rmac_step_to_result + (min(c.width, self.tile_count(op, c)) - 1) * phases(c)

    def work(self, clock: Clock, op: Op, begin: int, before: int, row: int) -> tuple[int, int]:
        """The row's new map rows are read as soon as the window buffer has room for them."""
        c, t, e = clock.c, clock.t, clock.engines[self.chunks[0]]
        stride, half = op["stride"] + 1, op["kernel"] // 2
        y = op["first"] + row
        top = min(op["height"] - 1, y * stride + half)
        if row == 0:
            low = max(0, y * stride - half)
        else:
            low = min(op["height"] - 1, (y - 1) * stride + half) + 1
        for m in range(low, top + 1):
            last = (m + half) // stride - op["first"]  # output row that needs it
            begin = e.window.take(op["window_stride"], begin, e.rows, last, c.window_rows)
            begin = e.fetched = clock.reads(op["in_addr"], begin, self.requests(op, m, c))
        start = max(before + (PREPARED if row == 0 else 0), e.fetched + t.rmac_window_to_step)
        return start, start + self.row_cycles(op, c, t)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        c, half, stride = m.config, op["kernel"] // 2, op["stride"] + 1
        if row == 0:
            _check_window(op, c)
            m.window = {}
        top = (op["first"] + row) * stride - half
        bottom = min(op["height"] - 1, top + 2 * half)
        for y in range(max(m.window) + 1 if row else max(0, top), bottom + 1):
            groups = y * op["in_groups"] + np.arange(op["in_groups"])
            m.window[y] = m.read_tokens(op["in_addr"], op["in_stride"], groups, op["blocks"])[: op["width"]]
        for y in [y for y in m.window if y < top and y < max(m.window)]:
            del m.window[y]
        rows = [m.window[y] if 0 <= y < op["height"] else None for y in range(top, top + op["kernel"])]
        taps, sets = op["kernel"] ** 2, cdiv(op["blocks"], c.width)
        w = m.weight[op["weight_addr"] : op["weight_addr"] + sets * taps].view(np.int8)
        w = w.reshape(sets, taps, c.width, c.lanes).copy()
        return rows, w, parameters(m, op["param_addr"], op["blocks"] * c.lanes)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        rows, w, params = operands
        c, k, stride = m.config, op["kernel"], op["stride"] + 1
        count, channels = op["out_groups"] * c.cores, op["blocks"] * c.word
        full = np.full((k, max((count - 1) * stride + k, op["width"] + k // 2), channels), op["pad"], dtype=np.int32)
        for i, x in enumerate(rows):
            if x is not None:
                full[i, k // 2 : k // 2 + op["width"]] = x
        if _narrow(op):  # slot = token group
            weight = w[0][:, np.arange(count) // c.cores % c.width].astype(np.int32)  # (taps, pixels, lanes)
        else:
            weight = w.transpose(1, 0, 2, 3).reshape(k * k, 1, -1)[:, :, :channels].astype(np.int32)
        acc = np.zeros((count, channels), dtype=np.int32)
        for tap in range(k * k):
            i, j = divmod(tap, k)
            acc += full[i, j : j + (count - 1) * stride + 1 : stride] * weight[tap]
        y = finish(acc, arithmetic.constants(params), op)
        # what lies in padding pixels is nobody's business
        y[(op["width"] - 1) // stride + 1 :] = m.rng.integers(-128, 128)
        return m.store(op, row * op["out_groups"] + np.arange(op["out_groups"]), y, 1)


def _narrow(op: Op) -> bool:
    return narrow_mapping(op["blocks"], op["stride"] + 1)


def _check_window(op: Op, c: AcceleratorConfig) -> None:
    """ValueError where the window buffer cannot hold the map rows that the instruction needs at once."""
    groups = op["in_groups"]
    rows = cdiv(groups, c.width) if _narrow(op) else groups * cdiv(op["blocks"], c.width)
    if op["window_stride"] < rows:
        raise ValueError(f"program: a map row takes {rows} window rows, not {op['window_stride']}")
    needed = op["kernel"] + op["stride"] + 1
    if min(op["height"], needed) * op["window_stride"] > c.window_rows:
        raise ValueError(f"program: {needed} map rows exceed window_rows = {c.window_rows}")
