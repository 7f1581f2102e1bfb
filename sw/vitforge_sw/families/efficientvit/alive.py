"""An untrained EfficientViT with signal: weights rescaled and BatchNorm statistics taken layer by layer from images."""

import numpy as np
import torch
from torch import nn

from ...models.images import ImageConfig, patches_to_float

SPREAD = 1.0  #: standard deviation aimed at behind layers without BatchNorm
BRANCH = 0.5  #: BatchNorm's gain on residual branches


@torch.inference_mode()
def revive_efficientvit(model: nn.Module, image: ImageConfig, patches: np.ndarray, seed: int = 0) -> nn.Module:
    """Rescale in place, in one forward pass over ``patches`` (input bytes); deterministic for a seed and images."""
    g = torch.Generator().manual_seed(seed)

    def randomise(t: torch.Tensor, std: float, mean: float = 0.0) -> None:
        t.copy_(torch.randn(t.shape, generator=g) * std + mean)

    def batchnorm(name: str):
        def before(norm: nn.BatchNorm2d, inputs) -> None:
            x = inputs[0]
            norm.running_mean.copy_(x.mean((0, 2, 3)))
            norm.running_var.copy_(x.var((0, 2, 3)).clamp(min=1e-6))
            norm.weight.copy_(torch.exp(0.25 * torch.randn(norm.weight.shape, generator=g)))
            norm.weight.mul_(BRANCH if "point_conv" in name or "proj" in name else 1.0)
            randomise(norm.bias, 0.3)

        return before

    def plain(layer: nn.Module, inputs, y: torch.Tensor) -> torch.Tensor:
        if layer.bias is not None:
            y = y - (layer.bias if y.ndim == 2 else layer.bias[:, None, None])
            randomise(layer.bias, 0.2 * SPREAD)
        factor = SPREAD / float(y.std().clamp(min=1e-6))
        layer.weight.mul_(factor)
        y = y * factor
        return y if layer.bias is None else y + (layer.bias if y.ndim == 2 else layer.bias[:, None, None])

    def layernorm(norm: nn.LayerNorm, inputs) -> None:
        randomise(norm.weight, 0.2, 1.0)
        randomise(norm.bias, 0.3)

    handles, normed = [], set()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            normed.add(name.removesuffix("norm") + "conv")
            handles.append(module.register_forward_pre_hook(batchnorm(name)))
        elif isinstance(module, nn.LayerNorm):
            handles.append(module.register_forward_pre_hook(layernorm))
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and name not in normed:
            handles.append(module.register_forward_hook(plain))
    model.eval()(torch.from_numpy(patches_to_float(patches, image)))
    for handle in handles:
        handle.remove()
    return model
