"""The memory map: how bytes lie in DRAM and in the activation buffer.

DRAM. The masters read side by side: a *beat* is 16 bytes of each master. Beat ``i``'s 16 bytes of master ``m``
lie at ``base + (i // 16) * 256 * M + m * 256 + (i % 16) * 16``: every master reads aligned runs of 256 bytes,
which never cross 4 KiB when the base is a multiple of 4 KiB. :func:`stripe` maps logical bytes (beat after beat)
to DRAM bytes. The result is written by master 0 alone, in plain order.

Activation buffer. Row ``base + g * stride + b`` holds channel block ``b`` of tokens ``g * cores ...``, byte
``lane * word + channel``. Wide tensors have two rows per block: low bytes, then high bytes (sign-extended).
Feature maps (docs/hybrid.md): every map row is padded to whole groups. In DRAM a buffer row is padded to whole beats.

Memory image. Header (64 bytes), instructions (64 bytes each), then parameters, weights and constant tensors,
each piece starting on a beat; the whole padded to 256 * M bytes.
"""

import numpy as np

BASE_ALIGNMENT = 4096
STRIPE_BEATS = 16  #: beats of one master's run (256 bytes)


def stripe(data: bytes | np.ndarray, masters: int) -> bytes:
    """Logical bytes (beat after beat, 16 * M bytes each) to DRAM order, zero-padded to whole stripes."""
    flat = np.frombuffer(bytes(data), dtype=np.uint8)
    unit = STRIPE_BEATS * 16 * masters
    padded = np.zeros(-(-len(flat) // unit) * unit, dtype=np.uint8)
    padded[: len(flat)] = flat
    return padded.reshape(-1, STRIPE_BEATS, masters, 16).transpose(0, 2, 1, 3).tobytes()


def unstripe(data: bytes | np.ndarray, masters: int) -> bytes:
    """The inverse of :func:`stripe` (length a multiple of 256 * M)."""
    flat = np.frombuffer(bytes(data), dtype=np.uint8)
    return flat.reshape(-1, masters, STRIPE_BEATS, 16).transpose(0, 2, 1, 3).tobytes()


def to_rows(x: np.ndarray, cores: int, word: int, wide: bool = False, fill: int = 0) -> np.ndarray:
    """Tensor (tokens, channels) of integers to buffer rows: uint8 (groups, blocks [* 2], cores * word).

    Missing tokens and channels are filled with ``fill``.
    """
    t, c = x.shape
    groups, blocks = -(-t // cores), -(-c // word)
    padded = np.full((groups * cores, blocks * word), fill, dtype=np.int64)
    padded[:t, :c] = x
    rows = padded.reshape(groups, cores, blocks, word).transpose(0, 2, 1, 3).reshape(groups, blocks, cores * word)
    if wide:
        rows = np.stack([rows & 255, (rows >> 8) & 255], axis=2).reshape(groups, blocks * 2, cores * word)
    return (rows & 255).astype(np.uint8)


def from_rows(rows: np.ndarray, tokens: int, channels: int, cores: int, word: int, wide: bool = False) -> np.ndarray:
    """The inverse of :func:`to_rows`: int64 (tokens, channels), signed."""
    groups = rows.shape[0]
    if wide:
        pair = rows.reshape(groups, -1, 2, cores * word).astype(np.int64)
        flat = pair[:, :, 0] | (pair[:, :, 1].astype(np.uint8).view(np.int8).astype(np.int64) << 8)
    else:
        flat = rows.astype(np.uint8).view(np.int8).astype(np.int64)
    blocks = flat.shape[1]
    x = flat.reshape(groups, blocks, cores, word).transpose(0, 2, 1, 3).reshape(groups * cores, blocks * word)
    return x[:tokens, :channels]


def to_map_rows(
    x: np.ndarray, height: int, width: int, cores: int, word: int, wide: bool = False, fill: int = 0
) -> np.ndarray:
    """Feature map (height * width, channels), pixel after pixel, to buffer rows: uint8 (height * G, blocks [* 2],
    cores * word), G = ceil(width / cores); the padding pixels are ``fill``. ``width`` 0 (not spatial): to_rows.
    """
    if not width:
        return to_rows(x, cores, word, wide, fill)
    groups = -(-width // cores)
    padded = np.full((height, groups * cores, x.shape[1]), fill, dtype=np.int64)
    padded[:, :width] = x.reshape(height, width, -1)
    return to_rows(padded.reshape(height * groups * cores, -1), cores, word, wide, fill)


def from_map_rows(
    rows: np.ndarray, height: int, width: int, channels: int, cores: int, word: int, wide: bool = False
) -> np.ndarray:
    """The inverse of :func:`to_map_rows`: int64 (height * width, channels); ``width`` 0: ``height`` tokens."""
    if not width:
        return from_rows(rows, height, channels, cores, word, wide)
    groups = -(-width // cores)
    x = from_rows(rows, height * groups * cores, channels, cores, word, wide)
    return x.reshape(height, groups * cores, channels)[:, :width].reshape(height * width, channels)


def rows_to_beats(rows: np.ndarray, beat_bytes: int) -> np.ndarray:
    """Buffer rows (..., bytes) as they lie in DRAM: uint8 (..., beats * beat_bytes), zeros behind each row."""
    beats = -(-rows.shape[-1] // beat_bytes)
    padded = np.zeros((*rows.shape[:-1], beats * beat_bytes), np.uint8)
    padded[..., : rows.shape[-1]] = rows
    return padded


def beats_to_rows(beats: np.ndarray, row_bytes: int) -> np.ndarray:
    """The inverse of :func:`rows_to_beats`: the first ``row_bytes`` bytes of every row."""
    return beats[..., :row_bytes]
