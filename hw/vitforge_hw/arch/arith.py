"""The integer contract: every operation of the machine, once, on plain Python ints.

The golden PyTorch model (vectorised), the emulator and the RTL units are each tested against these
functions. Nothing here imports anything but ``math`` and the codes; floats occur only where ROM tables are generated.
"""

import math

from .enums import Act, CodeRule

# ---------------------------------------------------------------- rounding and saturation


def round_shift(x: int, n: int) -> int:
    """``x * 2**-n`` rounded half up (ties toward +inf); a left shift for negative ``n``."""
    if n > 0:
        return (x + (1 << (n - 1))) >> n
    return x << -n


def saturate(x: int, bits: int, narrow: bool = False) -> int:
    """Clip to a signed number of ``bits`` bits; ``narrow`` leaves out the most negative value."""
    hi = (1 << (bits - 1)) - 1
    return max(-hi if narrow else -hi - 1, min(hi, x))


def leading_one(x: int) -> int:
    """Index of the most significant one of ``x > 0``."""
    assert x > 0
    return x.bit_length() - 1


# ---------------------------------------------------------------- activation functions

GELU_FRAC = 7  #: fraction bits of the table's argument
GELU_ENTRIES = 512  #: the table covers |x| < 4
GELU_OUT_FRAC = 10  #: fraction bits of the table's values
GELU_EXP_MIN, GELU_EXP_MAX = 3, 10  #: p's fraction bits that the unit accepts

#: g(t) = t * Phi(-t) for t = i / 128 in units of 2^-10, so that gelu(x) = relu(x) - g(|x|)
GELU_TABLE = tuple(
    round(2**GELU_OUT_FRAC * t * 0.5 * math.erfc(t / math.sqrt(2)))
    for t in (i / 2**GELU_FRAC for i in range(GELU_ENTRIES))
)


def gelu(p: int, e: int) -> int:
    """GELU of the 12-bit ``p`` with ``e`` fraction bits (3..10); the result has the same scale.

    ``relu(p) - g(|p|)``: |p| is rounded to 7 fraction bits, g read from a ROM of 512 x 8 bits (10 fraction
    bits), 0 beyond |x| >= 4, and rounded to p's scale.
    """
    index = round_shift(abs(p), e - GELU_FRAC)
    g = GELU_TABLE[index] if index < GELU_ENTRIES else 0
    return max(p, 0) - round_shift(g, GELU_OUT_FRAC - e)


ACT_IDENTITY, ACT_GELU = int(Act.IDENTITY), int(Act.GELU)


def activation(p: int, act: int, e: int) -> int:
    """``act`` selects identity or GELU of the 12-bit p."""
    return gelu(p, e) if act == ACT_GELU else p


# ---------------------------------------------------------------- post-processing of an engine's result


def postprocess(
    acc: int,
    *,
    bias: int,
    s1: int,
    act: int = ACT_IDENTITY,
    gelu_exp: int = 8,
    eh: int = 0,
    residual: int = 0,
    er: int = 0,
    s2: int = 0,
    offset: int = 0,
    out_bits: int = 8,
    narrow: bool = False,
) -> int:
    """One output of an engine: re-quantization by shifts, activation, residual, offset.

    p = sat12(round_shift(acc + bias, s1));  h = act(p)
    y = sat(round_shift((h << eh) + (residual << er), s2) + offset)      8 or 12 bits

    ``narrow`` keeps keys in -127..127, so that they are legal weights of the packed multipliers.
    """
    p = saturate(round_shift(acc + bias, s1), 12)
    h = activation(p, act, gelu_exp)
    return saturate(round_shift((h << eh) + (residual << er), s2) + offset, out_bits, narrow)


# ---------------------------------------------------------------- LayerNorm

RSQRT_TABLE = tuple(round(2**12 / math.sqrt((i + 32.5) / 32)) for i in range(96))  #: 12 fraction bits
LN_Z_FRAC = 10  #: fraction bits of the normalised value z


def rsqrt(v: int) -> tuple[int, int]:
    """``(m, e)`` with 1/sqrt(v) ~ m * 2^-e, m of 16 bits; ``(0, 16)`` for v = 0.

    v is normalised by an even power of two to f in [1, 4) with 16 fraction bits (truncated), r0 is read from a
    table of 96 entries indexed by f's top bits, and one Newton step r = r0 (3 - f r0^2) / 2 follows.
    Relative error below 2^-13.3 (asserted in the tests).
    """
    if v == 0:
        return 0, 16
    k = leading_one(v) & ~1
    f = v >> (k - 16) if k >= 16 else v << (16 - k)
    r0 = RSQRT_TABLE[(f >> 11) - 32]
    t = round_shift(f * r0 * r0, 24)
    m = min(round_shift(r0 * (3 * 65536 - t), 13), 65535)
    return m, 16 + k // 2


def layernorm_stats(x: list[int]) -> tuple[int, int, int]:
    """``(S1, S2, V)`` of one row of (already PTF-shifted) integers; V = C*S2 - S1^2 >= 0 exactly."""
    s1, s2 = sum(x), sum(i * i for i in x)
    return s1, s2, len(x) * s2 - s1 * s1


def layernorm(q: list[int], a: list[int], gamma: list[int], beta: list[int], shift: list[int]) -> list[int]:
    """One row: x = q << a, z = (C x - S1) / sqrt(V), y = sat8(round_shift(z * gamma + beta, shift)).

    x has at most 12 bits: q of 12 bits with a = 0, or of 8 bits with PTF exponents a in 0..3. gamma 16 bits,
    beta 32 bits, shift 0..47; z has 10 fraction bits, saturated to 16 bits. V = 0 gives beta alone.
    """
    x = [qi << ai for qi, ai in zip(q, a, strict=True)]
    s1, _, v = layernorm_stats(x)
    m, e = rsqrt(v)
    out = []
    for xi, g, b, s in zip(x, gamma, beta, shift, strict=True):
        z = saturate(round_shift((len(x) * xi - s1) * m, e - LN_Z_FRAC), 16)
        out.append(saturate(round_shift(z * g + b, s), 8))
    return out


# ---------------------------------------------------------------- softmax to 4-bit codes

RULE_MAXREL, RULE_LOG2 = int(CodeRule.MAXREL), int(CodeRule.LOG2)
EXP2_TABLE = tuple(round(2**16 * 2 ** (-f / 16)) for f in range(16))  #: 2^-f/16, 16 fraction bits
LOG2_TABLE = tuple(round(16 * math.log2(1 + (i + 0.5) / 64)) for i in range(64))  #: 4 fraction bits, 0..16
U_MAX = 255  #: u has 4 integer and 4 fraction bits


def softmax_u(x: int, row_max: int, c: int, sc: int) -> int:
    """u = (max - x) * c * 2^-sc in units of 1/16, saturated to 8 bits; x int8, c 10 bits, sc 0..15."""
    return min(round_shift((row_max - x) * c, sc), U_MAX)


def maxrel_code(u: int) -> int:
    """Octave codes relative to the row maximum, half steps in the first four octaves."""
    k, f = u >> 4, u & 15
    if k < 4:
        return 2 * k + (0 if f <= 3 else 1 if f <= 10 else 2)
    return min(4 + ((u + 8) >> 4), 15)


def softmax_sum_term(u: int) -> int:
    """2^-u with 16 fraction bits (truncated)."""
    return EXP2_TABLE[u & 15] >> (u >> 4)


def softmax_log2_sum(s: int) -> int:
    """L = log2(S) with 4 fraction bits, S >= 1 in units of 2^-16: leading one and 6 mantissa bits."""
    n = leading_one(s)
    frac = (s >> (n - 6)) & 63
    return ((n - 16) << 4) + LOG2_TABLE[frac]


def log2_code(u: int, log_sum: int) -> int:
    """q = min(round(u + L), 15)."""
    return min((u + log_sum + 8) >> 4, 15)


def softmax_codes(x: list[int], rule: int, c: int, sc: int) -> list[int]:
    """4-bit codes of one row of int8 scores (every element valid)."""
    top = max(x)
    u = [softmax_u(i, top, c, sc) for i in x]
    if rule == RULE_MAXREL:
        return [maxrel_code(i) for i in u]
    log_sum = softmax_log2_sum(sum(softmax_sum_term(i) for i in u))
    return [log2_code(i, log_sum) for i in u]


def code_weight(q: int, rule: int) -> int:
    """The weight that a code stands for: units of 2^-10 (maxrel) or 2^-15 (log2); code 15 is 0."""
    if q == 15:
        return 0
    if rule == RULE_LOG2:
        return 1 << (15 - q)
    if q < 8:
        return (3 << (8 - (q >> 1))) if q & 1 else (4 << (8 - (q >> 1)))
    return 1 << (14 - q)


# ---------------------------------------------------------------- row factor and attention x value

RECIP_TABLE = tuple(min(255, (2 * 65536 * 2 + (513 + 2 * i)) // (2 * (513 + 2 * i))) for i in range(256))
#: mantissa of 1/x for x = 1 + (i + 0.5)/256: round(65536 / (256 + i + 0.5)), clipped to 8 bits
NO_FACTOR = (128, 15)  #: used instead of the row factor by the published log2 rule


def row_factor(w: int) -> tuple[int, int]:
    """``(mant, p)`` with 1/w ~ mant * 2^-(8 + p), mant 128..255, p = index of w's leading one; (128, 0) for w = 0."""
    if w == 0:
        return 128, 0
    p = leading_one(w)
    index = (w >> (p - 8) if p >= 8 else w << (8 - p)) & 255
    return RECIP_TABLE[index], p


def attend(codes: list[int], v: list[int], rule: int, shift: int, use_factor: bool = True) -> int:
    """One output of attention x value: sum w(q_j) v_j by shifts, times the row factor, re-quantized to int8.

    y = sat8(round_shift(acc * mant, shift + p)); ``shift`` is an instruction constant, 0..31. Without the row
    factor (mant, p) = (128, 15).
    """
    acc = sum(code_weight(q, rule) * vj for q, vj in zip(codes, v, strict=True))
    mant, p = row_factor(sum(code_weight(q, rule) for q in codes)) if use_factor else NO_FACTOR
    return saturate(round_shift(acc * mant, shift + p), 8)
