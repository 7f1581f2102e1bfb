"""What one row of each chunk does to the memories: ``read`` captures its operands, ``write`` computes and stores."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import DEST_WEIGHTS, LN_PARAM_FIELDS, PARAM_BYTES, POST_PARAM_FIELDS, Chunk, Field

from . import ops


class Memories:
    """Buffers as byte arrays, filled with random garbage; DRAM contents of the program, the image and the result."""

    def __init__(self, config: AcceleratorConfig, memory: bytes, rng: np.random.Generator):
        self.config = config

        def garbage(rows, width):
            return rng.integers(0, 256, (rows, width), dtype=np.uint8)

        self.act = garbage(config.act_rows, config.row_bytes)
        self.weight = garbage(config.weight_rows, config.weight_row_bytes)
        self.param = garbage(config.param_rows, config.beat_bytes)
        self.ln_param = garbage(config.ln_param_rows, config.beat_bytes)
        self.dram = np.frombuffer(memory, dtype=np.uint8).reshape(-1, config.beat_bytes)
        self.job = self.dram[:0]  #: the present job's image, beats
        self.result: list[np.ndarray] = []

    def arrays(self):
        """In the order of compiler.access: activation buffer, weights, parameters, LayerNorm parameters."""
        return self.act, self.weight, self.param, self.ln_param

    def tokens(self, rows: np.ndarray, planes: int) -> np.ndarray:
        """Buffer rows (n, row_bytes) of one group -> int64 (cores, channels)."""
        c = self.config
        x = rows.reshape(-1, planes, c.cores, c.word)
        value = x[:, -1].view(np.int8).astype(np.int64)
        if planes == 2:
            value = (value << 8) | x[:, 0]
        return value.transpose(1, 0, 2).reshape(c.cores, -1)

    def rows(self, x: np.ndarray, planes: int) -> np.ndarray:
        """The inverse of :meth:`tokens`: uint8 (blocks * planes, row_bytes)."""
        c = self.config
        blocks = x.reshape(c.cores, -1, c.word).transpose(1, 0, 2).reshape(-1, c.row_bytes)
        if planes == 2:
            blocks = np.stack([blocks & 255, (blocks >> 8) & 255], axis=1).reshape(-1, c.row_bytes)
        return (blocks & 255).astype(np.uint8)

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


def read(m: Memories, chunk: Chunk, op: dict[str, int], row: int) -> tuple:
    """Copies of everything that a row reads from the buffers."""
    c = m.config
    if chunk == Chunk.MAT:
        tokens = (op["in_first"] + row) * c.cores + np.arange(c.cores) + op["in_offset"]
        valid = (tokens >= 0) & (tokens < op["in_tokens"])
        group = np.where(valid, tokens // c.cores - op["in_first"], row)
        address = op["in_addr"] + group[:, None] * op["in_stride"] + np.arange(op["ksteps"])
        bank = (tokens % c.cores)[:, None, None] * c.word + np.arange(c.word)
        x = m.act[np.where(valid[:, None], address, 0)[:, :, None], bank].view(np.int8) * valid[:, None, None]
        n = op["tiles"] * op["ksteps"]
        w = m.weight[op["weight_addr"] : op["weight_addr"] + n].view(np.int8)
        w = w.reshape(op["tiles"], op["ksteps"], c.lanes, c.width).transpose(0, 2, 1, 3)
        w = w.reshape(op["tiles"] * c.lanes, -1)
        params = m.entries(m.param, op["param_addr"], op["tiles"] * c.lanes, POST_PARAM_FIELDS)
        residual = 0
        if op["res_mode"]:
            at = op["res_addr"] + row * op["res_stride"]
            residual = m.tokens(m.act[at : at + op["tiles"] * op["res_mode"]], op["res_mode"])
        return x.reshape(c.cores, -1).astype(np.float64), w.astype(np.float64), params, residual
    if chunk == Chunk.SHIFTER:
        groups = -(-op["keys"] // c.cores)
        address = op["v_addr"] + np.arange(groups)[:, None] * op["v_stride"] + np.arange(op["blocks"])
        v = np.concatenate([m.tokens(m.act[a], 1) for a in address])
        return (v[: op["keys"]],)
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
    return (m.act[op["in_addr"] : op["in_addr"] + op["count"], : c.word].copy(),)


def write(m: Memories, chunk: Chunk, op: dict[str, int], row: int, operands: tuple, codes: list) -> np.ndarray | None:
    """Compute and store a row; returns the values (cores, channels) that it produced, or None (weights, keys).

    ``codes``: the code ring's entries; softmax appends one, the shifter takes the oldest.
    """
    c = m.config
    if chunk == Chunk.MAT:
        x, w, params, residual = operands
        bits = 12 if op["out_wide"] else 8
        y = ops.postprocess(ops.matmul(x, w), params, op["act"], op["gelu_exp"], residual, bits, bool(op["narrow"]))
        return _store(m, op, row, y, 1 + op["out_wide"])
    if chunk == Chunk.SHIFTER:
        y = ops.attend(codes.pop(0), operands[0], op["rule"], op["shift"], bool(op["factor"]))
        return _store(m, op, row, y, 1)
    if chunk == Chunk.LAYERNORM:
        return _store(m, op, row, ops.layernorm(*operands), 1)
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
        data = operands[0].reshape(-1, c.row_bytes)
        at = op["out_addr"] + row * len(data)
        m.act[at : at + len(data)] = data
        return data
    unit = op["offset"] * 16
    m.result.append((unit, operands[0].tobytes()))
    return None


def _store(m: Memories, op: dict[str, int], row: int, y: np.ndarray, planes: int) -> np.ndarray:
    at = op["out_addr"] + row * op["out_stride"]
    data = m.rows(y, planes)
    m.act[at : at + len(data)] = data
    return y
