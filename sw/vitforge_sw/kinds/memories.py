"""The machine's memories as byte arrays, and the conversions between their rows and tensors."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import PARAM_BYTES, Field


class Memories:
    """Buffers as byte arrays, filled with random garbage; DRAM contents of the program, the image and the result."""

    def __init__(self, config: AcceleratorConfig, memory: bytes, rng: np.random.Generator):
        self.config, self.rng = config, rng

        def garbage(rows: int, width: int) -> np.ndarray:
            return rng.integers(0, 256, (rows, width), dtype=np.uint8)

        self.act = garbage(config.act_rows, config.row_bytes)
        self.weight = garbage(config.weight_rows, config.weight_row_bytes)
        self.param = garbage(config.param_rows, config.beat_bytes)
        self.ln_param = garbage(config.ln_param_rows, config.beat_bytes)
        self.ksum = garbage(config.ksum_rows, config.word)
        self.window: dict[int, np.ndarray] = {}  #: map rows that the present depthwise instruction has read
        self.dram = np.frombuffer(memory, dtype=np.uint8).reshape(-1, config.beat_bytes)
        self.job = self.dram[:0]  #: the present job's image, beats
        self.codes: list[
            np.ndarray
        ] = []  #: the code ring: softmax appends an entry, the shifter array takes the oldest
        self.result: list[tuple[int, bytes]] = []  #: (byte, data) that the present row has written to the job's result

    def arrays(self) -> tuple[np.ndarray, ...]:
        """In the order of kinds.access.Memory."""
        return self.act, self.weight, self.param, self.ln_param, self.ksum

    def tokens(self, rows: np.ndarray, planes: int) -> np.ndarray:
        """Buffer rows (groups, n, row_bytes), or (n, row_bytes) of one group -> int64 (groups * cores, channels)."""
        c = self.config
        x = rows.reshape(-1 if rows.ndim == 3 else 1, rows.shape[-2] // planes, planes, c.cores, c.word)
        value = x[:, :, -1].view(np.int8).astype(np.int64)
        if planes == 2:
            value = (value << 8) | x[:, :, 0]
        return value.transpose(0, 2, 1, 3).reshape(len(x) * c.cores, -1)

    def rows(self, x: np.ndarray, planes: int) -> np.ndarray:
        """The inverse of :meth:`tokens`: uint8 (groups, blocks * planes, row_bytes)."""
        c = self.config
        groups = len(x) // c.cores
        blocks = x.reshape(groups, c.cores, -1, c.word).transpose(0, 2, 1, 3).reshape(groups, -1, c.row_bytes)
        if planes == 2:
            blocks = np.stack([blocks & 255, (blocks >> 8) & 255], axis=2).reshape(groups, -1, c.row_bytes)
        return (blocks & 255).astype(np.uint8)

    def read_tokens(self, address: int, stride: int, groups: np.ndarray, words: int) -> np.ndarray:
        """int8 (tokens, words * word) of some groups of a tensor."""
        c = self.config
        x = self.act[address + groups[:, None] * stride + np.arange(words)].view(np.int8)
        return x.reshape(len(groups), words, c.cores, c.word).transpose(0, 2, 1, 3).reshape(len(groups) * c.cores, -1)

    def store(self, op: dict[str, int], groups: np.ndarray, y: np.ndarray, planes: int) -> np.ndarray:
        """Values (tokens, channels) of ``groups`` into the op's output rows; returns them."""
        data = self.rows(y, planes)
        self.act[op["out_addr"] + groups[:, None] * op["out_stride"] + np.arange(data.shape[1])] = data
        return y

    def entries(self, memory: np.ndarray, at: int, count: int, fields: tuple[Field, ...]) -> dict[str, np.ndarray]:
        """Parameter entries of ``count`` channels from beat ``at``."""
        beats = -(-count * PARAM_BYTES // self.config.beat_bytes)
        words = np.ascontiguousarray(memory[at : at + beats]).reshape(-1).view("<u8")[:count]
        out, position = {}, 0
        for f in fields:
            value = ((words >> np.uint64(position)) & np.uint64((1 << f.bits) - 1)).astype(np.int64)
            out[f.name] = np.where(value >> (f.bits - 1), value - (1 << f.bits), value) if f.signed else value
            position += f.bits
        return out
