"""The integer contract of the EfficientViT family (Trio-ViT's units), on plain Python ints.

Rounding, saturation, reciprocal square root and the mantissa reciprocal are those of :mod:`.arith`. Golden model,
emulator and RTL units are tested against these functions.
"""

from typing import Any

from .arith import LN_Z_FRAC, layernorm_stats, leading_one, round_shift, row_factor, rsqrt, saturate
from .enums import P_BITS, Act, DivisionRule

M1_BITS = 16  #: dyadic multiplier, 1 <= m1 < 2^16
S1_MAX = 47  #: shift behind it
Q6_MAX = 4095  #: Hardswish's upper clip: 12 bits unsigned, h = p * clip(...) has 24 bits

ACT_IDENTITY, ACT_HARDSWISH = int(Act.IDENTITY), int(Act.HARDSWISH)

# ---------------------------------------------------------------- post-processing of an engine's result


def dyadic(acc: int, bias: int, m1: int, s1: int) -> int:
    """p = sat12(round_shift((acc + bias) * m1, s1)): exact, |acc + bias| < 2^26, one 27 x 18 multiplier."""
    return saturate(round_shift((acc + bias) * m1, s1), P_BITS)


def hardswish(p: int, q3: int, q6: int) -> int:
    """p * clip(p + q3, 0, q6), q3 = 3 steps and q6 = 6 steps of p's scale s: Hardswish in units of s^2 / 6."""
    return p * max(0, min(q6, p + q3))


def activation(p: int, act: int, q3: int, q6: int) -> int:
    """``act`` selects identity or Hardswish."""
    return hardswish(p, q3, q6) if act == ACT_HARDSWISH else p


def postprocess(
    acc: int,
    *,
    bias: int = 0,
    m1: int = 1,
    s1: int = 0,
    act: int = ACT_IDENTITY,
    q3: int = 0,
    q6: int = 0,
    m2: int = 1,
    eh: int = 0,
    residual: int = 0,
    er: int = 0,
    s2: int = 0,
    offset: int = 0,
    out_bits: int = 8,
    narrow: bool = False,
) -> int:
    """One output of an engine, all constants per channel but ``act``, ``q3``, ``q6`` (per instruction).

    p = dyadic(acc);  h = act(p)
    y = sat(round_shift((h * m2 << eh) + (residual << er), s2) + offset)      8 or 12 bits

    ``m2`` is 1 in hardware; other values serve the software ablation with exact migration factors. With m1 = 1 and
    the identity this is :func:`.arith.postprocess`. ``narrow``: -127..127 for operands of activation products.
    """
    h = activation(dyadic(acc, bias, m1, s1), act, q3, q6)
    return saturate(round_shift((h * m2 << eh) + (residual << er), s2) + offset, out_bits, narrow)


# ---------------------------------------------------------------- depthwise convolution


def conv_size(size: int, stride: int) -> int:
    """Output height or width of an odd kernel k padded by k // 2."""
    return (size - 1) // stride + 1


def depthwise(x: list[list[int]], weight: list[list[int]], row: int, col: int, stride: int, pad: int) -> int:
    """Accumulator of output pixel (row, col) of one channel: x[height][width], weight[k][k], k odd.

    Taps outside the map read ``pad``, the input's zero-point; the zero-point itself is corrected in the bias.
    """
    k, acc = len(weight), 0
    for i in range(k):
        for j in range(k):
            r, c = row * stride + i - k // 2, col * stride + j - k // 2
            inside = 0 <= r < len(x) and 0 <= c < len(x[0])
            acc += weight[i][j] * (x[r][c] if inside else pad)
    return acc


def pool(x: list[int], **post: Any) -> int:
    """Average pooling of one channel: the exact sum, then the post-processing with m1 * 2^-s1 ~ 1 / N folded in."""
    return postprocess(sum(x), **post)


# ---------------------------------------------------------------- linear attention, one head


def relu(x: int) -> int:
    """q and k as the engines read them: 0..127."""
    return max(x, 0)


def key_sum(k: list[int]) -> int:
    """Adder tree: sum over tokens of one channel of K (27 bits: up to 2^19 tokens)."""
    return sum(relu(i) for i in k)


def key_value(k: list[int], v: list[int]) -> int:
    """One element of Z = K^T V: sum over tokens of relu(k) * v, v in -127..127."""
    return sum(relu(i) * j for i, j in zip(k, v, strict=True))


def query_product(q: list[int], column: list[int]) -> int:
    """Dividend (a column of the int8 Z) or divisor (the int8 Ksum) of one token: it stays an accumulator."""
    return sum(relu(i) * j for i, j in zip(q, column, strict=True))


# ---------------------------------------------------------------- division

DIV_LOG2, DIV_RECIPROCAL = int(DivisionRule.LOG2), int(DivisionRule.RECIPROCAL)
CODE_MAX = 15  #: 4-bit codes of divisors


def divisor_log2(d: int) -> int:
    """r = i + bit(i - 1), i the leading one of d > 0: rounds up at 1.5 * 2^i; 0110_0011 -> 7."""
    i = leading_one(d)
    return i + (d >> (i - 1) & 1 if i else 0)


def divisor_code(d: int, lo: int) -> int:
    """q = clip(r - lo, 0, 15) of d > 0, ``lo`` a constant of the layer."""
    return max(0, min(CODE_MAX, divisor_log2(d) - lo))


def divisor_factor(d: int, rule: int, lo: int = 0) -> tuple[int, int]:
    """(mant, p) by which a dividend is multiplied and shifted: 8 bits and 5 bits; (0, 0) for d = 0, so the output is 0.

    ``DIV_RECIPROCAL``: 1/d ~ mant * 2^-(8 + p), :func:`.arith.row_factor`. ``DIV_LOG2``: (128, lo + q), a shift
    alone; the code stands for 8/9 * 2^-r, a gain that belongs to the consumer's scale.
    """
    if d == 0:
        return 0, 0
    return row_factor(d) if rule == DIV_RECIPROCAL else (128, lo + divisor_code(d, lo))


def divide(dividend: int, mant: int, p: int, shift: int) -> int:
    """y = sat8n(round_shift(dividend * mant, p + shift)): the post-processing with m1 and s1 of the token.

    ``shift`` 0..31 per channel. For the log2 rule the same as round_shift(dividend, q + lo + shift - 7).
    """
    return saturate(round_shift(dividend * mant, p + shift), 8, narrow=True)


def divide_exact(dividend: int, divisor: int, shift: int) -> int:
    """Software mode to compare with: dividend / divisor * 2^(8 - shift), one rounding (ties toward +inf); 0 / 0 = 0."""
    if divisor == 0:
        return 0
    den = divisor << shift
    return saturate((2 * (dividend << 8) + den) // (2 * den), 8, narrow=True)


def divisor_uniform(d: int, m1: int, s1: int) -> int:
    """Software mode: the divisor on an 8-bit uniform grid, 0..255."""
    return min(255, round_shift(d * m1, s1))


# ---------------------------------------------------------------- LayerNorm with Hardswish (classifier)


def layernorm_hardswish(
    x: list[int], gamma: list[int], beta: list[int], shift: list[int], *, q3: int, q6: int, s2: int, offset: int
) -> list[int]:
    """One row of 12-bit integers: z as in :func:`.arith.layernorm`, p = sat12(round_shift(z * gamma + beta, shift)),
    y = sat8(round_shift(hardswish(p), s2) + offset). V = 0 gives p = beta alone."""
    s1, _, v = layernorm_stats(x)
    m, e = rsqrt(v)
    out = []
    for xi, g, b, s in zip(x, gamma, beta, shift, strict=True):
        z = saturate(round_shift((len(x) * xi - s1) * m, e - LN_Z_FRAC), 16)
        p = saturate(round_shift(z * g + b, s), P_BITS)
        out.append(saturate(round_shift(hardswish(p, q3, q6), s2) + offset, 8))
    return out
