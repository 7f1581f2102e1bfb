"""What one row of each chunk does to the memories: ``read`` captures its operands, ``write`` computes and stores."""

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.isa import DEST_WEIGHTS, LN_PARAM_FIELDS, Chunk

from . import engines, ops
from .memories import Memories


def read(m: Memories, chunk: Chunk, op: dict[str, int], row: int) -> tuple:
    """Copies of everything that a row reads from the buffers."""
    c = m.config
    if chunk in (Chunk.MAT, Chunk.RMAC):
        return engines.read(m, op, row)
    if chunk == Chunk.SHIFTER:
        groups = np.arange(-(-op["keys"] // c.cores))
        return (m.read_tokens(op["v_addr"], op["v_stride"], groups, op["blocks"])[: op["keys"]],)
    if chunk == Chunk.LAYERNORM:
        planes = 1 + op["in_wide"]
        at = op["in_addr"] + row * op["in_stride"]
        x = m.tokens(m.act[at : at + op["blocks"] * planes], planes)
        return x, m.entries(m.ln_param, op["param_addr"], op["blocks"] * c.word, LN_PARAM_FIELDS)
    if chunk in (Chunk.SOFTMAX, Chunk.LOADER):
        at = op["in_addr"] + row * op["in_stride"]
        n = op["blocks"] if chunk == Chunk.LOADER else -(-op["keys"] // c.word)
        return (m.act[at : at + n].copy(),)
    if chunk == Chunk.WEIGHT_DMA:
        return (m.dram[op["source"] : op["source"] + op["beats"]],)
    if chunk == Chunk.IMAGE_DMA:
        source = m.job if op["job"] else m.dram
        at = op["source"] + row * op["beats"]
        return (source[at : at + op["beats"]],)
    return (m.act[op["in_addr"] : op["in_addr"] + op["count"], op["bank"] * c.word :][:, : c.word].copy(),)


def write(m: Memories, chunk: Chunk, op: dict[str, int], row: int, operands: tuple, codes: list) -> np.ndarray | None:
    """Compute and store a row; returns the values (tokens, channels) that it produced, or None (weights, keys).

    ``codes``: the code ring's entries; softmax appends one, the shifter takes the oldest.
    """
    c = m.config
    if chunk in (Chunk.MAT, Chunk.RMAC):
        return engines.write(m, op, row, operands)
    if chunk == Chunk.SHIFTER:
        y = ops.attend(codes.pop(0), operands[0], op["rule"], op["shift"], bool(op["factor"]))
        return m.store(op, np.array([row]), y, 1)
    if chunk == Chunk.LAYERNORM:
        norm = ops.layernorm
        if op["act"]:
            norm = lambda *x: ops.layernorm_hardswish(*x, op["q3"], op["q6"], op["s2"], op["offset"])  # noqa: E731
        return m.store(op, np.array([row]), norm(*operands), 1)
    if chunk == Chunk.SOFTMAX:
        x = m.tokens(operands[0], 1)[:, : op["keys"]]
        codes.append(ops.softmax_codes(x, op["rule"], op["c"], op["sc"]))
        return codes[-1]
    if chunk == Chunk.LOADER:
        # row: words of `cores` keys; weight row tile * blocks + step, byte lane * width + i
        lane = row * c.cores % c.lanes
        at = op["weight_addr"] + row * c.cores // c.lanes * op["blocks"]
        m.weight[at : at + op["blocks"], lane * c.width : (lane + c.cores) * c.width] = operands[0]
        return None
    if chunk == Chunk.WEIGHT_DMA:
        memory = (m.weight, m.param, m.ln_param)[op["dest"]]
        width = memory.shape[1]
        data = operands[0].reshape(-1, width)
        assert op["dest"] != DEST_WEIGHTS or len(data) * width == operands[0].size
        memory[op["dest_addr"] : op["dest_addr"] + len(data)] = data
        return None
    if chunk == Chunk.IMAGE_DMA:
        data = memmap.beats_to_rows(operands[0].reshape(-1, c.beats_per_row * c.beat_bytes), c.row_bytes)
        at = op["out_addr"] + row * len(data)
        m.act[at : at + len(data)] = data
        return data
    unit = op["offset"] * 16
    m.result.append((unit, operands[0].tobytes()))
    return None
