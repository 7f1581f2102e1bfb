"""From a float layer to an integer node: weights, bias, shifts, and its execution on the calibration images."""

import dataclasses

import numpy as np
import torch
from torch.nn import functional as F

from ....graph.ir import Graph, Ref, Role, TensorInfo
from ....models.images import ImageConfig
from ....ops import LayerNorm, Matmul
from ....quant.quality import Quality
from ....quant.refit import refit
from ....quant.scales import pot, scaled
from ....quant.stream import Act, Sampler, Stream, split_moment
from ....quant.weights import quantize_weight
from .. import lower
from ..bits import layer_name
from ..frontend import FloatViT, Norm
from ..schemes import Scheme


def zeros(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int32)


def single(e: torch.Tensor) -> int | None:
    return int(e.flatten()[0]) if bool((e == e.flatten()[0]).all()) else None


class Builder:
    """The graph so far, the float model ``vit``, ``scheme`` and the calibration ``patches`` int8 (B, T - 1, K)."""

    def __init__(self, vit: FloatViT, image: ImageConfig, scheme: Scheme, patches: np.ndarray):
        self.vit, self.image, self.scheme = vit, image, scheme
        self.tokens = vit.tokens
        info = TensorInfo("input", patches.shape[1], patches.shape[2], "int8")
        self.graph = Graph([], {"input": info}, {}, "input", "head", {})
        self.stream = Stream(self.graph, patches)
        self.notes: list[str] = []
        self.progress = False  # whether long parts show a bar
        self.quality = Quality()
        self.grids: dict[str, torch.Tensor] = {}  # layer -> real weights in steps, for block reconstruction
        self.share = scheme.class_share if vit.pool == "token" else None  # nothing reads the class token alone
        self.sample = Sampler(len(patches), self.tokens, self.share)

    def errors_in(self, stream: torch.Tensor) -> Sampler:
        """Weights of rows for errors that go into the residual ``stream`` (B, T, C)."""
        return self.sample.relative(stream) if self.scheme.relative_errors else self.sample

    def weights(self, name: str, x: Act, weight: torch.Tensor, bias: torch.Tensor, hessian):
        """(integers, accumulator exponents): the input's channel exponents are folded into the columns."""
        s, least = self.scheme, lower.least_exponents(bias)
        columns = weight * pot(x.exponent)
        q, e = quantize_weight(
            columns, hessian[0], s.bits(name), s.weight_granularity, s.weight_rounding, least, hessian[1]
        )
        if s.reconstruction == "block":
            self.grids[name] = scaled(columns, -e[:, None])
        return q, e

    def refitted(self, name: str, x: Act, weight: torch.Tensor, hessian, target: torch.Tensor, sample=None):
        """Weights moved by ridge regression of what is missing from ``target`` (B, T, N) on the integer inputs.

        The layer then also undoes what earlier roundings did to its inputs, as far as the inputs tell. Where they are
        rough (4 bits) that is much, with fine ones a fit to chance: see ``Scheme.ridges``.
        """
        ridges = self.scheme.ridges(name)
        if not ridges:
            return weight
        q = self.stream.env[x.name].float() - x.zero
        every = torch.full(q.shape[:2], 1 / q[..., 0].numel())  # the classifier's input
        weights = (sample or self.sample).weights if q.shape[1] == self.tokens else every
        missing = target - F.linear(q, weight * pot(x.exponent))
        q, missing = (t - torch.einsum("btc,bt->c", t, weights) for t in (q, missing))
        delta = refit(hessian, split_moment(q, weights, missing), ridges)
        return weight if delta is None else weight + delta * pot(-x.exponent)

    def hessian(self, x: Act, sample: Sampler | None = None) -> torch.Tensor:
        q = self.stream.env[x.name]
        if q.shape[1] != self.tokens:  # the classifier's input
            q = q.float().flatten(0, 1) - x.zero
            q = q - q.mean(0) if self.scheme.bias_correction else q
            return split_moment(q[:, None], torch.full((len(q), 1), 1 / len(q)))
        return (sample or self.sample).covariance(q.float() - x.zero, self.scheme.bias_correction)

    def product(self, x: Act, weight: torch.Tensor, ea: torch.Tensor) -> torch.Tensor:
        """The layer's product without bias, real values (B, T, N)."""
        return F.linear(self.stream.env[x.name].float() - x.zero, weight * pot(ea)[:, None])

    def corrected(self, name: str, product: torch.Tensor, bias: torch.Tensor, target: torch.Tensor, sample=None):
        """Bias such that the means over the calibration tokens are the float ones; the quality is noted."""
        if self.scheme.bias_correction:
            missing = target - product
            bias = missing.mean((0, 1)) if product.shape[1] != self.tokens else (sample or self.sample).mean(missing)
        self.quality.note(name, product + bias, target)
        return bias

    def linear(self, name: str, role: Role, x: Act, weight, bias, ea, shifts, *, offset=0, info=None, **kw):
        """Append a Matmul; ``bias`` is real-valued and does not know the input's zero-point yet."""
        real = bias - scaled((weight @ x.zero.float()), ea)
        fields = lower.linear_fields(name, weight, real, ea, shifts, offset)
        node = Matmul(name=name, out=Ref(name), role=role, x=Ref(x.name), **fields, **kw)
        node = dataclasses.replace(node, weight_bits=self.scheme.bits(layer_name(node)))
        return self.stream.add(node, info)

    def norm(self, name: str, role: Role, norm: Norm, x: Act, e_out: torch.Tensor, tokens: int) -> Act:
        c = len(e_out)
        a = x.exponent - x.exponent.min() if self.graph.tensors[x.name].fmt == "int8" else zeros(c)
        fields = lower.layernorm_fields(name, norm.gamma, norm.beta, e_out, a)
        info = TensorInfo(name, tokens, c, "int8", single(e_out))
        self.stream.add(LayerNorm(name=name, out=Ref(name), role=role, x=Ref(x.name), **fields), info)
        return Act(name, e_out, zeros(c))
