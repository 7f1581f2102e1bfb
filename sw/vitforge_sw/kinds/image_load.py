"""The image DMA: the job's image, or constant tensors, from DRAM into the activation buffer; a row is a few groups."""

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from .access import Access, Memory, grid, writes
from .kind import Op, Output
from .memories import Memories
from .weight_load import WeightLoad


class ImageLoad(WeightLoad):
    name = "image_load"
    chunks = (Chunk.IMAGE_DMA,)
    writing = (Memory.ACT,)

    def accesses(self, op: Op, rows: int, config: AcceleratorConfig) -> list[Access]:
        n = op["beats"] // config.beats_per_row
        return [writes(Memory.ACT, grid(op["out_addr"], n, rows, n))]

    def advance(self, op: Op, rows: int, config: AcceleratorConfig) -> Op:
        return op | {
            "source": op.get("source", 0) + rows * op["beats"],
            "out_addr": op.get("out_addr", 0) + rows * (op["beats"] // config.beats_per_row),
        }

    def output(self, op: Op, stride: int, planes: int, config: AcceleratorConfig) -> Output:
        groups = op["beats"] // config.beats_per_row // stride
        return Output(Memory.ACT, op["out_addr"], groups, groups, stride, stride, whole=True)

    # ------------------------------------------------------------ emulator

    def read(self, m: Memories, op: Op, row: int) -> tuple:
        source = m.job if op["job"] else m.dram
        at = op["source"] + row * op["beats"]
        return (source[at : at + op["beats"]],)

    def write(self, m: Memories, op: Op, row: int, operands: tuple) -> np.ndarray:
        """Returns the buffer rows."""
        c = m.config
        data = memmap.beats_to_rows(operands[0].reshape(-1, c.beats_per_row * c.beat_bytes), c.row_bytes)
        at = op["out_addr"] + row * len(data)
        m.act[at : at + len(data)] = data
        return data

    def placed(
        self, m: Memories, value: np.ndarray, op: Op, first: int, row: int, stride: int, planes: int
    ) -> tuple[np.ndarray, int, int]:
        """Groups before the instruction are counted in its rows."""
        value = m.tokens(value.reshape(-1, stride, value.shape[1]), planes)
        return value, (first + row) * len(value), 0
