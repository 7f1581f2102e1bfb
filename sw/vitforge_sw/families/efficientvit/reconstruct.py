"""Block reconstruction: learned rounding of weights, biases and activation steps against the float block's output.

After BRECQ (2102.05426) with AdaRound (2004.10568) and LSQ (1902.08153). A block is first quantized as always; then a
differentiable simulation of it, fed with the block's real integer inputs, is trained: every weight moves to one of its
two neighbours on the grid already chosen, every bias is free, and so is one factor on the step of every tensor behind a
Hardswish. Grids, factors per channel and zero-points stay, attention's scales too; what the integer attention differs
from the simulated one (divisors, Ksum, Z) is a constant per image. The golden model judges: the block is built again
from what was learned and kept if its integer output is nearer to float on images that were not trained on.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ...golden.model import Golden
from ...progress import steps
from ...quant.adaround import SoftWeights, round_through, train
from .builder import Act, Builder, Learned, State
from .formats import Format
from .frontend import Conv, LiteMLA, Local
from .weights import QMAX

ITERATIONS = 300  #: per block
HELD_OUT = 4  #: one image of so many decides whether a block is kept
WEIGHT_RATE, BIAS_RATE, STEP_RATE = 1e-2, 2e-2, 1e-3


class Layer:
    """The trainable form of one convolution: integers base + h, h in 0..1, a bias and the output step's factor."""

    def __init__(self, b: Builder, conv: Conv):
        made = b.made[conv.name]
        self.conv, self.made, self.out = conv, made, b.acts[conv.name]
        self.format: Format | None = b.kept.get(f"{conv.name}.format")
        self.rounded = SoftWeights((made.real / made.step[:, None]).float(), made.weight, QMAX)
        self.shift = torch.zeros(len(made.bias)).requires_grad_()  # of the bias, in output steps
        self.log_factor = torch.zeros(()).requires_grad_()
        self.unit = self.out.step.mean().float()

    def bias(self) -> torch.Tensor:
        return self.made.bias.float() + self.shift * self.unit

    def before(self, x: torch.Tensor, factor: torch.Tensor | float = 1.0) -> torch.Tensor:
        """Integers less their zero-point (B, H, W, K), in steps of ``factor`` times the first: real values."""
        weight = self.rounded()
        conv = dataclasses.replace(self.conv, weight=weight, bias=torch.zeros(len(weight)))
        return conv.product(x) * (self.made.step.float() * factor) + self.bias()

    def coded(self, y: torch.Tensor, low: int = -128) -> tuple[torch.Tensor, torch.Tensor]:
        """(8-bit integers less their zero-point, the step's factor) of real outputs."""
        factor = self.log_factor.exp()
        zero = self.out.zero
        if self.format is not None:
            base = float(self.out.step[0] / self.format.factors[0]) * float(factor.detach())
            zero = self.format.zeros(base)
        zero = zero.float()
        q = round_through(y / (self.out.step.float() * factor)) + zero
        return q.clamp(low, 127) - zero, factor

    def learned(self, last: bool) -> Learned:
        with torch.no_grad():
            bias = None if last else self.bias().double()
            return Learned(self.made, self.rounded.learned(), bias, float(self.log_factor.exp()))


def local_output(layers: list[Layer], x: torch.Tensor) -> torch.Tensor:
    factor = 1.0
    for layer in layers[:-1]:
        x, factor = layer.coded(F.hardswish(layer.before(x, factor)))
    return layers[-1].before(x, factor)


def attention_parts(block: LiteMLA, layers: list[Layer], x: torch.Tensor) -> list[torch.Tensor]:
    """Real q | k | v of every scale."""
    real = lambda layer, q: q * layer.out.step.float()  # noqa: E731
    first = layers[0].coded(layers[0].before(x), -QMAX)[0]
    parts = [real(layers[0], first)]
    for i in range(len(block.branches)):
        depth, point = layers[1 + 2 * i : 3 + 2 * i]
        middle = depth.coded(depth.before(first))[0]
        parts.append(real(point, point.coded(point.before(middle), -QMAX)[0]))
    return parts


class BlockModel:
    """A block's trainable simulation, from the builder's states before it and behind it."""

    def __init__(self, b: Builder, block: Local | LiteMLA, x: Act, before: State, behind: State):
        self.block, self.x = block, b.integers(x)
        self.residual = b.real(x) if block.residual else None
        self.attention = isinstance(block, LiteMLA)
        if not self.attention:
            self.layers = [Layer(b, conv) for conv in block.layers]
            return
        convs = [block.qkv, *(conv for pair in block.branches for conv in pair), block.proj]
        self.layers = [Layer(b, conv) for conv in convs]
        self.made = b.acts[f"{block.name}.attend"]
        nodes, env = behind.nodes[len(before.nodes) :], dict(before.env)
        run = Golden(dataclasses.replace(b.graph, nodes=nodes, tensors=behind.tensors))
        for index in range(len(nodes)):
            run.step(index, env)
        exact = env[self.made.name].float().view(*self.x.shape[:3], -1) * self.made.step.float()
        # the points' and qkv's integers as they are: the rest of the difference is the integer attention's own
        parts = [b.acts[conv.name] for conv in (block.qkv, *(point for _, point in block.branches))]
        real = [env[p.name].float().view(*self.x.shape[:3], -1) * p.step.float() for p in parts]
        self.difference = exact - torch.cat([block.attend(p) for p in real], -1)

    def __call__(self, pick: torch.Tensor) -> torch.Tensor:
        """The block's real output (B, H, W, C) for the images ``pick``."""
        x = self.x[pick]
        if self.attention:
            parts = attention_parts(self.block, self.layers, x)
            y = torch.cat([self.block.attend(p) for p in parts], -1) + self.difference[pick]
            out = self.layers[-1].before(round_through(y / self.made.step.float()).clamp(-QMAX, QMAX))
        else:
            out = local_output(self.layers, x)
        return out if self.residual is None else out + self.residual[pick]


def train_block(model: BlockModel, target: torch.Tensor, trained: int, iterations: int, progress: bool = False) -> None:
    """On the first ``trained`` images against the float outputs ``target``."""
    groups = [
        dict(params=[layer.rounded.v for layer in model.layers], lr=WEIGHT_RATE),
        dict(params=[layer.shift for layer in model.layers], lr=BIAS_RATE),
        dict(params=[layer.log_factor for layer in model.layers if layer.format is not None], lr=STEP_RATE),
    ]
    weights = [layer.rounded for layer in model.layers]
    loss_of = lambda pick: (model(pick) - target[pick]).square().mean()  # noqa: E731
    watch = lambda numbers: steps(numbers, model.block.name, progress)  # noqa: E731
    train(groups, loss_of, weights, trained, iterations, watch=watch)


def squared_error(b: Builder, out: Act, target: torch.Tensor, images: slice) -> float:
    return float((b.real(out)[images] - target[images]).double().square().mean())


def reconstruct(
    b: Builder, block: Local | LiteMLA, x: Act, build: Callable, progress: bool = False
) -> tuple[Act, torch.Tensor]:
    """Build ``block`` behind ``x`` with learned rounding; ``build()`` gives (Act, float output) and may run twice.

    The graph's metadata gets the squared errors of the block's integer output before and after, on the training
    images and on the held-out ones.
    """
    before = b.state()
    out, target = build()
    first = b.state()
    images = len(b.stream.env[b.graph.input])
    trained = images - images // HELD_OUT
    parts = (slice(0, trained), slice(trained, None) if trained < images else slice(None))
    errors = [squared_error(b, out, target, p) for p in parts]
    b.restore(before)
    model = BlockModel(b, block, x, before, first)
    train_block(model, target, trained, ITERATIONS, progress)
    correct_last = b.scheme.bias_correction
    b.learned = {layer.conv.name: layer.learned(correct_last and layer is model.layers[-1]) for layer in model.layers}
    again, _ = build()
    b.learned = {}
    after = [squared_error(b, again, target, p) for p in parts]
    kept = after[1] < errors[1]
    if not kept:
        b.restore(first)
        after, again = errors, out
    notes = b.graph.meta.setdefault("reconstruction", {})
    notes[block.name] = dict(before=errors[0], after=after[0], held_out_before=errors[1], held_out_after=after[1])
    return again, target
