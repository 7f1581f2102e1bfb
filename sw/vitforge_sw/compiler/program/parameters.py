"""Weights and per-channel parameters as the buffers hold them: numpy arrays of bytes, range-checked."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import LN_PARAM_FIELDS, PARAM_BYTES, POST_PARAM_FIELDS, Field

from ...graph.ir import Node
from ...kinds.access import cdiv
from ...kinds.depthwise import narrow_mapping
from ...ops import LayerNorm, Matmul

# ---------------------------------------------------------------- weights


def paired(node: Matmul, config: AcceleratorConfig) -> bool:
    """Whether a layer runs with two output tiles a step: weights of 4 bits on a machine that has cells for them."""
    return config.w4 and node.nibbles and node.groups == 1


def row_count(tiles: int, steps: int, pairs: bool) -> int:
    """Weight rows of a layer's tiles; ``pairs``: two tiles share one."""
    return (cdiv(tiles, 2) if pairs else tiles) * steps


def paired_rows(weight: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """int8 (N, K) of -7..7 -> uint8 (ceil(tiles / 2) * steps, lanes * width): two weights a byte.

    The low nibble is that of an even tile (``weight_rows``), the high nibble that of the next one, of nothing: 0.
    """
    if weight.size and int(np.abs(weight).max()) > 7:
        raise ValueError(f"weights of 4 bits must be in -7..7, have {weight.min()}..{weight.max()}")
    steps = cdiv(weight.shape[1], config.width)
    tiles = weight_rows(weight, config).reshape(-1, steps, config.weight_row_bytes)
    tiles = np.concatenate([tiles, np.zeros((len(tiles) % 2, *tiles.shape[1:]), np.uint8)])
    return ((tiles[::2] & 15) | (tiles[1::2] << 4)).reshape(-1, config.weight_row_bytes)


def weight_rows(weight: np.ndarray, config: AcceleratorConfig, groups: int = 1) -> np.ndarray:
    """int8 (N, K / groups) -> uint8 (tiles * ksteps * H, lanes * width), H = word / width.

    Row (tile * ksteps + k) * H + h, byte lane * width + i = weight[tile * lanes + lane][k * word + h * width + i];
    N and K are padded with zeros to whole tiles and words. ValueError: groups that are not whole tiles and words (their
    tensors' words would hold channels of two groups).
    """
    n, k = weight.shape
    if groups > 1 and (n % (groups * config.lanes) or k % config.word):
        raise ValueError(
            f"{groups} groups of {k} inputs and {n / groups:g} outputs: both must be multiples of word = {config.word}"
        )
    tiles, steps = cdiv(n, config.lanes), cdiv(k, config.word) * (config.word // config.width)
    padded = np.zeros((tiles * config.lanes, steps * config.width), dtype=np.int8)
    padded[:n, :k] = weight
    rows = padded.reshape(tiles, config.lanes, steps, config.width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(rows).reshape(tiles * steps, -1).view(np.uint8)


def depthwise_rows(weight: np.ndarray, config: AcceleratorConfig, stride: int) -> np.ndarray:
    """int8 (C, taps) -> uint8 (sets * taps, lanes * width).

    Wide: row set * taps + tap, byte slot * lanes + channel of block set * slots + slot, slots = width. Narrow (one
    block, stride 1): the block's weights once for each slot.
    """
    c, taps = weight.shape
    lanes, slots = config.lanes, config.width
    blocks = cdiv(c, lanes)
    sets = cdiv(blocks, slots)
    padded = np.zeros((sets * slots, lanes, taps), dtype=np.int8)
    padded.reshape(-1, taps)[:c] = weight
    if narrow_mapping(blocks, stride):
        padded[:] = padded[0]
    rows = padded.reshape(sets, slots, lanes, taps).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(rows).reshape(sets * taps, -1).view(np.uint8)


# ---------------------------------------------------------------- parameter entries


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
                channel = int(np.argmax(values == bad))
                raise ValueError(f"{what}: {f.name} must be in {lo}..{hi}, not {bad} (channel {channel})")
            words |= (values & ((1 << f.bits) - 1)).astype(np.uint64) << np.uint64(position)
        position += f.bits
    assert position <= 8 * PARAM_BYTES
    return words.astype("<u8").view(np.uint8).reshape(count, PARAM_BYTES)


def post_params(node: Node, channels: int, config: AcceleratorConfig) -> np.ndarray:
    """Entries of an engine layer's ``channels`` outputs, zero-padded to whole tiles: uint8 (tiles * lanes * 8,)."""
    columns = {k: np.broadcast_to(v, (channels,)) for k, v in node.columns(channels).items()}
    out = np.zeros((cdiv(channels, config.lanes) * config.lanes, PARAM_BYTES), dtype=np.uint8)
    out[:channels] = pack_columns(POST_PARAM_FIELDS, columns, channels, f"layer {node.name}")
    return out.ravel()


def layernorm_params(node: LayerNorm) -> np.ndarray:
    """Entries of a LayerNorm: uint8 (C * 8,)."""
    channels = len(node.gamma)
    return pack_columns(LN_PARAM_FIELDS, node.columns(channels), channels, f"layer {node.name}").ravel()
