"""Every tensor of the integer model beside the float one: ranges of channels, errors for class and patch tokens."""

import dataclasses

import numpy as np
import torch

from vitforge_hw.arch import arith
from vitforge_hw.arch.enums import CodeRule

from ....golden.model import Golden
from ....graph.ir import Graph
from ..frontend import FloatViT, import_vit
from ..outliers import typical
from ..rotation import mixing, rotate
from ..walk import Tap, walk

BLOCK_SITES = ("norm1", "attn.attend", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


class Keep(Tap):
    """Keeps every site's tensor (B, T, C), and attention probabilities (B, H, T, T)."""

    def __init__(self):
        self.found: dict[str, torch.Tensor] = {}

    def tensor(self, site: str, x: torch.Tensor) -> torch.Tensor:
        self.found[site] = x
        return x


def compared_model(model: torch.nn.Module, graph: Graph) -> FloatViT:
    """The float model in the coordinates of the integer one: rotated where its scheme rotates.

    ValueError: a graph that does not say its scheme (built by other means than ``quantize``).
    """
    scheme, vit = graph.meta.get("scheme"), import_vit(model)
    if not isinstance(scheme, dict):
        raise ValueError("analyze: the model names no scheme, which says whether its stream is rotated: quantize again")
    return rotate(vit, mixing(vit.channels)) if scheme.get("rotation") == "mixing" else vit


def floats(vit: FloatViT, patches: torch.Tensor) -> dict[str, torch.Tensor]:
    keep = Keep()
    with torch.inference_mode():
        walk(vit, patches, keep)
    return keep.found


def sites(vit: FloatViT) -> list[str]:
    """Sites that are one tensor in both models, in order."""
    return ["embed", *(f"blocks.{i}.{s}" for i in range(len(vit.blocks)) for s in BLOCK_SITES)]


def ranges(found: dict[str, torch.Tensor], names: list[str]) -> list[dict]:
    """Per site: {site, channel, top, typical, ratio} of the largest channel, and ``tops`` (C,): what each reaches."""
    rows = []
    for site in names:
        x = found[site]
        top = (x - x.mean(-1, keepdim=True) if x.shape[1] > 1 else x).abs().amax((0, 1))
        channel, usual = int(top.argmax()), float(typical(top))
        rows.append({
            "site": site, "channel": channel, "top": float(top[channel]), "typical": usual,
            "ratio": float(top[channel]) / usual, "tops": top.numpy(),
        })  # fmt: skip
    return rows


@dataclasses.dataclass
class Error:
    """Errors of one tensor: the float values against the integers, scaled and shifted per channel to fit best.

    The fit stands for what the layers behind take up (smoothing, rotation's steps, corrected biases). ``snr``:
    10 log10(variance / squared error) for all, class and patch tokens; ``noise_ratio``: squared error / variance.
    """

    site: str
    mse: float
    mae: float
    noise_ratio: float
    snr: float
    class_snr: float
    patch_snr: float
    residual: np.ndarray


def _db(signal: torch.Tensor, noise: torch.Tensor) -> float:
    return float(10 * torch.log10(signal.mean() / noise.mean().clamp(min=1e-30)))


def error(site: str, want: torch.Tensor, got: torch.Tensor) -> Error:
    """``want`` float and ``got`` integers, both (B, T, C); more integer channels (segments) are left out."""
    want, got = want.double(), got[..., : want.shape[-1]].double()
    mean_w, mean_g = want.mean((0, 1)), got.mean((0, 1))
    w, g = want - mean_w, got - mean_g
    gain = (w * g).sum((0, 1)) / g.square().sum((0, 1)).clamp(min=1e-12)
    residual = g * gain - w
    noise, signal = residual.square(), w.square()
    return Error(
        site, float(noise.mean()), float(residual.abs().mean()), float(noise.mean() / signal.mean().clamp(min=1e-30)),
        _db(signal, noise), _db(signal[:, :1], noise[:, :1]), _db(signal[:, 1:], noise[:, 1:]),
        (residual / noise.mean().sqrt().clamp(min=1e-30)).flatten()[::37].float().numpy(),
    )  # fmt: skip


def errors(graph: Graph, found: dict[str, torch.Tensor], names: list[str], patches: np.ndarray) -> list[Error]:
    env = Golden(graph).run(patches)
    return [error(site, found[site], env[site]) for site in names if site in env]


def attention_maps(graph: Graph, found: dict[str, torch.Tensor], patches: np.ndarray, block: int) -> np.ndarray:
    """(2, H, T): the class token's attention in a block of the first image, float and integer (codes / sum)."""
    exact = found[f"blocks.{block}.attn.softmax"][0, :, 0]
    env = Golden(graph).run(patches[:1])
    rows = []
    for h in range(exact.shape[0]):
        name = f"blocks.{block}.attn.softmax.h{h}"
        rule = next(CodeRule.of(n.rule) for n in graph.nodes if n.name == name)
        weights = torch.tensor([arith.code_weight(q, rule) for q in range(16)], dtype=torch.float64)
        w = weights[env[name][0, 0].long()]
        rows.append(w / w.sum())
    return np.stack([exact.numpy(), torch.stack(rows).numpy()])
