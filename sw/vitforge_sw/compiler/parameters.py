"""Weights and per-channel parameters as the buffers hold them: numpy arrays of bytes, range-checked."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import LN_PARAM_FIELDS, PARAM_BYTES, POST_PARAM_FIELDS, Field

from ..graph.ir import LayerNorm, Linear, Scores
from .network import cdiv


def weight_rows(weight: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """int8 (N, K) -> uint8 (tiles * ksteps, lanes * width): row tile * ksteps + step, byte lane * width + i."""
    n, k = weight.shape
    tiles, steps = cdiv(n, config.lanes), cdiv(k, config.width)
    padded = np.zeros((tiles * config.lanes, steps * config.width), dtype=np.int8)
    padded[:n, :k] = weight
    rows = padded.reshape(tiles, config.lanes, steps, config.width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(rows).reshape(tiles * steps, -1).view(np.uint8)


def pack_columns(fields: tuple[Field, ...], columns: dict[str, np.ndarray], count: int, what: str) -> np.ndarray:
    """One 8-byte entry per channel from columns of integers; missing columns are zero. uint8 (count, 8)."""
    words = np.zeros(count, dtype=np.uint64)
    position = 0
    for f in fields:
        if f.name in columns:
            values = np.broadcast_to(np.asarray(columns[f.name], dtype=np.int64), (count,))
            lo, hi = f.range
            if count and (values.min() < lo or values.max() > hi):
                bad = values.min() if values.min() < lo else values.max()
                raise ValueError(f"{what}: {f.name} must be in {lo}..{hi}, not {bad}")
            words |= (values & ((1 << f.bits) - 1)).astype(np.uint64) << np.uint64(position)
        position += f.bits
    assert position <= 8 * PARAM_BYTES
    return words.astype("<u8").view(np.uint8).reshape(count, PARAM_BYTES)


def post_params(node: Linear | Scores, channels: int, config: AcceleratorConfig) -> np.ndarray:
    """Entries of an engine layer, zero-padded to whole tiles: uint8 (tiles * lanes * 8,)."""
    padded = cdiv(channels, config.lanes) * config.lanes
    if isinstance(node, Scores):
        return pack_columns(POST_PARAM_FIELDS, {"s1": node.s1, "s2": node.s2}, padded, f"layer {node.name}").ravel()
    names = ("bias", "s1", "eh", "er", "s2", "offset")
    columns = {n: np.asarray(getattr(node, n)) for n in names if getattr(node, n) is not None}
    out = np.zeros((padded, PARAM_BYTES), dtype=np.uint8)
    out[:channels] = pack_columns(POST_PARAM_FIELDS, columns, channels, f"layer {node.name}")
    return out.ravel()


def layernorm_params(node: LayerNorm) -> np.ndarray:
    """Entries of a LayerNorm: uint8 (C * 8,)."""
    columns = {n: np.asarray(getattr(node, n)) for n in ("gamma", "beta", "shift", "a")}
    return pack_columns(LN_PARAM_FIELDS, columns, len(node.gamma), f"layer {node.name}").ravel()
