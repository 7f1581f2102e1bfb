"""How sensitive the logits are: one layer's weights, or one activation tensor, rounded alone, the rest float."""

from collections.abc import Iterator

import torch

from ..frontend import Affine, FloatViT
from ..simulated.grids import grid, weight_grid
from ..walk import Tap, walk, weight_layers, with_layers


class One(Tap):
    """Rounds the tensor of one site to ``bits`` over its own range (asymmetric, one scale)."""

    def __init__(self, site: str, bits: int):
        self.site, self.bits = site, bits

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        return grid(x.min(), x.max(), self.bits, False)(x) if site == self.site else x


@torch.inference_mode()
def sensitivities(vit: FloatViT, patches: torch.Tensor, names: list[str], bits: int = 8) -> Iterator[tuple]:
    """(kind, site, logit SQNR dB): kind weights or activations, ``patches`` normalised."""
    want = walk(vit, patches)

    def db(got: torch.Tensor) -> float:
        noise = (got - want).square().sum(1).clamp(min=1e-30)
        return float((10 * torch.log10(want.square().sum(1) / noise)).mean())

    for name, layer in weight_layers(vit).items():
        rounded = Affine(weight_grid(layer.weight, bits, "channel")(layer.weight), layer.bias)
        yield "weights", name, db(walk(with_layers(vit, {name: rounded}), patches))
    for site in names:
        yield "activations", site, db(walk(vit, patches, One(site, bits)))
