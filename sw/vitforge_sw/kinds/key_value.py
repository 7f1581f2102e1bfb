"""Z = K^T V of linear attention on R-MAC, as outer products into the weight buffer; a row is a head."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import Kind
from vitforge_hw.arch.isa import PARAM_BYTES
from vitforge_hw.arch.latency import Latency

from . import arithmetic
from .access import Access, Memory, reads, writes
from .engine import WindowKind, finish, parameters, phases, pixels
from .kind import Clock, Op, Output
from .memories import Memories


class KeyValue(WindowKind):
    name = "key_value"
    code = Kind.KEY_VALUE
    reading = (Memory.ACT, Memory.PARAM)
    writing = (Memory.WEIGHT,)
    products = True
    padded = False

    # ------------------------------------------------------------ accesses and rows

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        """A head's words of every group."""
        z, beats = _z_rows(op, config), _beats(op, config)
        every = np.arange(op["in_groups"] * op["height"])[:, None] * op["in_stride"] + np.arange(op["blocks"])
        heads = np.arange(rows)[:, None]
        index = heads * op["blocks"] + every.ravel()
        return [
            reads(Memory.ACT, op["in_addr"] + index),
            reads(Memory.ACT, op["v_addr"] + index),
            reads(Memory.PARAM, op["param_addr"] + heads * beats + np.arange(beats)),
            writes(Memory.WEIGHT, op["weight_addr"] + heads * z + np.arange(z)),
        ]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        each = {
            "in_addr": op["blocks"],
            "v_addr": op["blocks"],
            "weight_addr": _z_rows(op, config),
            "param_addr": _beats(op, config),
        }
        return op | {name: op.get(name, 0) + rows * n for name, n in each.items()}

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        z = _z_rows(op, config)
        return Output(Memory.WEIGHT, op["weight_addr"], 1, 1, z, z)

    # ------------------------------------------------------------ cycles

    def row_cycles(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return max(_words(op), self._passes(op, c))

    def steps(self, op: Op, c: AcceleratorConfig) -> int:
        return _z_rows(op, c) * op["in_groups"] * op["height"]

    def tiles(self, op: Op, c: AcceleratorConfig) -> list[tuple[int, int]]:
        """(value block, channel of k): key block, h, i."""
        return [(value, key) for value in range(op["blocks"]) for key in range(op["blocks"] * c.word)]

    def tile_count(self, op: Op, c: AcceleratorConfig) -> int:
        return op["blocks"] ** 2 * c.word

    def tail(self, op: Op, c: AcceleratorConfig, t: Latency) -> int:
        return t.rmac_step_to_result + (c.width - 1) * phases(c)

    def work(self, clock: Clock, op: Op, begin: int, before: int, row: int) -> tuple[int, int]:
        e = clock.engines[self.chunks[0]]
        groups = op["in_groups"] * op["height"]
        begin = e.window.take(groups, begin, e.rows, row, clock.c.window_rows)
        e.fetched = clock.reads(op["in_addr"], begin, _words(op))
        start = max(before, e.fetched + clock.t.rmac_window_to_step)
        return start, start + self._passes(op, clock.c)

    @staticmethod
    def _passes(op: Op, c: AcceleratorConfig) -> int:
        """Cycles of a head's passes; a pass gives ``width`` tiles."""
        return _z_rows(op, c) * max(op["in_groups"] * op["height"], c.width * phases(c))

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        c, blocks = m.config, op["blocks"]
        if op["in_groups"] * op["height"] > c.window_rows // 2:
            raise ValueError(f"program: K^T V of more than window_rows / 2 = {c.window_rows // 2} groups")
        k, v = (pixels(m, op, op[name] + row * blocks) for name in ("in_addr", "v_addr"))
        return k, v, parameters(m, op["param_addr"] + row * _beats(op, c), blocks * c.lanes)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        """Returns Z of the head, (d, d)."""
        k, v, params = operands
        c, blocks = m.config, op["blocks"]
        acc = arithmetic.matmul(np.maximum(k, 0).T, v.T)  # (channel of k, channel of v)
        z = finish(acc, arithmetic.constants(params), op)
        rows = z.T.reshape(blocks, c.lanes, -1, c.width).transpose(0, 2, 1, 3).reshape(-1, c.weight_row_bytes)
        at = op["weight_addr"] + row * len(rows)
        m.weight[at : at + len(rows)] = (rows & 255).astype(np.uint8)
        return z

    def placed(
        self, m: Memories, value: np.ndarray, op: Op, first: int, row: int, stride: int, planes: int
    ) -> tuple[np.ndarray, int, int]:
        """A head's columns of Z."""
        return value, 0, (first + row) * value.shape[1]


def _z_rows(op: Op, config: AcceleratorConfig) -> int:
    """Weight rows of one head's Z."""
    return op["blocks"] ** 2 * (config.word // config.width)


def _beats(op: Op, config: AcceleratorConfig) -> int:
    """Parameter beats of one head."""
    return op["blocks"] * config.lanes * PARAM_BYTES // config.beat_bytes


def _words(op: Op) -> int:
    """Input words of one head: k and v of every group."""
    return 2 * op["blocks"] * op["in_groups"] * op["height"]
