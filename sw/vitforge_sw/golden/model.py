"""The whole graph: every tensor by name, or the logits alone, fast."""

import numpy as np
import torch

from ..graph.ir import Graph, Ref
from ..progress import steps
from .post import DTYPES


class Golden:
    """A graph prepared for execution: ``run`` keeps tensors by name, ``logits`` is the fast path."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.ops = [node.golden(graph) for node in graph.nodes]
        self.constants = {
            name: torch.from_numpy(np.ascontiguousarray(value))[None].to(DTYPES[graph.tensors[name].fmt])
            for name, value in graph.constants.items()
        }
        last = {ref.name: i for i, node in enumerate(graph.nodes) for ref in node.inputs}
        self.dead = [
            [n for n, j in last.items() if j == i and n not in graph.constants] for i in range(len(graph.nodes))
        ]

    def fixed(self, batch: int) -> dict[str, torch.Tensor]:
        """The constants, the same for every image of a batch."""
        return {name: value.expand(batch, -1, -1) for name, value in self.constants.items()}

    def _get(self, env: dict, ref: Ref) -> torch.Tensor:
        x = env[ref.name]
        if ref.start == 0 and ref.count in (None, x.shape[-1]):
            return x
        return x[..., ref.start : ref.start + (ref.count or x.shape[-1] - ref.start)]

    def step(self, index: int, env: dict, taps: dict | None = None) -> None:
        """Execute node ``index`` on the tensors in ``env`` (name -> (B, tokens, channels)); taps: internal values."""
        node = self.graph.nodes[index]
        y = self.ops[index](*(self._get(env, ref) for ref in node.inputs), taps=taps)
        info = self.graph.tensors[node.out.name]
        if node.out.start == 0 and node.out.count in (None, info.channels):
            env[node.out.name] = y
            return
        if node.out.name not in env:
            env[node.out.name] = torch.zeros(y.shape[0], info.tokens, info.channels, dtype=DTYPES[info.fmt])
        env[node.out.name][..., node.out.start : node.out.start + node.out.count] = y

    def _input(self, patches) -> torch.Tensor:
        patches = torch.from_numpy(patches) if isinstance(patches, np.ndarray) else patches
        info = self.graph.tensors[self.graph.input]
        if patches.dtype != torch.int8 or patches.ndim != 3 or tuple(patches.shape[1:]) != (info.tokens, info.channels):
            raise ValueError(
                f"input of the integer model: must be int8 (B, {info.tokens}, {info.channels}), "
                f"not {str(patches.dtype).removeprefix('torch.')} {tuple(patches.shape)}"
            )
        return patches

    @torch.inference_mode()
    def run(self, patches, taps: dict | None = None) -> dict[str, torch.Tensor]:
        """Every tensor of the graph (input and constants included) for a batch: name -> (B, tokens, channels).

        ``patches``: int8 (B, patches, K), numpy or torch. ``taps``: a dict that receives internal values: ``NODE.acc``
        (accumulators), ``NODE.S1``, ``NODE.S2`` (LayerNorm), ``NODE.L`` (softmax, rule log2).
        """
        env = {self.graph.input: self._input(patches), **self.fixed(len(patches))}
        for i in range(len(self.graph.nodes)):
            self.step(i, env, taps)
        return env

    @torch.inference_mode()
    def logits(self, patches, batch: int = 8, progress: bool = False) -> torch.Tensor:
        """The output tensor alone: int16 (B, classes) for a vector per image; other tensors are dropped after use."""
        patches, out = self._input(patches), []
        for start in steps(range(0, len(patches), batch), "integer model", progress):
            some = patches[start : start + batch]
            env = {self.graph.input: some, **self.fixed(len(some))}
            for i in range(len(self.graph.nodes)):
                self.step(i, env)
                for name in self.dead[i]:
                    del env[name]
            out.append(env[self.graph.output][:, 0])
        return torch.cat(out)


def run(graph: Graph, patches, taps: dict | None = None) -> dict[str, torch.Tensor]:
    """``Golden(graph).run(patches, taps)``; prepare a ``Golden`` once for repeated use."""
    return Golden(graph).run(patches, taps)
