"""What fewer bits in one layer cost: the noise of the logits (measured), or trace of the Hessian x rounding error."""

import torch
from torch.nn import functional as F

from ....quant.scales import pot
from ....quant.weights import quantize_weight
from ..frontend import Affine, FloatViT
from ..walk import Tap, walk, walk_block, walk_embed, walk_head, weight_layers, with_layers
from .search import free


class Moments(Tap):
    """Means and covariances (K, K) of every weight layer's inputs over the images that pass."""

    def __init__(self):
        self.sums: dict[str, list] = {}

    def linear(self, site: str, x: torch.Tensor, layer: Affine) -> torch.Tensor:
        rows = x.flatten(0, -2).double()
        found = self.sums.setdefault(site, [0, 0.0, 0.0])
        found[0] += len(rows)
        found[1] = found[1] + rows.sum(0)
        found[2] = found[2] + rows.T @ rows
        return super().linear(site, x, layer)

    def of(self, site: str) -> tuple[torch.Tensor, torch.Tensor]:
        count, total, square = self.sums[site]
        mean = total / count
        return mean.float(), (square / count - torch.outer(mean, mean)).float()


def rounded(layer: Affine, mean: torch.Tensor, moment: torch.Tensor, bits: int) -> tuple[Affine, float]:
    """A layer with weights of ``bits`` (GPTQ, scales 2^e per row), its bias corrected for the inputs' mean; and its
    outputs' error, the sum of their variances."""
    q, e = quantize_weight(layer.weight, moment, bits, "channel", "gptq")
    weight = q * pot(e)[:, None]
    error = weight - layer.weight
    return Affine(weight, layer.bias - error @ mean), float(((error @ moment) * error).sum())


class Single:
    """What fewer bits in one layer alone do to the logits.

    ``fit``: normalised patches that rounding is fitted to, ``held``: others that the noise is measured on, at the
    fewest bits; it falls with more of them as the layer's own error does (small errors pass in proportion).
    """

    @torch.inference_mode()
    def __init__(self, vit: FloatViT, fit: torch.Tensor, held: torch.Tensor, widths: tuple[int, ...] = (4,)):
        self.vit, self.widths, self.layers = vit, widths, weight_layers(vit)
        self.moments = Moments()
        for part in fit.split(8):
            walk(vit, part, self.moments)
        self.stream = [walk_embed(vit, held, tap := Tap())]
        for i, b in enumerate(vit.blocks):
            self.stream.append(walk_block(i, b, self.stream[-1], tap))
        self.want = walk_head(vit, self.stream[-1], tap)

    @torch.inference_mode()
    def noise(self, name: str) -> dict[int, float]:
        """{bits: noise power over signal power of the logits} with layer ``name`` at ``bits``."""
        fewest, moments, tap = min(self.widths), self.moments.of(name), Tap()
        layer, error = rounded(self.layers[name], *moments, fewest)
        other = with_layers(self.vit, {name: layer})
        first = int(name.split(".")[1])
        x = self.stream[first]
        for i in range(first, len(self.vit.blocks)):
            x = walk_block(i, other.blocks[i], x, tap)
        got = walk_head(other, x, tap)
        found = float(((got - self.want).square().sum(1) / self.want.square().sum(1)).mean())
        own = {b: rounded(self.layers[name], *moments, b)[1] for b in self.widths if b > fewest}
        more = {b: e / error if error else 0.0 for b, e in own.items()}  # weights may be exact with the fewest bits
        return {fewest: found} | {b: found * part for b, part in more.items()}


def hessian_traces(vit: FloatViT, patches: torch.Tensor, vectors: int = 8, seed: int = 0) -> dict[str, float]:
    """Hutchinson's estimate of tr H of each layer's weights, H the Hessian of the cross-entropy with the model's own
    answers as labels; v' H v for Rademacher v over all layers at once, of which each layer takes its part."""
    generator = torch.Generator().manual_seed(seed)
    layers = weight_layers(vit)
    names = free(layers)
    weights = [layers[name].weight.clone().requires_grad_() for name in names]
    model = with_layers(vit, {n: Affine(w, layers[n].bias) for n, w in zip(names, weights, strict=True)})
    total = torch.zeros(len(names), dtype=torch.float64)
    with torch.enable_grad():
        logits = walk(model, patches)
        loss = F.cross_entropy(logits, logits.detach().argmax(1))
        grads = torch.autograd.grad(loss, weights, create_graph=True)
        for k in range(vectors):
            v = [torch.randint(0, 2, w.shape, generator=generator).float() * 2 - 1 for w in weights]
            product = torch.autograd.grad(grads, weights, v, retain_graph=k + 1 < vectors)
            total += torch.tensor([float((a * b).sum()) for a, b in zip(v, product, strict=True)]).double()
    return dict(zip(names, (total / vectors).tolist(), strict=True))


def omegas(vit: FloatViT, traces: dict[str, float], widths: tuple[int, ...] = (4,)) -> dict[str, dict[int, float]]:
    """P2-ViT's Omega, {layer: {bits: value}}: mean trace x ||W - Q(W)||^2, Q to nearest. Negative traces (saddle, few
    vectors) count as 0."""
    layers = weight_layers(vit)

    def omega(w: torch.Tensor, trace: float, bits: int) -> float:
        q, e = quantize_weight(w, torch.eye(w.shape[1]), bits)
        return max(trace, 0.0) / w.numel() * float((q * pot(e)[:, None] - w).square().sum())

    return {name: {b: omega(layers[name].weight, trace, b) for b in widths} for name, trace in traces.items()}
