"""One row of an engine's instruction (MAT, RMAC): ``read`` captures its operands, ``write`` computes and stores.

A row's tokens are those of all its groups, padding included. Depthwise rows find the map rows that the instruction's
earlier rows have read in ``Memories.window``, as in the hardware's window buffer.
"""

import numpy as np

from vitforge_hw.arch.isa import DEPTHWISE, KEY_VALUE, PARAM_BYTES, POINTWISE, POST_PARAM_FIELDS, TOKEN_SUM

from . import ops
from .memories import Memories

_KSUM_BITS = 11  #: of act1: first Ksum word; the bit above is the division's rule


def read(m: Memories, op: dict[str, int], row: int) -> tuple:
    """Copies of everything that a row reads."""
    kinds = {POINTWISE: _read_pointwise, DEPTHWISE: _read_depthwise, KEY_VALUE: _read_key_value, TOKEN_SUM: _read_sum}
    return kinds[op.get("kind", POINTWISE)](m, op, row)


def write(m: Memories, op: dict[str, int], row: int, operands: tuple) -> np.ndarray:
    """Compute and store: values (tokens, channels); K^T V: Z of the head (d, d); sums: (1, channels)."""
    kinds = {POINTWISE: _pointwise, DEPTHWISE: _depthwise, KEY_VALUE: _key_value, TOKEN_SUM: _sum}
    return kinds[op.get("kind", POINTWISE)](m, op, row, *operands)


def _params(m: Memories, at: int, channels: int) -> dict[str, np.ndarray]:
    unit = m.config.param_read_bytes // m.config.beat_bytes
    if at % unit:
        raise ValueError(f"program: parameters must begin at a multiple of {unit} beats, not at {at}")
    return m.entries(m.param, at, channels, POST_PARAM_FIELDS)


def _finish(acc: np.ndarray, constants: dict, op: dict[str, int], residual=0) -> np.ndarray:
    bits = 12 if op.get("out_wide") else 8
    return ops.postprocess(acc, constants, op["act"], op["act0"], op["act1"], residual, bits, bool(op["narrow"]))


# ---------------------------------------------------------------- down-forward accumulation


def _groups(op: dict[str, int], row: int) -> np.ndarray:
    each = op["groups"] + 1
    return row * each * (1 + op["skip"]) + np.arange(each)


def _read_pointwise(m: Memories, op: dict[str, int], row: int) -> tuple:
    c, groups = m.config, _groups(op, row)
    x = _input(m, op, groups)
    tiles, steps = op["tiles"], op["ksteps"] * (c.word // c.width)
    w = m.weight[op["weight_addr"] : op["weight_addr"] + tiles * steps].view(np.int8)
    w = w.reshape(tiles, steps, c.lanes, c.width).transpose(0, 2, 1, 3).reshape(tiles * c.lanes, -1).copy()
    residual, ksum = 0, None
    if op["res_mode"]:
        rows = groups[:, None] * op["res_stride"] + np.arange(tiles * op["res_mode"])
        residual = m.tokens(m.act[op["res_addr"] + rows], op["res_mode"])
    if op["divide"]:
        heads = -(-tiles // (op["gtiles"] or tiles))
        at = op["act1"] & ((1 << _KSUM_BITS) - 1)
        ksum = m.ksum[at : at + heads * op["ksteps"]].view(np.int8).reshape(heads, -1).copy()
    return x, w, _params(m, op["param_addr"], tiles * c.lanes), residual, ksum


def _input(m: Memories, op: dict[str, int], groups: np.ndarray) -> np.ndarray:
    """int8 (tokens, words * word); ``in_offset`` shifts tokens, those outside ``in_tokens`` are 0."""
    c = m.config
    words = np.arange(op["in_words"] or op["ksteps"])
    if not op["in_offset"] and not op["in_tokens"]:
        x = m.act[op["in_addr"] + groups[:, None] * op["in_stride"] + words].view(np.int8)
        x = x.reshape(len(groups), len(words), c.cores, c.word).transpose(0, 2, 1, 3)
    else:
        tokens = (((op["in_first"] + groups) * c.cores)[:, None] + np.arange(c.cores) + op["in_offset"]).ravel()
        valid = (tokens >= 0) & (tokens < op["in_tokens"]) if op["in_tokens"] else np.full(len(tokens), True)
        address = op["in_addr"] + (tokens // c.cores - op["in_first"])[:, None] * op["in_stride"] + words
        bank = (tokens % c.cores)[:, None, None] * c.word + np.arange(c.word)
        x = m.act[np.where(valid[:, None], address, 0)[:, :, None], bank].view(np.int8) * valid[:, None, None]
    x = x.reshape(len(groups) * c.cores, -1)
    return np.maximum(x, 0) if op["relu"] else x


def _pointwise(m: Memories, op: dict[str, int], row: int, x, w, params, residual, ksum) -> np.ndarray:
    c = m.config
    k = op["ksteps"] * c.word
    n = (op["gtiles"] or op["tiles"]) * c.lanes
    parts = [(x[:, g * k : (g + 1) * k], w[at : at + n]) for g, at in enumerate(range(0, len(w), n))]
    acc = np.concatenate([ops.matmul8(*p) for p in parts], axis=1)
    constants = ops.constants(params)
    if op["divide"]:
        divisor = np.stack([ops.matmul8(p[0], s[None])[:, 0] for p, s in zip(parts, ksum)], axis=1)
        mant, p = ops.divisor_factor(divisor, op["act1"] >> _KSUM_BITS, op["act0"])
        head = np.arange(len(w)) // n
        constants |= dict(m1=mant[:, head], s1=p[:, head] + params["s1"])  # the field is the shift itself
    y = _finish(acc, constants, op, residual)
    return m.store(op, _groups(op, row), y, 1 + op["out_wide"])


# ---------------------------------------------------------------- self-accumulation


def _window_rows(m: Memories, op: dict[str, int]) -> int:
    """Window-buffer rows of a map row."""
    slots, groups = m.config.width, op["in_groups"]
    if _narrow(op):
        return -(-groups // slots)
    return groups * -(-op["blocks"] // slots)


def _narrow(op: dict[str, int]) -> bool:
    return op["blocks"] == 1 and op["stride"] == 0


def _read_depthwise(m: Memories, op: dict[str, int], row: int) -> tuple:
    c, half, stride = m.config, op["kernel"] // 2, op["stride"] + 1
    if row == 0:
        if op["window_stride"] < _window_rows(m, op):
            raise ValueError(f"program: a map row takes {_window_rows(m, op)} window rows, not {op['window_stride']}")
        if min(op["height"], op["kernel"] + stride) * op["window_stride"] > c.window_rows:
            raise ValueError(f"program: {op['kernel'] + stride} map rows exceed window_rows = {c.window_rows}")
        m.window = {}
    top = (op["first"] + row) * stride - half
    bottom = min(op["height"] - 1, top + 2 * half)
    for y in range(max(m.window) + 1 if row else max(0, top), bottom + 1):
        groups = y * op["in_groups"] + np.arange(op["in_groups"])
        m.window[y] = m.read_tokens(op["in_addr"], op["in_stride"], groups, op["blocks"])[: op["width"]]
    for y in [y for y in m.window if y < top and y < max(m.window)]:
        del m.window[y]
    rows = [m.window[y] if 0 <= y < op["height"] else None for y in range(top, top + op["kernel"])]
    taps, slots = op["kernel"] ** 2, c.width
    sets = -(-op["blocks"] // slots)
    w = m.weight[op["weight_addr"] : op["weight_addr"] + sets * taps].view(np.int8).reshape(sets, taps, slots, c.lanes)
    return rows, w.copy(), _params(m, op["param_addr"], op["blocks"] * c.lanes)


def _depthwise(m: Memories, op: dict[str, int], row: int, rows: list, w: np.ndarray, params: dict) -> np.ndarray:
    c, k, stride = m.config, op["kernel"], op["stride"] + 1
    pixels, channels = op["out_groups"] * c.cores, op["blocks"] * c.word
    full = np.full((k, max((pixels - 1) * stride + k, op["width"] + k // 2), channels), op["pad"], dtype=np.int32)
    for i, x in enumerate(rows):
        if x is not None:
            full[i, k // 2 : k // 2 + op["width"]] = x
    if _narrow(op):  # slot = token group
        weight = w[0][:, np.arange(pixels) // c.cores % c.width].astype(np.int32)  # (taps, pixels, lanes)
    else:
        weight = w.transpose(1, 0, 2, 3).reshape(k * k, 1, -1)[:, :, :channels].astype(np.int32)
    acc = np.zeros((pixels, channels), dtype=np.int32)
    for tap in range(k * k):
        i, j = divmod(tap, k)
        acc += full[i, j : j + (pixels - 1) * stride + 1 : stride] * weight[tap]
    y = _finish(acc, ops.constants(params), op)
    # what lies in padding pixels is nobody's business
    y[(op["width"] - 1) // stride + 1 :] = m.rng.integers(-128, 128)
    return m.store(op, row * op["out_groups"] + np.arange(op["out_groups"]), y, 1)


# ---------------------------------------------------------------- K^T V and sums over tokens


def _pixels(m: Memories, op: dict[str, int], address: int) -> np.ndarray:
    """int8 (pixels, channels) of the whole map, padding left out."""
    x = m.read_tokens(address, op["in_stride"], np.arange(op["in_groups"] * op["height"]), op["blocks"])
    return x.reshape(op["height"], -1, x.shape[1])[:, : op["width"]].reshape(-1, x.shape[1])


def _read_key_value(m: Memories, op: dict[str, int], row: int) -> tuple:
    c, blocks = m.config, op["blocks"]
    if op["in_groups"] * op["height"] > c.window_rows // 2:
        raise ValueError(f"program: K^T V of more than window_rows / 2 = {c.window_rows // 2} groups")
    k, v = (_pixels(m, op, op[name] + row * blocks) for name in ("in_addr", "v_addr"))
    channels = blocks * c.lanes
    return k, v, _params(m, op["param_addr"] + row * channels * PARAM_BYTES // c.beat_bytes, channels)


def _key_value(m: Memories, op: dict[str, int], row: int, k, v, params) -> np.ndarray:
    c, blocks = m.config, op["blocks"]
    z = _finish(ops.matmul(np.maximum(k, 0).T, v.T), ops.constants(params), op)  # (channel of k, channel of v)
    rows = z.T.reshape(blocks, c.lanes, -1, c.width).transpose(0, 2, 1, 3).reshape(-1, c.weight_row_bytes)
    at = op["weight_addr"] + row * len(rows)
    m.weight[at : at + len(rows)] = (rows & 255).astype(np.uint8)
    return z


def _read_sum(m: Memories, op: dict[str, int], row: int) -> tuple:
    return _pixels(m, op, op["in_addr"]), _params(m, op["param_addr"], op["blocks"] * m.config.lanes)


def _sum(m: Memories, op: dict[str, int], row: int, x, params) -> np.ndarray:
    c, blocks = m.config, op["blocks"]
    acc = (np.maximum(x, 0) if op["relu"] else x).sum(axis=0, keepdims=True, dtype=np.int64)
    y = _finish(acc, ops.constants(params), op)
    words = (y & 255).astype(np.uint8).reshape(blocks, c.word)
    if op["dest"]:
        m.ksum[op["weight_addr"] : op["weight_addr"] + blocks] = words
    else:
        at = op["bank"] * c.word
        m.act[op["out_addr"] : op["out_addr"] + blocks, at : at + c.word] = words
    return y
