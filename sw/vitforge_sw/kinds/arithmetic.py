"""The integer contract on numpy arrays: equal to arch.arith element by element."""

import numpy as np
from numpy.typing import ArrayLike

from vitforge_hw.arch import arith

_GELU = np.array(arith.GELU_TABLE + (0,), dtype=np.int64)
_RSQRT = np.array(arith.RSQRT_TABLE, dtype=np.int64)
_EXP2 = np.array(arith.EXP2_TABLE, dtype=np.int64)
_LOG2 = np.array(arith.LOG2_TABLE, dtype=np.int64)
_RECIP = np.array(arith.RECIP_TABLE, dtype=np.int64)
_MAXREL = np.array([arith.maxrel_code(u) for u in range(arith.U_MAX + 1)], dtype=np.int64)
_WEIGHTS = np.array([[arith.code_weight(q, rule) for q in range(16)] for rule in (0, 1)], dtype=np.int64)


def round_shift(x: ArrayLike, n: ArrayLike) -> np.ndarray:
    """x * 2^-n rounded half up; n an array or integer >= 0."""
    x, n = np.asarray(x, dtype=np.int64), np.asarray(n, dtype=np.int64)
    half = np.where(n > 0, np.int64(1) << np.maximum(n - 1, 0), 0)
    return (x + half) >> n


def _shift_either(x: np.ndarray, n: int) -> np.ndarray:
    return round_shift(x, n) if n >= 0 else np.asarray(x, dtype=np.int64) << -n


def saturate(x: np.ndarray, bits: int, narrow: bool = False) -> np.ndarray:
    """Clip to ``bits`` bits; ``narrow`` leaves out the most negative value."""
    hi = (1 << (bits - 1)) - 1
    return np.clip(x, -hi if narrow else -hi - 1, hi)


def leading_one(x: ArrayLike) -> np.ndarray:
    """Index of the most significant one; x > 0 and below 2^53."""
    return np.frexp(np.asarray(x, dtype=np.float64))[1].astype(np.int64) - 1


def matmul(x: ArrayLike, w: ArrayLike) -> np.ndarray:
    """(tokens, K) x (N, K)^T exactly: products below 2^15 and K below 2^13 stay below 2^53."""
    return np.rint(np.asarray(x, dtype=np.float64) @ np.asarray(w, dtype=np.float64).T).astype(np.int64)


def matmul8(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(tokens, K) x (N, K)^T of int8: where K <= 2^10 every partial sum is an integer below 2^24, exact in float32."""
    kind: type[np.floating] = np.float32 if x.shape[1] <= 1 << 10 else np.float64
    return (x.astype(kind) @ w.astype(kind).T).astype(np.int64)


def gelu(p: np.ndarray, e: int) -> np.ndarray:
    """arith.gelu."""
    index = np.minimum(_shift_either(np.abs(p), e - arith.GELU_FRAC), arith.GELU_ENTRIES)
    return np.maximum(p, 0) - _shift_either(_GELU[index], arith.GELU_OUT_FRAC - e)


def hardswish(p: np.ndarray, q3: int, q6: int) -> np.ndarray:
    """arith.hardswish."""
    return p * np.clip(p + q3, 0, q6)


def constants(entries: dict) -> dict:
    """Arrays of POST_PARAM_FIELDS to the constants of arith.postprocess."""
    e = entries["e"]
    shared = {k: entries[k] for k in ("bias", "s2", "offset")}
    return shared | dict(m1=entries["m1"] + (1 << 15), s1=entries["s1"] + 15, eh=np.maximum(e, 0), er=np.maximum(-e, 0))


def postprocess(
    acc: np.ndarray,
    constants: dict,
    act: int,
    act0: int,
    act1: int,
    residual: ArrayLike,
    out_bits: int,
    narrow: bool,
) -> np.ndarray:
    """arith.postprocess, and with GELU arith.postprocess; acc (tokens, channels), constants by the names there.

    ``act0``, ``act1``: fields of the instruction, GELU's fraction bits; q3 and q6.
    """
    f = constants
    p = saturate(round_shift((acc + f["bias"]) * f["m1"], f["s1"]), arith.P_BITS)
    h = p
    if act == arith.ACT_GELU:
        h = gelu(p, act0)
    elif act == arith.ACT_HARDSWISH:
        h = hardswish(p, act0, act1)
    total = (h << f["eh"]) + (np.asarray(residual, dtype=np.int64) << f["er"])
    return saturate(round_shift(total, f["s2"]) + f["offset"], out_bits, narrow)


def divisor_factor(d: np.ndarray, rule: int, lo: int) -> tuple[np.ndarray, np.ndarray]:
    """arith.divisor_factor of divisors d >= 0: (mant, p) arrays."""
    if rule == arith.DIV_RECIPROCAL:
        mant, p = row_factor(d)
    else:
        i = leading_one(np.maximum(d, 1))
        r = i + np.where(i > 0, (d >> np.maximum(i - 1, 0)) & 1, 0)
        mant, p = np.asarray(128), lo + np.clip(r - lo, 0, arith.CODE_MAX)
    return np.where(d > 0, mant, 0), np.where(d > 0, p, 0)


def rsqrt(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """arith.rsqrt: (m, e) arrays."""
    k = leading_one(np.maximum(v, 1)) & ~np.int64(1)
    f = np.where(k >= 16, v >> np.maximum(k - 16, 0), v << np.maximum(16 - k, 0))
    r0 = _RSQRT[np.clip((f >> 11) - 32, 0, 95)]
    t = round_shift(f * r0 * r0, 24)
    m = np.minimum(round_shift(r0 * (3 * 65536 - t), 13), 65535)
    return np.where(v == 0, 0, m), np.where(v == 0, 16, 16 + k // 2)


def _normalised(x: np.ndarray) -> np.ndarray:
    """z of rows x (tokens, C)."""
    c = x.shape[1]
    s1 = x.sum(axis=1, keepdims=True)
    v = c * (x * x).sum(axis=1, keepdims=True) - s1 * s1
    m, e = rsqrt(v)
    return saturate(round_shift((c * x - s1) * m, e - arith.LN_Z_FRAC), 16)


def layernorm(q: ArrayLike, params: dict) -> np.ndarray:
    """arith.layernorm on rows: q (tokens, C)."""
    z = _normalised(np.asarray(q, dtype=np.int64) << params["a"])
    return saturate(round_shift(z * params["gamma"] + params["beta"], params["shift"]), 8)


def layernorm_hardswish(
    q: ArrayLike, params: dict, q3: int, q6: int, s2: int, offset: int
) -> np.ndarray:
    """arith.layernorm_hardswish on rows: q (tokens, C)."""
    z = _normalised(np.asarray(q, dtype=np.int64) << params["a"])
    p = saturate(round_shift(z * params["gamma"] + params["beta"], params["shift"]), arith.P_BITS)
    return saturate(round_shift(hardswish(p, q3, q6), s2) + offset, 8)


def softmax_codes(x: ArrayLike, rule: int, c: int, sc: int) -> np.ndarray:
    """arith.softmax_codes on rows: x (tokens, keys)."""
    x = np.asarray(x, dtype=np.int64)
    u = np.minimum(round_shift((x.max(axis=1, keepdims=True) - x) * c, sc), arith.U_MAX)
    if rule == arith.RULE_MAXREL:
        return _MAXREL[u]
    s = (_EXP2[u & 15] >> (u >> 4)).sum(axis=1, keepdims=True)
    n = leading_one(s)
    log_sum = ((n - 16) << 4) + _LOG2[(s >> (n - 6)) & 63]
    return np.minimum((u + log_sum + 8) >> 4, 15)


def row_factor(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """arith.row_factor: (mant, p) arrays."""
    p = leading_one(np.maximum(w, 1))
    index = np.where(p >= 8, w >> np.maximum(p - 8, 0), w << np.maximum(8 - p, 0)) & 255
    return np.where(w == 0, 128, _RECIP[index]), np.where(w == 0, 0, p)


def attend(codes: np.ndarray, v: ArrayLike, rule: int, shift: int, use_factor: bool) -> np.ndarray:
    """arith.attend on rows: codes (tokens, keys), v (keys, channels)."""
    w = _WEIGHTS[rule][codes]
    acc = matmul(w, np.asarray(v).T)
    if use_factor:
        mant, p = row_factor(w.sum(axis=1, keepdims=True))
    else:
        mant, p = (np.asarray(i) for i in arith.NO_FACTOR)
    return saturate(round_shift(acc * mant, shift + p), 8)
