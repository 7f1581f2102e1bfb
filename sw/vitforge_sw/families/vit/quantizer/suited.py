"""Channels of values, queries and keys scaled by real factors that suit 4-bit weights (``families.vit.octaves``)."""

import dataclasses

import torch

from ....quant.stream import Act
from ....quant.weights import FEW
from ..frontend import Affine, FloatBlock
from ..octaves import query_factors, value_factors
from .builder import Builder


def power(build: Builder, x: torch.Tensor) -> torch.Tensor:
    """Weighted variance (C,) of x (B, T, C)."""
    return build.sample.mean((x.float() - build.sample.mean(x)).square())


def suited_values(build: Builder, name: str, x: Act, v: Affine, b: FloatBlock, step, fv, fa) -> torch.Tensor:
    """The attention output's steps (C,) moved within two octaves where the rows of v or proj have few bits.

    ``v``: as folded for x; ``step``: the finest steps that hold the outputs ``fa`` (B, T, C); ``fv``: float values.
    """
    bits = [build.scheme.bits(f"{name}.attn.{part}") for part in ("v", "proj")]
    if not build.scheme.octaves or min(bits) > FEW:
        return step
    out = power(build, fa)
    averaged = (out / power(build, fv).clamp(min=1e-12)).clamp(max=1)
    rows, tops = v.weight / step[:, None], ((1 << n - 1) - 1 for n in bits)
    inputs = power(build, build.stream.env[x.name])
    return step * value_factors(rows, b.proj.weight * step, inputs, out / step.square(), averaged, *tops)


def suited_queries(build: Builder, name: str, x: Act, b: FloatBlock, fq, fk) -> tuple[FloatBlock, torch.Tensor]:
    """(the block with other rows of q and k, the factors (C,) of q), scores as before, where they have few bits.

    ``b``: as folded for x; ``fq``, ``fk`` (B, T, C): float queries and keys.
    """
    bits = build.scheme.bits(f"{name}.attn.q")
    if not build.scheme.octaves or bits > FEW or b.q_norm is not None or b.k_norm is not None:
        return b, torch.ones(fq.shape[-1])
    inputs = power(build, build.stream.env[x.name])
    powers = power(build, fq), power(build, fk)
    f = query_factors(b.q.weight, b.k.weight, inputs, *powers, (1 << bits - 1) - 1)
    q, k = Affine(b.q.weight * f[:, None], b.q.bias * f), Affine(b.k.weight / f[:, None], b.k.bias / f)
    return dataclasses.replace(b, q=q, k=k), f
