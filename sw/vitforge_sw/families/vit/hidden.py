"""Steps of an MLP's hidden tensor by what fc2 makes of the errors; massive units divided and split.

One unit that reaches 200 where the others end at 5 would set the steps of the whole tensor. Three means treat it, none
of which costs hardware:

- an exponent and a zero-point of its own, the exponent folded into its column of fc2;
- m GELU(x / m), m a power of two, where x would not fit GELU's 12-bit input: exact far from 0, which is where a massive
  unit is when it fires; a least-squares factor goes into its column;
- n copies with the column / n, so that its step does not set the scales of fc2's rows. The copies' thresholds are
  shifted by fractions of a step, so that their sum has n times finer steps. They take one word of further units.
"""

import dataclasses

import torch
from torch.nn import functional as F

from ...quant.scales import pot, quantize, scaled
from .frontend import Affine
from .hidden_cost import HiddenCost
from .outliers import outliers, typical

GELU_LOW = -0.17  #: GELU's minimum is -0.16997
P_TOP = 2047  #: largest 12-bit GELU input
WORD = 16  #: units by which a layer may grow: one word of channels


@dataclasses.dataclass
class Hidden:
    """The integer hidden layer: its unit i of F' stands for the float unit ``unit[i]``."""

    unit: torch.Tensor  #: (F',) index
    divide: torch.Tensor  #: int32 (F',): log2 m
    copies: torch.Tensor  #: (F',): n
    dither: torch.Tensor  #: (F',) added to fc1's bias, zero sum over the copies of a unit
    gain: torch.Tensor  #: (F',) least-squares factors, 1 where m = 1
    exponent: torch.Tensor  #: int32 (F',): steps of the stored output, which is GELU(x / m)
    gelu_exp: int  #: fraction bits of GELU's input
    notes: list[str]  #: what was found and done, one line a unit

    def fc1(self, layer: Affine) -> Affine:
        scale = pot(-self.divide)
        return Affine(layer.weight[self.unit] * scale[:, None], layer.bias[self.unit] * scale + self.dither)

    def fc2(self, layer: Affine) -> Affine:
        return Affine(layer.weight[:, self.unit] * (pot(self.divide) * self.gain / self.copies), layer.bias)


def _input_scale(
    rows: torch.Tensor, w: torch.Tensor, top: torch.Tensor, power: torch.Tensor, finest: int
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """(fraction bits of GELU's input, log2 m, gains) with the least error behind fc2, column power (F,)."""
    want = F.gelu(rows)
    best = None
    for g in range(3, min(10, finest) + 1):
        coded = lambda x: F.gelu(quantize(x, -g, -P_TOP - 1, P_TOP) * 2.0**-g)  # noqa: B023, E731
        error = w @ (coded(rows) - want).square_()
        divide = torch.ceil(torch.log2(top * 2.0**g / P_TOP).clamp(min=0)).int()
        gain = torch.ones_like(top)
        for c in torch.nonzero(divide).flatten().tolist():
            got = coded(rows[:, c] * 2.0 ** -int(divide[c])) * 2.0 ** int(divide[c])
            k = float((w * got * want[:, c]).sum() / (w * got * got).sum().clamp(min=1e-30))
            k = k if 0.8 < k < 1.25 else 1.0
            divided = float((w * (k * got - want[:, c]).square()).sum())
            if divided < float(error[c]):
                error[c], gain[c] = divided, k
            else:
                divide[c] = 0
        cost = float(error @ power)
        if best is None or cost < best[0]:
            best = (cost, g, divide, gain)
    if best is None:
        raise ValueError(f"weights are too coarse for GELU's input (exponent {-finest}, at most -3)")
    return best[1:]


def _split(cost: HiddenCost, e: torch.Tensor, n: torch.Tensor, fit: torch.Tensor, massive: torch.Tensor) -> None:
    """One word of copies, each where it helps most (in place); a split unit is never clipped: e is at least ``fit``."""
    for _ in range(WORD):
        tries = []
        worst = (cost.own(e, n)[0] + cost.columns(e, n).amax(0)).topk(2).indices
        for c in {*massive.tolist(), *worst.tolist()}:
            more = n.clone()
            more[c] += 1
            for d in (-1, 0, 1):
                moved = e.clone()
                moved[c] = min(max(int(e[c]) + d, int(fit[c])), cost.last)
                tries.append((cost.total(moved, more), c, int(moved[c])))
        _, c, at = min(tries)
        n[c] += 1
        e[c] = at


def plan_hidden(
    x: torch.Tensor,
    w: torch.Tensor,
    rows: torch.Tensor,
    rows_w: torch.Tensor,
    weight: torch.Tensor,
    wbits: int,
    finest: int,
) -> Hidden:
    """The plan for GELU inputs x (R, F) of all calibration tokens, weights w (R,); ``rows``: some of them, searched.

    ``weight`` (N, F) and ``wbits`` are fc2's; ``finest``: the most fraction bits that fc1 allows GELU's input.
    """
    top = x.amax(0)  # GELU of the largest input is that input
    g, divide, gain = _input_scale(rows, rows_w, top.clamp(min=2.0**-20), weight.square().sum(0), finest)
    m = pot(divide)
    h = F.gelu(x / m).mul_(m).sub_(GELU_LOW * m)
    span = top.clamp(min=0) - GELU_LOW * m
    massive = outliers(span)
    ordinary = torch.ones_like(span, dtype=torch.bool)
    ordinary[massive] = False
    fit = torch.ceil(torch.log2(span / 255)).int()
    first, last = int(fit[ordinary].max()) - 3, max(int(fit.max()), int(fit[ordinary].max()) + 1)
    fit.clamp_(min=first)
    variance = (w @ h.square() - (w @ h).square()).clamp(min=0)
    errors = [w @ scaled(quantize(h, e, 0, 255), e).sub_(h).square_() for e in range(first, last + 1)]
    cost = HiddenCost(torch.stack(errors), first, variance, weight, (1 << wbits - 1) - 1)
    n = torch.ones_like(span)
    starts = [torch.full_like(fit, e) for e in range(first, last + 1)]
    base = min(starts, key=lambda e: float(cost.own(e, n)[0][ordinary].sum()))
    # never finer than the ordinary units' step: a unit that stays small on these images may fire on others
    e = cost.descend(torch.where(ordinary, base, torch.maximum(base, fit)), n, base)
    if len(massive):
        _split(cost, e, n, fit, massive)
        e = cost.descend(e, n, torch.where(n > 1, fit, base))
    ratio = span / typical(span)
    notes = [
        f"unit {c}: largest {float(span[c]):.4g}, {float(ratio[c]):.1f} times what most reach; input / {int(m[c])}, "
        f"steps 2^{int(e[c])} (most 2^{int(base[0])}), copies {int(n[c])}"
        for c in massive.tolist()
    ]
    more = [torch.full((int(n[c]) - 1,), int(c)) for c in torch.nonzero(n > 1).flatten()]
    unit = torch.cat([torch.arange(len(n)), *more])
    stored, copies = (e - divide)[unit], n[unit]
    turn = torch.tensor([int((unit[:i] == c).sum()) for i, c in enumerate(unit.tolist())])
    dither = (turn - (copies - 1) / 2) / copies * pot(stored)
    return Hidden(unit, divide[unit], copies, dither, gain[unit], stored, g, notes)
