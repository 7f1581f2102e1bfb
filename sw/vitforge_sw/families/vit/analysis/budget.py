"""The noise budget: what each kind of tensor's rounding adds to the logits' noise.

Every tensor's own error is what the integer model has there less what the float operation makes of the integer model's
inputs. Put into the float model, all of them together give the integer model's logits; all but one kind's say what that
kind costs. Its mean per channel stays (biases are corrected for it, so that without it they would be wrong). A layer's
rounded weights count with the tensor that it makes.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from vitforge_hw.arch import arith
from vitforge_hw.arch.enums import CodeRule

from ....golden.model import Golden
from ....graph.ir import Graph
from ....ops import Attend
from ..frontend import FloatViT
from ..walk import Tap, walk

#: kind -> the last part of its sites' names
KINDS = {
    "embedding": ("embed",),
    "LayerNorm outputs": ("norm1", "norm2", "norm"),
    "q, k, v": ("q", "k", "v"),
    "scores": ("scores",),
    "softmax codes": ("softmax",),
    "attention outputs": ("attend",),
    "residual stream": ("proj", "fc2"),
    "hidden tensors": ("fc1",),
    "logits": ("head",),
}


IMAGES = 8  #: at least: a scale and a shift are fitted to each channel, in the last layers of class tokens alone


def kind_of(site: str) -> str:
    return next(kind for kind, ends in KINDS.items() if site.rsplit(".", 1)[-1] in ends)


def fitted(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Integers (B, T, C') in the units of ``want`` (B, T, C): scale and shift per channel that fit best.

    Channels beyond C are segments of massive units (``hidden``): each unit may take a share of them.
    """
    count = want.shape[-1]
    w, g = want.flatten(0, 1).double(), got.flatten(0, 1).double()
    common = torch.cat([torch.ones(len(g), 1, dtype=g.dtype), g[:, count:]], 1)
    base = torch.linalg.qr(common)[0]
    shared = base @ (base.T @ w)
    own = g[:, :count] - base @ (base.T @ g[:, :count])
    gain = (own * w).sum(0) / own.square().sum(0).clamp(min=1e-12)
    return (shared + own * gain).reshape(want.shape).to(want.dtype)


def scaled_rows(got: torch.Tensor, want: torch.Tensor, centred: bool) -> torch.Tensor:
    """Integers (B, H, T, T) in the units of ``want``, one scale a head; ``centred``: a row's mean is that of ``want``
    (softmax does not see it)."""
    g, w = got.to(want.dtype), want
    if centred:
        g, w = (x - x.mean(-1, keepdim=True) for x in (g, w))
    gain = (g * w).sum((0, 2, 3), keepdim=True) / g.square().sum((0, 2, 3), keepdim=True).clamp(min=1e-12)
    return g * gain + (want - w)


class Errors(Tap):
    """Walks on the integer model's tensors ``env``, and keeps each site's own error in ``found``."""

    def __init__(self, graph: Graph, env: Mapping[str, torch.Tensor]):
        self.env = env
        self.found: dict[str, torch.Tensor] = {}
        self.attends = {node.codes.name: node for node in graph.nodes if isinstance(node, Attend)}

    def heads(self, site: str) -> list[torch.Tensor]:
        """The integer model's tensors of a site that it has head by head; queries and keys behind their LayerNorm."""
        for name in (f"{site}_norm", site):
            if f"{name}.h0" in self.env:
                return [self.env[f"{name}.h{h}"] for h in range(len(self.env)) if f"{name}.h{h}" in self.env]
        raise ValueError(f"analyze: the integer model has no tensor {site}")

    def integer(self, site: str, x: torch.Tensor) -> torch.Tensor:
        if site in self.env:
            return fitted(self.env[site][:, : x.shape[1]], x)
        heads = self.heads(site)
        if x.dim() == 3:
            return fitted(torch.cat(heads, -1), x)
        rows = torch.stack(heads, 1)
        if (attend := self.attends.get(f"{site}.h0")) is None:
            return scaled_rows(rows, x, centred=True)
        table = [arith.code_weight(q, CodeRule.of(attend.rule)) for q in range(16)]
        weights = torch.tensor(table, dtype=x.dtype)[rows.long()]
        return scaled_rows(weights / weights.sum(-1, keepdim=True) if attend.factor else weights, x, centred=False)

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        integer = self.integer(site, x)
        self.found[site] = integer - x
        return integer


class Injected(Tap):
    """The float model with errors added; of those of ``without`` the means per channel alone."""

    def __init__(self, errors: Mapping[str, torch.Tensor], without: str | None):
        self.errors, self.without = errors, without

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        error = self.errors[site]
        return x + (error.mean((0, 1), keepdim=True) if kind_of(site) == self.without else error)


@dataclasses.dataclass
class Source:
    """A kind of tensor: logit SQNR in dB of all errors but its own, and its share of the noise power."""

    kind: str
    without_db: float
    share: float


@torch.inference_mode()
def noise_budget(graph: Graph, vit: FloatViT, patches: np.ndarray, x: torch.Tensor) -> tuple[float, list[Source]]:
    """(logit SQNR in dB with all errors, the kinds by falling share).

    ``vit``: in the coordinates of the integer model (``compared_model``); ``patches``: images as input bytes, ``x`` the
    same normalised. Shares are of the noise power, to a few percent: errors of different kinds are not independent.
    ValueError: fewer than IMAGES images, whose errors the fit would take up.
    """
    if len(patches) < IMAGES:
        raise ValueError(f"analyze: the noise budget needs at least {IMAGES} images, not {len(patches)}")
    errors = Errors(graph, Golden(graph).run(patches))
    walk(vit, x, errors)
    want = walk(vit, x)

    def noise(without: str | None) -> torch.Tensor:
        """Of each image, over its logits' power."""
        return (walk(vit, x, Injected(errors.found, without)) - want).square().sum(1) / want.square().sum(1)

    db = lambda power: float(-10 * torch.log10(power.clamp(min=1e-30)).mean())  # noqa: E731
    whole = noise(None)
    found = []
    for kind in KINDS:
        rest = noise(kind)
        found.append(Source(kind, db(rest), float(1 - rest.mean() / whole.mean())))
    return db(whole), sorted(found, key=lambda source: -source.share)
