"""fc1 with its activation: one step for the hidden tensor, or steps unit by unit."""

import torch
from torch.nn import functional as F

from ....graph.ir import Role, TensorInfo
from ....quant.scales import CANDIDATES, pot, quantize, search
from ....quant.stream import Act
from .. import lower
from ..frontend import Affine, FloatBlock
from ..hidden import GELU_LOW, plan_hidden, zero_point
from .builder import Builder, single, zeros

LARGEST = 2.0**60  #: squares of errors and their sums are single precision


def unit_steps(build: Builder, name: str, block: int, x: Act, fc1: Affine, b: FloatBlock, n2, fx) -> tuple[Act, Affine]:
    """The hidden tensor with steps chosen unit by unit, and fc2 for it.

    ``fc1``: as folded for x; ``b``: the float block, n2 and fx its float LayerNorm output and stream behind it.
    """
    sample = build.errors_in(fx)
    f1 = F.linear(n2, b.fc1.weight, b.fc1.bias)
    if not (reached := float(f1.abs().max())) < LARGEST:  # also where it is not a number
        raise ValueError(f"{name}.fc1: outputs on the calibration images must be below 2^60, reach {reached:.3g}")
    coarsest = torch.floor(torch.log2(fc1.weight.abs().max().clamp(min=1e-9) / 127)) + max(CANDIDATES)
    finest = max(3, -int(torch.maximum(coarsest, lower.least_exponents(fc1.bias).max())))
    hessian = build.hessian(x)
    while True:
        plan = plan_hidden(*sample.every(f1), sample.rows(f1), sample.w, b.fc2.weight, finest)
        exact, layer = plan.fc1(b.fc1), plan.fc1(fc1)
        target = F.linear(n2, exact.weight, exact.bias)
        weight = build.refitted(f"{name}.fc1", x, layer.weight, hessian, target)
        weight, ea = build.weights(f"{name}.fc1", x, weight, layer.bias, hessian)
        if plan.gelu_exp <= (found := -int(ea.max())) or found < 3:
            break
        finest = found  # rows of few bits are coarser than the guess: GELU's input has no finer steps than they
    build.notes += [f"{name}.fc1: {note}" for note in plan.notes]
    bias = build.corrected(f"{name}.fc1", build.product(x, weight, ea), layer.bias, target)
    role = Role("mlp.fc1", block)
    hidden = gelu(build, f"{name}.fc1", role, x, weight, bias, ea, plan.gelu_exp, plan.exponent, GELU_LOW)
    return hidden, plan.fc2(b.fc2)


def tensor_step(build: Builder, name: str, role: Role, x: Act, layer: Affine, target: torch.Tensor) -> Act:
    """fc1 with GELU; int8 output with zero-point, scales per channel where fc2 may absorb them."""
    s, hessian = build.scheme, build.hessian(x)
    weight = build.refitted(name, x, layer.weight, hessian, target)
    weight, ea = build.weights(name, x, weight, layer.bias, hessian)
    product = build.product(x, weight, ea)
    bias = build.corrected(name, product, layer.bias, target)
    product.add_(bias)
    top = product.amax((0, 1))  # GELU of the largest input is that input
    p, w = build.sample.rows(product), build.sample.w
    n = p.shape[1]
    finest = -int(ea.max())
    want = F.gelu(p)
    errors = {}
    for g in range(3, min(10, finest) + 1):
        errors[g] = float((w @ (F.gelu(quantize(p, -g, -2048, 2047) * 2.0**-g) - want).square()).sum())
    if not errors:
        raise ValueError(f"{name}: weights are too coarse for GELU's input (exponent {-finest}, at most -3)")
    exp = min(errors, key=errors.get)
    lo, hi = (0, 255) if s.gelu_zero_point else (-128, 127)
    low = GELU_LOW if s.gelu_zero_point else 0.0
    shifted, top = want - low, top.clamp(min=0) - low
    e = search(shifted, w, lo, hi, top=top).expand(n)
    if s.hidden_octaves:  # small channels take finer steps, never so fine that they would saturate
        room = torch.floor(torch.log2(hi * pot(e) / (top * 1.1))).int()
        e = e - room.clamp(0, s.hidden_octaves)
    return gelu(build, name, role, x, weight, bias, ea, exp, e, low)


def rectified(build: Builder, name: str, role: Role, x: Act, layer: Affine, target: torch.Tensor) -> Act:
    """fc1 with ReLU: the zero-point is the lowest code, where negative values end; one scale."""
    hessian = build.hessian(x)
    weight = build.refitted(name, x, layer.weight, hessian, target)
    weight, ea = build.weights(name, x, weight, layer.bias, hessian)
    product = build.product(x, weight, ea)
    bias = build.corrected(name, product, layer.bias, target)
    product.add_(bias)
    p, n = F.relu(build.sample.rows(product)), len(ea)
    e = search(p, build.sample.w, 0, 255, top=product.amax((0, 1)).clamp(min=0)).expand(n)
    ep = torch.maximum(ea, e - lower.P_MORE + 1)  # 255 steps within the 11 bits that p has above zero
    zero = torch.full((n,), -128, dtype=torch.int32)
    info = TensorInfo(name, build.tokens, n, "int8", single(e), -128)
    shifts = lower.shifts_given_p(ea, ep, e)
    build.linear(name, role, x, weight, bias, ea, shifts, offset=zero, info=info, act="relu")
    return Act(name, e, zero)


def gelu(build: Builder, name: str, role: Role, x: Act, weight, bias, ea, exp: int, e: torch.Tensor, low: float) -> Act:
    """Append a linear layer with GELU of inputs with ``exp`` fraction bits, output from ``low`` in steps of 2^e."""
    n = len(ea)
    if exp > -int(ea.max()):
        raise ValueError(f"{name}: weights are too coarse for GELU's input (exponent {int(ea.max())}, most {-exp})")
    zero = zero_point(e, low) if low else zeros(n)
    shifts = lower.shifts_given_p(ea, torch.full((n,), -exp, dtype=torch.int32), e)
    info = TensorInfo(name, build.tokens, n, "int8", single(e), single(zero) or 0)
    build.linear(name, role, x, weight, bias, ea, shifts, offset=zero, info=info, act="gelu", gelu_exp=exp)
    return Act(name, e, zero)
