"""Changes that every family uses: JSON, integer arrays, bytes and text with something odd about them."""

import random
from collections.abc import Sequence

import numpy as np

ODD = [None, True, -1, 0, 1, 255, 1 << 31, 1 << 64, 1e308, float("nan"), 0.5, "", "x", "\x1b[31m\n", [], {}, [[1]],
       "é" * 99]  # fmt: skip


def changed(r: random.Random, data: object, words: Sequence[str] = ()) -> object:
    """JSON data with one place in it made odd, which is drawn by walking down. ``words``: that may mean something."""
    if isinstance(data, dict | list) and data and r.random() < 0.85:
        key = r.choice(list(data)) if isinstance(data, dict) else r.randrange(len(data))
        copy = dict(data) if isinstance(data, dict) else list(data)
        how = r.random()
        if how < 0.08:
            del copy[key]
        elif how < 0.12 and isinstance(copy, dict):
            copy[r.choice(["x", "é", key + "_"])] = copy.pop(key)
        elif how < 0.16 and isinstance(copy, list):
            copy.insert(key, copy[key])
        else:
            copy[key] = changed(r, copy[key], words)
        return copy
    if isinstance(data, int) and not isinstance(data, bool) and r.random() < 0.6:
        return r.choice([data + 1, data - 1, 2 * data, -data, data // 2, 0, 1 << 16, 1 << 40])
    if isinstance(data, str) and r.random() < 0.5:
        return r.choice([data + "x", data[:-1], data.upper(), *words])
    return r.choice(ODD)


def array(r: random.Random, value: np.ndarray) -> np.ndarray:
    """An integer array with something odd about it."""
    how = r.randrange(6)
    if how == 0:
        return value.astype(r.choice(["i8", "u1", "i2", "f4", "bool"]))
    if how == 1:
        return r.choice([value.T, value[None], value.ravel(), value[:0], value[:-1], np.concatenate([value, value])])
    out = value.copy()
    if out.size:
        place = tuple(r.randrange(n) for n in out.shape)
        limits = np.iinfo(out.dtype) if out.dtype.kind in "iu" else np.finfo(out.dtype)
        near = [v for v in (2, 7, 15, 31, 128, 1 << 15, 1 << 20, 1 << 25) if v <= limits.max]
        out[place if how < 5 else ...] = r.choice([limits.min, limits.max, 0, 1, *near])
    return out


def scribbled(r: random.Random, blob: bytes, reach: int) -> bytes:
    """Some of the first ``reach`` bytes changed; now and then the end cut off."""
    out = bytearray(blob)
    for _ in range(r.randrange(1, 4)):
        if out:
            out[r.randrange(min(reach, len(out)))] = r.randrange(256)
    return bytes(out) if r.random() < 0.9 else bytes(out[: r.randrange(len(out) + 1)])


def text(r: random.Random) -> str:
    """A name that has parts of names, and what no name should have."""
    pieces = ["module.", "model.", "ema_model.", "vit.", "head", ".weight", "\x1b[31m", "\n", "é", "0", "\0", "🙂", "."]
    return "".join(r.choice(pieces) for _ in range(r.randrange(1, 6)))


def printable(line: str) -> None:
    """What is said to people is one line without escape codes."""
    if not line.isprintable():
        raise AssertionError(f"says {line[:300]!r}")
