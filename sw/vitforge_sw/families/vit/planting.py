"""Massive activations put into a model on purpose, to see whether they are found and treated wherever they are."""

import copy

import numpy as np
import torch

from ...models.images import ImageConfig, patches_to_float
from .outliers import typical

#: options of the scheme ``vitforge`` that switch the treatment off
UNTREATED = dict(rotation="none", hidden_steps="tensor", relative_errors=False)


@torch.inference_mode()
def plant(model: torch.nn.Module, image: ImageConfig, patches: np.ndarray, seed: int) -> tuple[torch.nn.Module, dict]:
    """(another model, {block, unit, channel, factors}): a unit that fires on a few patches and throws them into one
    channel of the residual stream.

    Block, unit, channel and factors are drawn from ``seed``. On ``patches`` (input bytes) the unit fires on 1 to 2 % of
    the patches, up to 20 to 60 times what most units reach, and not on the class token; the channel then reaches 20 to
    40 times what most do.
    """
    g = torch.Generator().manual_seed(seed)
    draw = lambda lo, hi: float(lo + (hi - lo) * torch.rand((), generator=g))  # noqa: E731
    model = copy.deepcopy(model)
    index = int(torch.randint(1, len(model.blocks) - 1, (), generator=g))
    mlp = model.blocks[index].mlp
    taken = {}
    hooks = [
        mlp.fc1.register_forward_hook(lambda m, x, y: taken.update(fc1=y)),
        model.blocks[index].register_forward_hook(lambda m, x, y: taken.update(stream=y)),
    ]
    model(torch.from_numpy(patches_to_float(patches, image)))
    for hook in hooks:
        hook.remove()
    x, stream = taken["fc1"], taken["stream"]
    few = torch.quantile(x[:, 1:].flatten(0, 1), 1 - draw(0.01, 0.02), dim=0)  # (F,)
    quiet = torch.nonzero((x[:, 0].amax(0) < few) & (x.amax((0, 1)) > few + 1e-3)).flatten()
    unit = int(quiet[int(torch.randint(len(quiet), (), generator=g))])
    channel = int(torch.randint(stream.shape[-1], (), generator=g))
    peak = float(x[..., unit].max() - few[unit])
    unit_factor, stream_factor = draw(20, 60), draw(20, 40)
    scale = unit_factor * float(typical(torch.nn.functional.gelu(x).amax((0, 1)))) / peak
    mlp.fc1.weight[unit] *= scale
    mlp.fc1.bias[unit] = (mlp.fc1.bias[unit] - few[unit]) * scale
    mlp.fc2.weight[:, unit] /= scale
    top = (stream - stream.mean(-1, keepdim=True)).abs().amax((0, 1))
    mlp.fc2.weight[channel, unit] = stream_factor * float(typical(top)) / (scale * peak)
    return model, dict(block=index, unit=unit, channel=channel, factors=(unit_factor, stream_factor))
