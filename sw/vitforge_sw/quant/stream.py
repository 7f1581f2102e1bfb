"""The two streams of a calibration run: float activations, and the integer tensors of the nodes built so far."""

import copy
import dataclasses

import numpy as np
import torch

from ..golden.model import Golden
from ..graph.ir import Graph, Node, Ref, TensorInfo
from .scales import pot


@dataclasses.dataclass
class Act:
    """An integer tensor and what it means: value = (q - zero) * 2^exponent, per channel."""

    name: str
    exponent: torch.Tensor  #: int32 (C,)
    zero: torch.Tensor  #: int32 (C,)


class Stream:
    """Builds the graph node by node, each executed at once by the golden model on all calibration images."""

    def __init__(self, graph: Graph, patches: np.ndarray, batch: int = 10):
        self.graph, self.batch = graph, batch
        self.env: dict[str, torch.Tensor] = {graph.input: torch.from_numpy(patches)}

    def add(self, node: Node, info: TensorInfo | None = None) -> torch.Tensor:
        """Append ``node`` (and its output tensor) and execute it: the output (B, T, C)."""
        if info is not None:
            self.graph.tensors[info.name] = info
        self.graph.nodes.append(node)
        single = Golden(dataclasses.replace(self.graph, nodes=[node]))
        parts = []
        images = len(self.env[self.graph.input])
        for start in range(0, images, self.batch):
            count = min(self.batch, images - start)
            env = {n: t[start : start + count] for n, t in self.env.items()} | single.fixed(count)
            single.step(0, env)
            parts.append(env[node.out.name])
        self.env[node.out.name] = torch.cat(parts)
        return self.env[node.out.name]

    def get(self, ref: Ref) -> torch.Tensor:
        x = self.env[ref.name]
        return x if ref.count is None else x[..., ref.start : ref.start + ref.count]

    def real(self, act: Act) -> torch.Tensor:
        """Values (B, T, C) in float32."""
        return (self.env[act.name].float() - act.zero) * pot(act.exponent)

    def drop(self, *names: str) -> None:
        for name in names:
            self.env.pop(name, None)


class Sampler:
    """Token weights (class token and patches) and a fixed choice of rows for searches.

    ``share``: weight of the class token in means and errors (None: every token the same).
    """

    def __init__(self, images: int, tokens: int, share: float | None, seed: int = 0, rows: int = 4000):
        generator = torch.Generator().manual_seed(seed)
        patches = max(1, min(tokens - 1, rows // images - 1))
        picks = [1 + torch.randperm(tokens - 1, generator=generator)[:patches] for _ in range(images)]
        self.index = torch.stack([torch.cat([torch.zeros(1, dtype=torch.long), p]) for p in picks])  # (B, n)
        self.set_share(share, tokens)

    def set_share(self, share: float | None, tokens: int) -> None:
        self.share = 1 / tokens if share is None else share
        token_w = torch.full((tokens,), (1 - self.share) / (tokens - 1))
        token_w[0] = self.share
        self._weigh(token_w.repeat(len(self.index), 1) / len(self.index))

    def _weigh(self, weights: torch.Tensor) -> None:
        self.weights = weights  #: (B, T), sum 1
        n, t = self.index.shape[1], weights.shape[1]
        w = weights.gather(1, self.index)
        w[:, 1:] *= (t - 1) / (n - 1)  # the drawn patches stand for all
        self.w = w.flatten()  #: (R,)

    def relative(self, stream: torch.Tensor) -> "Sampler":
        """The same rows weighted as the next LayerNorm sees errors of ``stream`` (B, T, C): by 1 / variance of a token.

        A token with a massive activation then does not set the steps of all the others.
        """
        variance = stream.var(-1, correction=0)
        weights = self.weights / variance.clamp(min=float(variance.mean()) * 1e-6 + 1e-30)
        other = copy.copy(self)
        other._weigh(weights / weights.sum())
        return other

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to sampled rows (R, C), float32; the sample's weights are ``w``."""
        index = self.index[..., None].expand(-1, -1, x.shape[-1])
        return torch.gather(x, 1, index).flatten(0, 1).float()

    def every(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows (R, C) and their weights: rare outliers decide about clipping."""
        return x.flatten(0, 1).float(), self.weights.flatten()

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Weighted mean over images and tokens: (C,)."""
        return torch.einsum("btc,bt->c", x.float(), self.weights)

    def covariance(self, x: torch.Tensor, centre: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted second moment (or covariance) over all rows, (C, C), and the part of it from every fourth image."""
        x = x.float()
        if centre:
            x = x - self.mean(x)
        return split_moment(x, self.weights)


def split_moment(
    x: torch.Tensor, weights: torch.Tensor, other: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Second moments of ``other`` (default: x) and x, (N, C), for x (B, T, C) with weights (B, T): of all images, and
    of every fourth (held back)."""
    held = torch.arange(len(x)) % 4 == 3

    def moment(which: torch.Tensor) -> torch.Tensor:
        flat = x[which].flatten(0, 1)
        left = flat if other is None else other[which].flatten(0, 1)
        return (left * weights[which].reshape(-1, 1)).T @ flat

    part = moment(held)
    return moment(~held) + part, part
