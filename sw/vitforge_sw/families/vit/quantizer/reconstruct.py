"""Block reconstruction: roundings of weights and biases learned against the float residual stream behind a branch.

After BRECQ (2102.05426) with AdaRound (2004.10568), for a block's two branches in turn: attention with proj, and the
MLP. A branch is first quantized as always; then a differentiable simulation of its integer nodes, fed with the integers
that it really gets, is trained: every weight moves to one of its two neighbours, every bias is free. Scales stay. What
the integer attention differs from the simulated one (codes, row factor) is a constant per image. The golden model
judges: the branch is executed again with what was learned, and kept if the stream behind it is nearer to float on the
held-back images (every fourth), with the weights of tokens that the layers are rounded with.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ....graph.ir import Node
from ....ops import Attend, LayerNorm, Matmul, Softmax
from ....ops.post import gelu_table
from ....progress import steps
from ....quant.adaround import SoftWeights, train
from ....quant.scales import pot
from ....quant.stream import Act
from ....threads import one_thread
from ..bits import layer_name
from .builder import Builder

ITERATIONS = 300  #: per branch
BATCH = 12  #: images
HELD = 4  #: one image of so many decides whether a branch is kept
WEIGHT_RATE, BIAS_RATE = 5e-2, 2e-3


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Rounded as the machine does, halves up (p may have one bit more than the output: every second value is one); the
    gradient passes."""
    return x + (torch.floor(x + 0.5) - x).detach()


class Layer:
    """The trainable form of one Matmul; tensors are integers in float, (B, T, channels)."""

    def __init__(self, build: Builder, node: Matmul):
        self.node, rows = node, len(node.weight)
        first = (node.role.head or 0) * rows
        grid = build.grids[layer_name(node)][first : first + rows]
        self.rounded = SoftWeights(grid, torch.from_numpy(node.weight).float(), (1 << node.weight_bits - 1) - 1)
        self.bias = torch.from_numpy(node.bias).float()
        self.shift = torch.zeros(rows).requires_grad_()  # of the bias, in output steps
        self.s1, self.eh, self.er, self.s2 = (torch.from_numpy(getattr(node, f)) for f in ("s1", "eh", "er", "s2"))
        self.offset = torch.from_numpy(node.offset).float()
        gelu = node.act == "gelu"
        self.table = torch.from_numpy(gelu_table(node.gelu_exp)).float() if gelu else None  # of p from -2048 on
        self.one = 2.0**node.gelu_exp
        self.unit = pot(self.s1 + self.s2 - self.eh)  # an output step, in the accumulator's

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None, exact: bool = False) -> torch.Tensor:
        """The output before it is rounded and saturated, in its steps, its zero-point included.

        ``exact``: with the integers that the node has.
        """
        weight = torch.from_numpy(self.node.weight).float() if exact else self.rounded()
        acc = F.linear(x, weight, self.bias + self.shift * self.unit)
        h = rounded(acc * pot(-self.s1)).clamp(-2048, 2047)
        if self.table is not None:
            soft = F.gelu(h / self.one) * self.one
            h = soft + (self.table[h.detach().long() + 2048] - soft).detach()
        y = h * pot(self.eh - self.s2)
        if residual is not None:
            y = y + residual * pot(self.er - self.s2)
        return y + self.offset

    def coded(self, x: torch.Tensor, exact: bool = False) -> torch.Tensor:
        return rounded(self(x, exact=exact)).clamp(-127 if self.node.narrow else -128, 127)

    @torch.no_grad()
    def learned(self) -> Matmul:
        bias = (self.bias + self.shift * self.unit).round().to(torch.int32)
        return dataclasses.replace(
            self.node, weight=self.rounded.learned().to(torch.int8).numpy(), bias=bias.contiguous().numpy()
        )


class Attention:
    """softmax(Q K^T) V of one head from the integers of q, k and v, in the steps of the integer attention output."""

    def __init__(self, scores: Node, softmax: Softmax, attend: Attend):
        octaves = softmax.c * 2.0**-softmax.sc / 16  # a step of the scores
        self.scale = octaves * math.log(2) * 2.0 ** -(scores.s1 + scores.s2)
        self.step = 2.0 ** -(attend.shift - (8 if attend.factor else 7))

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(1, 2) * self.scale, -1) @ v * self.step


class Mlp:
    def __init__(self, build: Builder, nodes: list[Node]):
        self.layers = [Layer(build, n) for n in nodes if isinstance(n, Matmul)]
        self.x, self.residual = (build.stream.env[ref.name] for ref in (self.layers[0].node.x, nodes[-1].residual))

    def __call__(self, pick: torch.Tensor) -> torch.Tensor:
        """The stream behind the branch, in its steps, for the images ``pick``."""
        first, last = self.layers
        return last(first.coded(self.x[pick].float()), self.residual[pick].float())


class Attended:
    """As Mlp, of the attention branch."""

    def __init__(self, build: Builder, nodes: list[Node]):
        kinds = {}
        for node in nodes[1:-1]:
            kinds.setdefault(node.role.part, []).append(node)
        self.parts = [[Layer(build, n) for n in kinds[part]] for part in ("q", "k", "v")]
        self.heads = [Attention(*of) for of in zip(kinds["scores"], kinds["softmax"], kinds["attend"], strict=True)]
        self.proj = Layer(build, nodes[-1])
        self.layers = [*(layer for part in self.parts for layer in part), self.proj]
        x, out, residual = kinds["q"][0].x, nodes[-1].x, nodes[-1].residual
        self.x, self.residual = (build.stream.env[ref.name] for ref in (x, residual))
        exact = build.stream.env[out.name].float()
        with torch.no_grad():
            every = [self.attended(some, exact=True) for some in torch.arange(len(self.x)).split(BATCH)]
            self.difference = exact - torch.cat(every)

    def attended(self, pick: torch.Tensor, exact: bool = False) -> torch.Tensor:
        x = self.x[pick].float()
        q, k, v = ([layer.coded(x, exact) for layer in part] for part in self.parts)
        return torch.cat([head(*of) for head, *of in zip(self.heads, q, k, v, strict=True)], -1)

    def __call__(self, pick: torch.Tensor) -> torch.Tensor:
        y = rounded(self.attended(pick) + self.difference[pick]).clamp(-128, 127)
        return self.proj(y, self.residual[pick].float())


def branch_model(build: Builder, nodes: list[Node]) -> Mlp | Attended | None:
    """The simulation of a branch's nodes, LayerNorm first; None: with more LayerNorms (of queries and keys)."""
    if any(isinstance(node, LayerNorm) for node in nodes[1:]):
        return None
    return (Attended if any(isinstance(node, Attend) for node in nodes) else Mlp)(build, nodes)


def execute(build: Builder, first: int, nodes: list[Node], before: dict, kept: set[str]) -> None:
    """``nodes`` in the place of the graph's from ``first`` on; of their tensors those of ``kept`` stay."""
    build.graph.nodes[first:] = []
    build.stream.env.clear()
    build.stream.env.update(before)
    for node in nodes:
        build.stream.add(node)
    build.stream.drop(*(set(build.stream.env) - kept))


def squared_error(build: Builder, out: Act, target: torch.Tensor, weights: torch.Tensor, which: torch.Tensor) -> float:
    missing = (build.stream.real(out)[which] - target[which]).double().square().mean(-1)
    return float((missing * weights[which]).sum() / weights[which].sum())


@torch.inference_mode(False)
def reconstruct(
    build: Builder, name: str, first: int, before: dict[str, torch.Tensor], out: Act, target: torch.Tensor
) -> None:
    """The branch ``name``, the graph's nodes from ``first`` on, again with learned roundings, where that is better.

    ``before``: the stream's tensors before it; ``out``: the residual stream that it writes, ``target`` (B, T, C) the
    float one. The graph's metadata gets the weighted squared errors before and after, on the images trained on and on
    the others.
    """
    target = target.clone()
    nodes, after = build.graph.nodes[first:], dict(build.stream.env)
    for table in (before, after):
        for key, value in table.items():
            table[key] = value.clone() if value.is_inference() else value
    build.stream.env.update(after)
    if (model := branch_model(build, nodes)) is None:
        return
    images = torch.arange(len(target))
    fit, held = images[images % HELD != HELD - 1], images[images % HELD == HELD - 1]
    if not len(held):
        raise ValueError(f"reconstruction: must have at least {HELD} calibration images, not {len(fit)}")
    weights = build.errors_in(target).weights.clone()
    errors = lambda: [squared_error(build, out, target, weights, which) for which in (fit, held)]  # noqa: E731
    step, wanted = pot(out.exponent), target * pot(-out.exponent)

    def loss_of(pick: torch.Tensor) -> torch.Tensor:
        pick = fit[pick]
        return (((model(pick) - wanted[pick]) * step).square().mean(-1) * weights[pick]).sum() / weights[pick].sum()

    groups = [
        dict(params=[layer.rounded.v for layer in model.layers], lr=WEIGHT_RATE),
        dict(params=[layer.shift for layer in model.layers], lr=BIAS_RATE),
    ]
    old = errors()
    watch = lambda numbers: steps(numbers, name, build.progress)  # noqa: E731
    with one_thread():
        train(groups, loss_of, [layer.rounded for layer in model.layers], len(fit), ITERATIONS, BATCH, watch)
    learned = {layer.node.name: layer.learned() for layer in model.layers}
    execute(build, first, [learned.get(node.name, node) for node in nodes], before, set(after))
    new = errors()
    if new[1] >= old[1]:
        build.graph.nodes[first:] = nodes
        build.stream.env.clear()
        build.stream.env.update(after)
        new = old
    else:
        for layer in learned.values():  # what was noted of them is of other integers
            build.quality.layers.pop(layer_name(layer), None)
        build.quality.note(nodes[-1].name, build.stream.real(out), target)
    notes = build.graph.meta.setdefault("reconstruction", {})
    notes[name] = dict(before=old[0], after=new[0], held_out_before=old[1], held_out_after=new[1])


def summary(build: Builder) -> list[str]:
    """One line on what was kept, none without reconstruction."""
    if build.scheme.reconstruction == "none":
        return []
    found = build.graph.meta.get("reconstruction", {})
    kept = sum(part["held_out_after"] < part["held_out_before"] for part in found.values())
    skipped = 2 * len(build.vit.blocks) - len(found)
    line = f"block reconstruction: {kept} of {len(found)} branches nearer to float on held-back images, and kept"
    return [line + (f"; {skipped} with norms of queries or keys left as they are" if skipped else "")]


def reconstruction(build: Builder) -> Callable[[str, Act, torch.Tensor], None]:
    """Called before a branch is built: what to call behind it, with its name, its output and the float stream."""
    if build.scheme.reconstruction == "none":
        return lambda name, out, target: None
    first, before = len(build.graph.nodes), dict(build.stream.env)
    build.grids.clear()
    return lambda name, out, target: reconstruct(build, name, first, before, out, target)
