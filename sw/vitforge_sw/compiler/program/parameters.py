"""Weights and per-channel parameters as the buffers hold them: numpy arrays of bytes, range-checked."""

import numpy as np

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import LN_PARAM_FIELDS, PARAM_BYTES, POST_PARAM_FIELDS, Field

from ...graph.ir import LayerNorm, Linear, Node, Scores
from ...graph.ir_trio import LinearAttend, NormAct, Post
from ...kinds.access import cdiv
from ...kinds.depthwise import narrow_mapping

M1_ONE = 15  #: entries hold m1 = 2^15 + field and s1 = 15 + field
_S1_LIMIT = next((1 << f.bits) - 1 for f in POST_PARAM_FIELDS if f.name == "s1")  #: largest field: s1 = 46


# ---------------------------------------------------------------- weights


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


def post_params(node: Linear | Scores | Post | LinearAttend, channels: int, config: AcceleratorConfig) -> np.ndarray:
    """Entries of an engine layer's ``channels`` outputs, zero-padded to whole tiles: uint8 (tiles * lanes * 8,).

    Linear, Scores: scales are powers of two, m1 = 2^15. Post: dyadic. LinearAttend: the shift alone.
    """
    columns = {k: np.broadcast_to(v, (channels,)) for k, v in _columns(node, channels).items()}
    out = np.zeros((cdiv(channels, config.lanes) * config.lanes, PARAM_BYTES), dtype=np.uint8)
    out[:channels] = pack_columns(POST_PARAM_FIELDS, columns, channels, f"layer {node.name}")
    return out.ravel()


def _columns(node: Node, channels: int) -> dict[str, np.ndarray]:
    if isinstance(node, LinearAttend):
        return {"s1": np.asarray(node.shift)}
    if isinstance(node, Scores):
        return {"s1": _power_shift(node.s1), "s2": np.asarray(node.s2)}
    columns = {"bias": np.asarray(node.bias), "offset": np.asarray(node.offset)}
    if isinstance(node, Post):
        columns["m1"], columns["s1"] = _dyadic(node, channels)
    else:
        columns["s1"] = _power_shift(node.s1)
    columns["e"], columns["s2"] = _addition(node, channels)
    return columns


def _power_shift(s1) -> np.ndarray:
    """Field of a shift by s1 alone, 2^15 * 2^-(15 + s1).

    Beyond 31 it is 31: |acc + bias| < 2^26, so 0 < acc + bias + 2^30 < 2^31 and round_shift by 31 is 0, as by more.
    """
    return np.minimum(np.asarray(s1, dtype=np.int64), _S1_LIMIT)


def _dyadic(node: Post, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields of m1 * 2^-s1: m1 is shifted left to 16 bits and s1 raised with it, which changes no result.

    s1 > 46 becomes 46: |(acc + bias) m1| < 2^26 * 2^16 = 2^42, so adding 2^45 gives less than 2^46 and the shift 0, as
    by more.
    """
    m1 = np.broadcast_to(np.asarray(node.m1, dtype=np.int64), (channels,))
    s1 = np.broadcast_to(np.asarray(node.s1, dtype=np.int64), (channels,))
    if (m1 < 1).any() or (m1 >> (M1_ONE + 1)).any():
        at = int(np.argmax((m1 < 1) | (m1 >> (M1_ONE + 1) > 0)))
        raise ValueError(f"layer {node.name}: m1 must be 1..{(2 << M1_ONE) - 1}, not {m1[at]} (channel {at})")
    left = M1_ONE + 1 - np.frexp(m1.astype(np.float64))[1]
    if (low := s1 + left < M1_ONE).any():
        at = int(np.argmax(low))
        raise ValueError(
            f"layer {node.name}: m1 * 2^-s1 must be below 2, not {m1[at]} * 2^-{s1[at]} (channel {at}): "
            "the machine shifts right by 15 or more"
        )
    return (m1 << left) - (1 << M1_ONE), np.minimum(s1 + left - M1_ONE, _S1_LIMIT)


def _addition(node: Linear | Post, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields e and s2 of round_shift((h << eh) + (residual << er), s2).

    With a = min(eh, er) both addends are multiples of 2^a, so that s2 - a, eh - a, er - a give the same result where
    s2 >= a; of eh - a and er - a one is 0. Without a residual er does not count.
    """
    eh, er, s2 = (
        np.broadcast_to(np.asarray(0 if v is None else v, dtype=np.int64), (channels,))
        for v in (node.eh, node.er, node.s2)
    )
    if node.residual is None:
        return eh, s2
    common = np.minimum(eh, er)
    if (s2 < common).any():
        at = int(np.argmax(s2 < common))
        raise ValueError(
            f"layer {node.name}: s2 must be at least min(eh, er), not {s2[at]} with eh = {eh[at]}, er = {er[at]} "
            f"(channel {at})"
        )
    return eh - er, s2 - common


def layernorm_params(node: LayerNorm | NormAct) -> np.ndarray:
    """Entries of a LayerNorm: uint8 (C * 8,)."""
    names = ("gamma", "beta", "shift") if isinstance(node, NormAct) else ("gamma", "beta", "shift", "a")
    columns = {n: np.asarray(getattr(node, n)) for n in names}
    return pack_columns(LN_PARAM_FIELDS, columns, len(node.gamma), f"layer {node.name}").ravel()
