"""Untrained networks brought to life: random weights rescaled layer by layer until every tensor carries signal.

A freshly initialised ViT is nearly dead (uniform attention, branches far below the residual stream), and a comparison
of dead tensors proves nothing. The targets below are in the range of trained DeiTs.
"""

import numpy as np
import torch
from torch.nn import functional as F

from ...models.images import ImageConfig, patches_to_float
from ..efficientvit.alive import revive_efficientvit
from .frontend import PREFIX_TOKENS, attention, import_vit, layer_norm

STREAM, BRANCH, SCORES, VALUES, HIDDEN, LOGITS = 0.7, 0.5, 1.8, 1.0, 1.2, 2.5  #: standard deviations aimed at


def probe_patches(image: ImageConfig, count: int = 8, seed: int = 0) -> np.ndarray:
    """Stand-in images where there are none: smooth random fields, int8 (count, patches, C * ps * ps)."""
    from ...models.images import pixels_to_patches

    g = torch.Generator().manual_seed(seed)
    size = image.image_size
    field = torch.zeros(count, image.in_chans, size, size)
    for cells in (3, 7, 15, 31):
        noise = torch.randn(count, image.in_chans, min(cells, size), min(cells, size), generator=g)
        field += F.interpolate(noise, size=(size, size), mode="bicubic") * 2 / cells**0.5
    pixels = (128 + 40 * field).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return np.stack([pixels_to_patches(p, image) for p in pixels])


@torch.inference_mode()
def bring_to_life(model: torch.nn.Module, image: ImageConfig, patches: np.ndarray | None = None, seed: int = 0):
    """Rescale ``model``'s parameters in place (float32, deterministic for a seed and images); returns the model.

    ``patches``: input bytes of a few images; without them smooth random fields serve.
    """
    patches = probe_patches(image, seed=seed) if patches is None else patches[:16]
    if type(model).__name__ == "EfficientVit":
        return revive_efficientvit(model, image, patches, seed)
    g = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith(("ls1.gamma", "ls2.gamma")):
            parameter.fill_(1)  # the branches get their size below
    vit = import_vit(model.float())  # views of the model's own parameters

    def randomise(t: torch.Tensor, std: float, mean: float = 0.0) -> None:
        t.copy_(torch.randn(t.shape, generator=g) * std + mean)

    def fit(layer, x: torch.Tensor, std: float, bias: float = 0.2) -> torch.Tensor:
        """Random weights with a few strong rows and columns, outputs of standard deviation ``std``."""
        n, k = layer.weight.shape
        randomise(layer.weight, 1.0)
        layer.weight.mul_(
            torch.exp(0.3 * torch.randn(n, 1, generator=g)) * torch.exp(0.2 * torch.randn(1, k, generator=g))
        )
        y = F.linear(x, layer.weight)
        factor = std / float((y - y.mean((0, 1))).std().clamp(min=1e-6))
        layer.weight.mul_(factor)
        randomise(layer.bias, bias * std)
        # a constant input would give a constant output of any size: the mean is taken off
        layer.bias.sub_(factor * y.mean((0, 1)) * 0.9)
        return F.linear(x, layer.weight, layer.bias)

    def norm(layer, x: torch.Tensor) -> torch.Tensor:
        layer.gamma.copy_(torch.exp(0.25 * torch.randn(layer.gamma.shape, generator=g)))
        randomise(layer.beta, 0.1)
        return layer_norm(x, layer)

    pixels = torch.from_numpy(patches_to_float(patches, image))
    x = F.unfold(pixels, image.patch_size, stride=image.patch_size).transpose(1, 2)
    fit(vit.embed, x, STREAM)
    randomise(model.pos_embed, 0.3 * STREAM)
    for name in PREFIX_TOKENS:
        if getattr(model, name, None) is not None:
            randomise(getattr(model, name), STREAM)
    vit = import_vit(model)  # the addend is a copy: take it again
    x = vit.embedding(x)
    for b in vit.blocks:
        n = norm(b.norm1, x)
        q, k = fit(b.q, n, 1.0), fit(b.k, n, 1.0)
        norms = [m for m in (b.q_norm, b.k_norm) if m is not None]
        for m in norms:
            m.gamma.copy_(torch.exp(0.25 * torch.randn(m.gamma.shape, generator=g)))
            randomise(m.beta, 0.1)
        q, k = b.normed("q", q), b.normed("k", k)
        heads = lambda t: t.unflatten(-1, (b.heads, -1)).transpose(1, 2)  # noqa: B023, E731
        s = heads(q) @ heads(k).transpose(-1, -2) * b.scale
        factor = (SCORES / float((s - s.mean(-1, keepdim=True)).std().clamp(min=1e-6))) ** 0.5
        if norms:  # one of the two sets the scores' size alone
            power = 2 / len(norms)
            for m in norms:
                m.gamma.mul_(factor**power)
                m.beta.mul_(factor**power)
        else:
            for layer in (b.q, b.k):
                layer.weight.mul_(factor)
                layer.bias.mul_(factor)
        v = fit(b.v, n, VALUES)
        a = attention(q * factor, k * factor, v, b.heads, b.scale)
        x = x + fit(b.proj, a, BRANCH)
        hidden = b.activation(fit(b.fc1, norm(b.norm2, x), HIDDEN))
        x = x + fit(b.fc2, hidden, BRANCH)
    if vit.pool != "token":
        norm(vit.norm, x)  # its constants
        fit(vit.head, vit.pooled(x), LOGITS)
        return model.eval()
    n = norm(vit.norm, x[:, :2])
    fit(vit.head, n[:, :1], LOGITS)
    if vit.head_dist is not None:
        fit(vit.head_dist, n[:, 1:], LOGITS)
    return model.eval()
