"""Which memory rows each row of an instruction reads and writes, from the decoded op fields alone.

The compiler's waits, the order proof and the cycle model all ask this module, so an access that it forgets is
forgotten by all three; the emulator, which does not use it, shows such a mistake as a wrong tensor.
"""

import dataclasses

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import DEST_LN_PARAMS, DEST_PARAMS, DEST_WEIGHTS, PARAM_BYTES, Chunk

ACT, WEIGHT, PARAM, LN_PARAM = range(4)  #: memories
MEMORY_NAMES = ("activation buffer", "weight buffer", "parameters", "LayerNorm parameters")
_DEST = {DEST_WEIGHTS: WEIGHT, DEST_PARAMS: PARAM, DEST_LN_PARAMS: LN_PARAM}


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


def memory_rows(config: AcceleratorConfig) -> tuple[int, int, int, int]:
    """Rows of each memory (parameter memories: beats)."""
    return config.act_rows, config.weight_rows, config.param_rows, config.ln_param_rows


@dataclasses.dataclass(frozen=True)
class Access:
    """``index``: memory rows, shape (rows of the instruction, n), or (n,) where every row makes the same access."""

    memory: int
    write: bool
    index: np.ndarray

    @property
    def shared(self) -> bool:
        return self.index.ndim == 1

    def row(self, r: int) -> np.ndarray:
        return self.index if self.shared else self.index[r]


def _grid(base: int, stride: int, rows: int, n: int) -> np.ndarray:
    return base + np.arange(rows)[:, None] * stride + np.arange(n)


def accesses(chunk: Chunk, rows: int, op: dict[str, int], config: AcceleratorConfig) -> list[Access]:
    """Every access of an instruction; reads before writes."""
    o = {k: op.get(k, 0) for k in _FIELDS[chunk]}
    cores, lanes = config.cores, config.lanes
    beat = config.beat_bytes
    if chunk == Chunk.MAT:
        out = [
            Access(ACT, False, _mat_input(o, rows, config)),
            Access(WEIGHT, False, o["weight_addr"] + np.arange(o["tiles"] * o["ksteps"])),
            Access(PARAM, False, o["param_addr"] + np.arange(cdiv(o["tiles"] * lanes * PARAM_BYTES, beat))),
        ]
        if o["res_mode"]:
            n = o["tiles"] * (2 if o["res_mode"] == 2 else 1)
            out.append(Access(ACT, False, _grid(o["res_addr"], o["res_stride"], rows, n)))
        n = o["tiles"] * (1 + o["out_wide"])
        out.append(Access(ACT, True, _grid(o["out_addr"], o["out_stride"], rows, n)))
        return out
    if chunk == Chunk.SHIFTER:
        v = _grid(o["v_addr"], o["v_stride"], cdiv(o["keys"], cores), o["blocks"]).ravel()
        return [Access(ACT, False, v), Access(ACT, True, _grid(o["out_addr"], o["out_stride"], rows, o["blocks"]))]
    if chunk == Chunk.LAYERNORM:
        n = cdiv(o["blocks"] * config.word * PARAM_BYTES, beat)
        return [
            Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, o["blocks"] * (1 + o["in_wide"]))),
            Access(LN_PARAM, False, o["param_addr"] + np.arange(n)),
            Access(ACT, True, _grid(o["out_addr"], o["out_stride"], rows, o["blocks"])),
        ]
    if chunk == Chunk.SOFTMAX:
        return [Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, cdiv(o["keys"], config.word)))]
    if chunk == Chunk.LOADER:
        tile = np.arange(rows) * cores // lanes
        dest = o["weight_addr"] + tile[:, None] * o["blocks"] + np.arange(o["blocks"])
        return [
            Access(ACT, False, _grid(o["in_addr"], o["in_stride"], rows, o["blocks"])),
            Access(WEIGHT, True, dest),
        ]
    if chunk == Chunk.WEIGHT_DMA:
        n = o["beats"] // config.beats_per_weight_row if o["dest"] == DEST_WEIGHTS else o["beats"]
        return [Access(_DEST[o["dest"]], True, _grid(o["dest_addr"], 0, rows, n))]
    if chunk == Chunk.IMAGE_DMA:
        n = o["beats"] // config.beats_per_row
        return [Access(ACT, True, _grid(o["out_addr"], n, rows, n))]
    return [Access(ACT, False, _grid(o["in_addr"], 0, rows, o["count"]))]


def _mat_input(o: dict[str, int], rows: int, config: AcceleratorConfig) -> np.ndarray:
    """Input rows of each row: one group, or two where ``in_offset`` makes tokens straddle; masked ones are not read."""
    first = o["in_first"] + np.arange(rows)
    lo = np.clip(first * config.cores + o["in_offset"], 0, o["in_tokens"] - 1) // config.cores
    hi = np.clip(first * config.cores + o["in_offset"] + config.cores - 1, 0, o["in_tokens"] - 1) // config.cores
    groups = np.stack([lo, hi], axis=1) if o["in_offset"] else lo[:, None]
    address = o["in_addr"] + (groups - o["in_first"])[:, :, None] * o["in_stride"] + np.arange(o["ksteps"])
    return address.reshape(rows, -1)


def advance(chunk: Chunk, op: dict[str, int], rows: int, config: AcceleratorConfig) -> dict[str, int]:
    """The op of the same instruction without its first ``rows`` rows."""
    new = dict(op)

    def move(address, step):
        if address in new:
            new[address] += rows * step

    if chunk == Chunk.MAT:
        move("in_addr", op["in_stride"])
        move("out_addr", op["out_stride"])
        move("in_first", 1)
        if op.get("res_mode"):
            move("res_addr", op["res_stride"])
    elif chunk == Chunk.SHIFTER:
        move("out_addr", op["out_stride"])
    elif chunk == Chunk.LAYERNORM:
        move("in_addr", op["in_stride"])
        move("out_addr", op["out_stride"])
    elif chunk == Chunk.SOFTMAX:
        move("in_addr", op["in_stride"])
    elif chunk == Chunk.LOADER:
        assert rows * config.cores % config.lanes == 0, rows
        move("in_addr", op["in_stride"])
        new["weight_addr"] += rows * config.cores // config.lanes * op["blocks"]
    elif chunk == Chunk.IMAGE_DMA:
        new["source"] += rows * op["beats"]
        new["out_addr"] += rows * op["beats"] // config.beats_per_row
    else:
        raise AssertionError(f"{chunk.name} instructions have one row")
    return new


def split_unit(chunk: Chunk, config: AcceleratorConfig) -> int:
    """Instructions of this chunk can only be cut at multiples of this many rows."""
    return config.lanes // config.cores if chunk == Chunk.LOADER else 1


def _fields():
    from vitforge_hw.arch.isa import OP_FIELDS

    return {c: tuple(f.name for f in fields) for c, fields in OP_FIELDS.items()}


_FIELDS = _fields()
