"""Real-valued steps of attention outputs: folded into the rows of v and the columns of proj, free in the hardware.

The attention output of a channel is an average of v's, so it takes finer steps; how much finer is a shift per head, and
what is left to choose is one real factor per channel.
"""

import torch

MARGIN = 1.05  #: room above the largest attention output of the calibration images
SPREAD = 0.05  #: part of a value's rounding power that is left after averaging


def value_steps(v: torch.Tensor, out: torch.Tensor, proj: torch.Tensor, heads: int) -> tuple[torch.Tensor, list[int]]:
    """(steps of the attention output (C,), per head how many octaves finer they are than v's), least noise behind proj.

    ``v``, ``out`` (B, T, C) float values and attention outputs, ``proj`` (N, C).
    """
    top_v, top_out = (x.abs().amax((0, 1)).clamp(min=1e-6).view(heads, -1) for x in (v, out))
    power = proj.square().sum(0).view(heads, -1)
    steps, finer = [], []
    for h in range(heads):
        best = None
        for k in range(5):
            step = torch.maximum(top_out[h] * MARGIN, top_v[h] * 2.0**-k) / 127
            cost = float(power[h] @ step.square()) * (1 + SPREAD * 4**k)
            if best is None or cost < best[0]:
                best = (cost, step, k)
        steps.append(best[1])
        finer.append(best[2])
    return torch.cat(steps), finer
