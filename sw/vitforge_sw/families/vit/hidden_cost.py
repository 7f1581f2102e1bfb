"""The error power behind fc2 as a function of the hidden units' steps and copies, and its descent."""

import torch

from ...quant.scales import pot


class HiddenCost:
    """Exponents e, int32 (F,), and copies n (F,) to error power.

    ``error`` (E, F): weighted squared rounding and clipping error of each unit's output for the exponents ``first`` to
    ``last``; ``variance`` (F,) of the outputs; ``weight`` (N, F) of fc2, its integers at most ``qmax``. Two parts: each
    unit's error times the power of its column; fc2's own rounding, whose steps follow a row's largest column times its
    unit's step, times the power of the stored integers.
    """

    def __init__(self, error: torch.Tensor, first: int, variance: torch.Tensor, weight: torch.Tensor, qmax: int):
        self.error, self.first, self.last = error, first, first + len(error) - 1
        self.variance, self.weight, self.power, self.qmax = variance, weight.abs(), weight.square().sum(0), qmax

    def columns(self, e: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """|fc2| for the stored integers, (N, F)."""
        return self.weight * (pot(e) / n)

    def own(self, e: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(error behind fc2, power of the stored integers) per unit; n dithered copies round n times finer."""
        error = self.error.gather(0, (e - self.first)[None].long())[0] / n.square()
        return error * self.power, n * self.variance * pot(-2 * e)

    def rounding(self, largest: torch.Tensor) -> torch.Tensor:
        """fc2's rounding error per unit power of its inputs, from each row's largest column (N, ...)."""
        return largest.square().sum(0) / (12 * self.qmax**2)

    def total(self, e: torch.Tensor, n: torch.Tensor) -> float:
        own, stored = self.own(e, n)
        return float(own.sum() + self.rounding(self.columns(e, n).amax(1)) * stored.sum())

    def descend(self, e: torch.Tensor, n: torch.Tensor, least: torch.Tensor, steps: int = 200) -> torch.Tensor:
        """Exponents, at least ``least``: each time the one unit moves by one octave that lowers the cost most."""
        e = e.clone()
        units = torch.arange(len(e))
        for _ in range(steps):
            columns = self.columns(e, n)
            (top, second), index = columns.topk(2, 1).values.T, columns.argmax(1)
            rest = torch.where(index[:, None] == units, second[:, None], top[:, None])  # the largest of the others
            own, stored = self.own(e, n)
            now, all_stored = self.rounding(top), stored.sum()
            best = (0.0, 0, 0)
            for d in (-1, 1):
                moved = torch.maximum((e + d).clamp(max=self.last), least)
                own_d, stored_d = self.own(moved, n)
                changed = self.rounding(torch.maximum(rest, self.columns(moved, n)))
                gain = own_d - own + changed * (all_stored - stored + stored_d) - now * all_stored
                value, at = gain.min(0)
                best = min(best, (float(value), int(at), int(moved[at])))
            if best[0] >= -1e-6 * float(own.sum() + now * all_stored):
                break
            e[best[1]] = best[2]
        return e
