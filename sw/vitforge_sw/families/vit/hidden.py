"""Steps of an MLP's hidden tensor, chosen on its ordinary units; massive units cut into segments.

One unit that reaches 200 where the others end at 5 would set the steps of the whole tensor, of GELU's input and,
through its column, of fc2's weights. Instead it becomes several units with the same column,

    GELU(x) = min(GELU(x), R) + sum over j of m min(GELU((x - t_j) / m), R),    t_j = R + j m R

exact up to R, to 0.17 m around each t_j. R is what GELU's 12-bit input and an 8-bit output in fine steps just hold: the
clipping is the machine's saturation. m is 1 where one word of further units is enough for all segments, else a power of
two. The segments' outputs have an exponent and a zero-point of their own.
"""

import dataclasses
import math

import torch
from torch.nn import functional as F

from ...quant.scales import pot, quantize, scaled
from .frontend import Affine
from .outliers import outliers, typical

GELU_LOW = -0.17  #: GELU's minimum is -0.16997
P_TOP = 2047  #: largest 12-bit GELU input
WORD = 16  #: units by which a layer may grow: one word of channels
STEP = 3  #: log2 of a segment's step over that of GELU's input: 255 steps of 8 are just below 2047


@dataclasses.dataclass
class Hidden:
    """The integer hidden layer: its unit i of F' stands for the float unit ``unit[i]``."""

    unit: torch.Tensor  #: (F',) index
    divide: torch.Tensor  #: int32 (F',): log2 m
    threshold: torch.Tensor  #: (F',): t, where its segment begins
    exponent: torch.Tensor  #: int32 (F',): steps of the stored output, which is GELU((x - t) / m)
    gelu_exp: int  #: fraction bits of GELU's input
    notes: list[str]  #: what was found and done, one line a massive unit

    def fc1(self, layer: Affine) -> Affine:
        scale = pot(-self.divide)
        bias = layer.bias[self.unit] - self.threshold
        return Affine(layer.weight[self.unit] * scale[:, None], bias * scale)

    def fc2(self, layer: Affine) -> Affine:
        return Affine(layer.weight[:, self.unit] * pot(self.divide), layer.bias)


def zero_point(e: torch.Tensor, low: float = GELU_LOW) -> torch.Tensor:
    """Zero-points of outputs from ``low`` in steps of 2^e.

    Rounded up: the minimum lands on -128 or -127: its plateau is exact and never clipped (post.clipped_ends).
    """
    return torch.ceil(-128 - scaled(torch.tensor(low), -e)).int()


def _input_bits(rows: torch.Tensor, w: torch.Tensor, power: torch.Tensor, finest: int) -> int:
    """Fraction bits of GELU's input with the least error behind fc2 for inputs (R, F) and column powers (F,)."""
    want, errors = F.gelu(rows), {}
    for g in range(3, min(10, finest) + 1):
        got = F.gelu(quantize(rows, -g, -P_TOP - 1, P_TOP) * 2.0**-g)
        errors[g] = float(w @ got.sub_(want).square_() @ power)
    return min(errors, key=errors.get)


def _output_exponent(h: torch.Tensor, w: torch.Tensor, power: torch.Tensor) -> int:
    """The exponent of GELU's outputs h (R, F) from ``GELU_LOW`` on with the least error behind fc2."""
    h = h - GELU_LOW
    first = int(torch.ceil(torch.log2(h.max() / 255)))
    errors = {}
    for e in range(first - 2, first + 1):
        errors[e] = float(w @ scaled(quantize(h, e, 0, 255), e).sub_(h).square_() @ power)
    return min(errors, key=errors.get)


def _segments(top: torch.Tensor, finest: int, coarsest: int) -> tuple[int, float, list[int], list[int]]:
    """(exponent, R, log2 m, further segments) for massive units that reach ``top``; together one word of segments.

    The finest exponent for which a word is enough: the segments' columns in fc2 grow with it. Beyond ``coarsest``,
    which GELU's input holds, m grows.
    """

    def need(i: int) -> int:
        return max(0, math.ceil((float(top[i]) / reach - 1) * 2.0 ** -divide[i]))

    units, divide = range(len(top)), [0] * len(top)
    for e in range(min(finest, coarsest), coarsest + 1):
        reach = float(127 - zero_point(torch.tensor(e, dtype=torch.int32))) * 2.0**e
        if sum(map(need, units)) <= WORD:
            break
    while sum(map(need, units)) > WORD:
        divide[max(units, key=need)] += 1
    n = [need(i) for i in units]
    for _ in range(WORD - sum(n)):  # what is left is room for other images
        n[min(units, key=lambda i: (n[i] + 1) * 2.0 ** divide[i] * reach / float(top[i]))] += 1
    return e, reach, divide, n


def plan_hidden(
    x: torch.Tensor, w: torch.Tensor, rows: torch.Tensor, rows_w: torch.Tensor, weight: torch.Tensor, finest: int
) -> Hidden:
    """The plan for GELU inputs x (R, F) of all calibration tokens, weights w (R,); ``rows``: some of them, searched.

    ``weight`` (N, F) is fc2's; ``finest`` (at least 3): the most fraction bits that fc1 allows GELU's input.
    """
    top = x.amax(0).clamp(min=0) - GELU_LOW  # GELU of the largest input is that input
    massive = outliers(top)
    ordinary = torch.ones_like(top, dtype=torch.bool)
    ordinary[massive] = False
    power = weight.square().sum(0)[ordinary]
    g = _input_bits(rows[:, ordinary], rows_w, power, finest)
    base = _output_exponent(F.gelu(x[:, ordinary]), w, power)
    unit, threshold = torch.arange(len(top)), torch.zeros_like(top)
    divide, exponent = (torch.full((len(top),), v, dtype=torch.int32) for v in (0, base))
    notes = []
    if len(massive):
        e, reach, shifts, counts = _segments(top[massive], base, STEP - g)
        exponent[massive] = e
        for c, m, n in zip(massive.tolist(), shifts, counts, strict=True):
            unit = torch.cat([unit, torch.full((n,), c)])
            divide = torch.cat([divide, torch.full((n,), m, dtype=torch.int32)])
            threshold = torch.cat([threshold, reach + torch.arange(n) * (reach * 2.0**m)])
            ratio = float(top[c] / typical(top))
            notes.append(
                f"unit {c}: largest {float(top[c]):.4g}, {ratio:.1f} times what most reach; segments: "
                f"1 of {reach:.4g}, {n} of {reach * 2.0**m:.4g}, steps 2^{e} (others 2^{base})"
            )
    return Hidden(unit, divide, threshold, exponent[unit], g, notes)
