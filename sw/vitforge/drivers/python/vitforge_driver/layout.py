"""Pixels to the bytes of a job, the bytes of a result to logits, by the record's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .record import Record


def pack_image(pixels: np.ndarray, record: Record) -> bytes:
    """One image as it lies in DRAM. pixels: (height, width, channels), or (height, width) of one colour; 0 to 255.

    ValueError for another shape. stored = round(pixel / scale) + zero_point, limited to int8.
    """
    i = record.input
    wanted = (i["height"], i["width"], i["channels"])
    x = np.asarray(pixels)
    x = x[..., None] if x.ndim == 2 and wanted[2] == 1 else x
    if x.shape != wanted:
        raise ValueError(f"image: must have shape {wanted}, not {x.shape}")
    stored = np.floor(x / i["scale"] + 0.5) + i["zero_point"]
    stored = np.clip(stored, -128, 127).astype(np.int8)
    return _striped(_rows(_tokens(stored, i), i), record).tobytes()


def _tokens(stored: np.ndarray, i: dict[str, Any]) -> np.ndarray:
    """int8 (H, W, C) to (rows, columns, C * kernel^2): patches or windows, colour by colour, each row by row."""
    k, p = i["kernel"], i["padding"]
    h, w, c = stored.shape
    padded = np.empty((h + 2 * p, w + 2 * p, c), np.int8)
    padded[:] = np.array(i["pad"], np.int8)
    padded[p : p + h, p : p + w] = stored
    view = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(0, 1))[:: i["stride"], :: i["stride"]]
    return np.ascontiguousarray(view).reshape(i["rows"], i["columns"], c * k * k)


def _rows(tokens: np.ndarray, i: dict[str, Any]) -> np.ndarray:
    """Buffer rows (number, bytes), each padded to whole beats: a word of each token of a group."""
    rows, columns, depth = tokens.shape
    cores, word = i["cores"], i["word"]
    groups, blocks = -(-columns // cores), -(-depth // word)
    x = np.zeros((rows, groups * cores, blocks * word), np.int8)
    x[:, :columns, :depth] = tokens
    x = x.reshape(rows * groups, cores, blocks, word).transpose(0, 2, 1, 3).reshape(-1, cores * word)
    out = np.zeros((len(x), -(-cores * word // i["beat_bytes"]) * i["beat_bytes"]), np.uint8)
    out[:, : cores * word] = x.view(np.uint8)
    return out


def _striped(rows: np.ndarray, record: Record) -> np.ndarray:
    """Beat after beat to DRAM order: every master's 16 bytes of each beat go to its own run of the stripe."""
    masters, run = record.hardware["masters"], record.input["run_bytes"]
    out = np.zeros(record.input["image_stride"], np.uint8)
    out[: rows.size] = rows.reshape(-1)
    return out.reshape(-1, run // 16, masters, 16).transpose(0, 2, 1, 3).reshape(-1)


def pack_job(images: Sequence[np.ndarray], record: Record) -> bytes:
    """The images of one job, one behind the other. ValueError for another number of images."""
    if len(images) != record.job["images"]:
        raise ValueError(f"job: must have {record.job['images']} images, not {len(images)}")
    return b"".join(pack_image(x, record) for x in images)


def unpack_logits(result: bytes | np.ndarray, record: Record) -> np.ndarray:
    """float64 (images of a job, classes): (stored - zero_point) * scale. ValueError for a result that is too short."""
    o, images = record.output, record.job["images"]
    raw = np.frombuffer(bytes(result), np.uint8)
    if len(raw) < record.job["result_bytes"]:
        raise ValueError(f"result: must have {record.job['result_bytes']} bytes, not {len(raw)}")
    blocks = -(-o["classes"] // o["word"])
    raw = raw[: images * o["image_stride"]].reshape(images, -1)[:, : blocks * o["planes"] * o["word"]]
    raw = raw.reshape(images, blocks, o["planes"], o["word"])
    value = raw[:, :, -1].astype(np.int8).astype(np.int64)
    if o["planes"] == 2:
        value = value * 256 + raw[:, :, 0]
    stored = value.reshape(images, -1)[:, : o["classes"]]
    return (stored - o["zero_point"]) * float(o["scale"])


def read_image(path: str | Path, record: Record) -> np.ndarray:
    """An image file as pixels, resized and cropped as the record says (needs Pillow; plain gray and RGB files)."""
    from PIL import Image

    i, prepare = record.input, record.input["prepare"]
    image = Image.open(path).convert("L" if i["channels"] == 1 else "RGB")
    size, how = prepare["size"], getattr(Image, prepare["interpolation"].upper())
    scale, (w, h) = int(size / prepare["crop_pct"]), image.size
    if prepare["crop_mode"] == "squash":
        wanted = (scale, scale)
    else:
        wanted = (scale, int(scale * h / w)) if w <= h else (int(scale * w / h), scale)
    if image.size != wanted:
        image = image.resize(wanted, how)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.uint8)
    return pixels.reshape(i["height"], i["width"], i["channels"])
