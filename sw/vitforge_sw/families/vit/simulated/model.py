"""Calibrate a simulated scheme on a float ViT and run it: a tap with a quantizer at every site of the scheme."""

from collections.abc import Callable
from functools import partial

import torch

from ....quant.rounding import round_gptq
from ....quant.scales import pot
from ..frontend import Affine, FloatBlock, FloatViT
from ..precision.sensitivity import Moments
from ..walk import Tap, walk, weight_layers
from . import codes, kernels
from .grids import Grid, grid, grouped, weight_grid
from .observers import OBSERVERS, Stats
from .schemes import Simulated
from .transforms import TRANSFORMS

KEEP = 512  #: rows of a batch that searches see
STREAM = ("embed", ".attn.proj", ".mlp.fc2")


class Watch(Tap):
    """Collects ``Stats`` of every site."""

    def __init__(self):
        self.stats: dict[str, Stats] = {}

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        last = site.rsplit(".", 1)[-1]
        rows = x.flatten().unsqueeze(1) if last in ("scores", "softmax") else x.flatten(0, -2)
        found = self.stats.setdefault(site, Stats.first(rows))
        found.see(rows, KEEP * (64 if rows.shape[1] == 1 else 1))
        return x


class SimulatedTap(Tap):
    """A calibrated scheme: grids by site, rounded layers, softmax and GELU as the scheme has them."""

    def __init__(self, scheme: Simulated):
        self.scheme = scheme
        self.grids: dict[str, Callable] = {}
        self.layers: dict[str, Affine] = {}
        self.softmaxes: dict[str, Callable] = {}
        self.activations: dict[str, Callable] = {}

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        return self.grids[site](x) if site in self.grids else x

    def linear(self, site: str, x: torch.Tensor, layer: Affine) -> torch.Tensor:
        return super().linear(site, x, self.layers.get(site, layer))

    def softmax(self, site: str, scores: torch.Tensor) -> torch.Tensor:
        return self.softmaxes[site](scores) if site in self.softmaxes else torch.softmax(scores, -1)

    def activation(self, site: str, b: FloatBlock, x: torch.Tensor) -> torch.Tensor:
        return self.activations[site](x) if site in self.activations else b.activation(x)


def readers(vit: FloatViT) -> dict[str, list[str]]:
    """Activation site -> the weight layers that read it."""
    found = {"norm": ["head"]}
    for i in range(len(vit.blocks)):
        at = f"blocks.{i}"
        found |= {
            f"{at}.norm1": [f"{at}.attn.{p}" for p in "qkv"], f"{at}.attn.attend": [f"{at}.attn.proj"],
            f"{at}.norm2": [f"{at}.mlp.fc1"], f"{at}.mlp.fc1": [f"{at}.mlp.fc2"],
        }  # fmt: skip
    return found


def _uniform(s: Simulated, stats: Stats, site: str) -> Grid:
    per, levels = s.per(site), (1 << s.abits) - 1
    low, high = OBSERVERS[s.observer](stats, per != "tensor", levels)
    if per == "group":
        low, high = grouped(low, high)
    return grid(low, high, s.abits, s.symmetric)


def _weights(s: Simulated, layer: Affine, fold: torch.Tensor | None, moment: torch.Tensor) -> Affine:
    weight = layer.weight if fold is None else layer.weight * fold
    if s.rounding == "gptq":
        top = (1 << s.wbits - 1) - 1
        e = torch.ceil(torch.log2(weight.abs().amax(1).clamp(min=1e-12) / top)).int()
        rounded = round_gptq(weight, e, moment, top) * pot(e)[:, None]
    else:
        rounded = weight_grid(weight, s.wbits, s.weight_granularity)(weight)
    return Affine(rounded if fold is None else rounded / fold, layer.bias)


def _attention(tap: SimulatedTap, stats: dict[str, Stats], at: str) -> None:
    """Scores and softmax of one block."""
    s, site, bits = tap.scheme, f"{at}.softmax", tap.scheme.attention_bits
    step = None
    if s.scores or s.softmax in ("log_int", "shiftmax"):
        found = stats[f"{at}.scores"]
        g = grid(found.low.min(), found.high.max(), 8, True)
        tap.grids[f"{at}.scores"], step = g, float(g.scale)
    p = stats[site]
    if s.softmax in ("log_int", "shiftmax"):
        kernel = kernels.log_int_softmax if s.softmax == "log_int" else kernels.shiftmax
        tap.softmaxes[site] = lambda x: kernel(torch.round(x / step), step, bits).float()
    elif s.softmax == "twin":
        small, large = codes.twin_steps(p, bits, False)
        tap.grids[site] = partial(codes.twin, bits=bits, small=small, large=large, negative=False)
    elif s.softmax == "adalog":
        tap.grids[site] = partial(codes.log_base, bits=bits, step=codes.adaptive_base(p, bits))
    elif s.softmax == "uniform":
        tap.grids[site] = grid(p.low.min(), p.high.max(), bits, False)
    else:
        tap.grids[site] = partial(getattr(codes, s.softmax), bits=bits)


def calibrate(vit: FloatViT, scheme: Simulated, patches: torch.Tensor, batch: int = 8) -> SimulatedTap:
    """The scheme fitted to normalised calibration patches (B, T, K)."""
    s, watch, moments, tap = scheme, Watch(), Moments(), SimulatedTap(scheme)
    for part in patches.split(batch):
        walk(vit, part, watch)
        if s.rounding == "gptq":
            walk(vit, part, moments)
    stats, layers = watch.stats, weight_layers(vit)
    reads, folds = readers(vit), {}
    for site, found in stats.items():
        if site.endswith((".scores", ".softmax")) or site == "head":
            continue
        if site == "embed" or site.endswith(STREAM[1:]):
            if s.stream != "float":
                tap.grids[site] = TRANSFORMS[s.stream](found, torch.empty(0), s.abits, s.observer, s.symmetric)[0]
        elif s.hidden == "twin" and site.endswith(".mlp.fc1"):
            small, large = codes.twin_steps(found, s.abits, True)
            tap.grids[site] = partial(codes.twin, bits=s.abits, small=small, large=large, negative=True)
        elif s.transform != "none" and "norm" in site:
            weight = torch.cat([layers[name].weight for name in reads[site]])
            tap.grids[site], fold = TRANSFORMS[s.transform](found, weight, s.abits, s.observer, s.symmetric)
            folds |= {name: fold for name in reads[site]}
        else:
            tap.grids[site] = _uniform(s, found, site)
    for i in range(len(vit.blocks)):
        _attention(tap, stats, f"blocks.{i}.attn")
        site = f"blocks.{i}.mlp.fc1"
        if s.gelu == "i_gelu":
            tap.activations[site] = kernels.i_gelu
        elif s.gelu == "shift_gelu":
            step = float(_gelu_step(stats[site]))
            tap.activations[site] = lambda x, step=step: kernels.shift_gelu(torch.round(x / step), step).float()
    for name, layer in layers.items():
        moment = moments.of(name)[1] if s.rounding == "gptq" else None
        tap.layers[name] = _weights(s, layer, folds.get(name), moment)
    return tap


def _gelu_step(stats: Stats) -> float:
    """Step of GELU's 8-bit input: its largest magnitude is that of the largest output (or a few units below 0)."""
    return max(float(stats.high.max()), 4.0) / 127


@torch.inference_mode()
def simulated_logits(vit: FloatViT, tap: SimulatedTap, patches: torch.Tensor, batch: int = 8) -> torch.Tensor:
    return torch.cat([walk(vit, part, tap) for part in patches.split(batch)])


def published_drop(scheme: Simulated) -> float | None:
    """Points that the publication loses on DeiT-Tiny."""
    return None if scheme.published is None else round(72.2 - scheme.published, 2)
