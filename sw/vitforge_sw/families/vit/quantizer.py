"""The quantizer: walks the float model once, builds each integer node and executes it on the calibration images.

Every decision sees the integer tensors that the layer will really get, and the float tensors that it should produce.
Order of nodes in a block: for each head k, v, q, scores, softmax, attend; then proj, norm2, fc1, fc2.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ...graph.ir import Graph, Ref, Role, TensorInfo
from ...models.images import ImageConfig
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax
from ...progress import steps
from ...quant.quality import Quality
from ...quant.rounding import quantize_weight
from ...quant.scales import CANDIDATES, error, pot, quantize, scaled, search, search_ptf
from ...quant.stream import Act, Sampler, Stream, split_moment
from . import lower
from .bits import layer_name
from .frontend import Affine, FloatBlock, FloatViT, Norm, attention, layer_norm
from .hidden import GELU_LOW, plan_hidden, zero_point
from .outliers import stream_outliers
from .rotation import mixing, rotate
from .schemes import Scheme
from .smoothing import channel_exponents, query_key_exponents, smooth_linear, smooth_steps
from .values import value_steps

LARGEST = 2.0**60  #: squares of errors and their sums are single precision
POOL_ROOM = 1.3  #: averages of other images may exceed the calibration images' by this factor


def reach(norm: Norm) -> torch.Tensor:
    """The exponent at which no row can take LayerNorm's output beyond 127 steps: |z| is at most sqrt(C - 1)."""
    c = len(norm.gamma)
    top = float((norm.gamma.abs() * math.sqrt(c - 1) + norm.beta.abs()).max())
    return torch.tensor(math.ceil(math.log2(max(top, 2.0**-20) / 126)), dtype=torch.int32)


def halved(layer: Affine) -> Affine:
    return Affine(layer.weight / 2, layer.bias / 2)


def zeros(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int32)


class Quantizer:
    """Quantizes ``vit`` with ``scheme`` on calibration ``patches`` int8 (B, T - 1, K); ``run`` returns the graph."""

    def __init__(self, vit: FloatViT, image: ImageConfig, scheme: Scheme, patches: np.ndarray):
        self.vit, self.image, self.scheme = vit, image, scheme
        self.tokens = vit.tokens
        info = TensorInfo("input", patches.shape[1], patches.shape[2], "int8")
        self.graph = Graph([], {"input": info}, {}, "input", "head", {})
        self.stream = Stream(self.graph, patches)
        self.notes: list[str] = []
        self.quality = Quality()
        self.share = scheme.class_share if vit.pool == "token" else None  # nothing reads the class token alone
        self.sample = Sampler(len(patches), self.tokens, self.share)

    # ------------------------------------------------------------ pieces

    def _weights(self, name: str, x: Act, weight: torch.Tensor, bias: torch.Tensor, hessian):
        """(integers, accumulator exponents): the input's channel exponents are folded into the columns."""
        s, least = self.scheme, lower.least_exponents(bias)
        columns = weight * pot(x.exponent)
        return quantize_weight(
            columns, hessian[0], s.bits(name), s.weight_granularity, s.weight_rounding, least, hessian[1]
        )

    def _refitted(self, x: Act, weight: torch.Tensor, hessian, target: torch.Tensor) -> torch.Tensor:
        """Weights moved by ridge regression of what is missing from ``target`` (B, T, N) on the integer inputs.

        The layer then also undoes what earlier roundings did to its inputs, as far as the inputs tell.
        """
        ridge = self.scheme.weight_refit
        if ridge is None:
            return weight
        q = self.stream.env[x.name].float() - x.zero
        missing = target - F.linear(q, weight * pot(x.exponent))
        q = q - self.sample.mean(q)
        missing = (missing - self.sample.mean(missing)) * self.sample.weights[..., None]
        cross = missing.flatten(0, 1).T @ q.flatten(0, 1)
        diagonal = hessian[0].diagonal()
        damped = hessian[0].double() + torch.diag(ridge * diagonal + 1e-6 * diagonal.mean()).double()
        delta = torch.linalg.solve(damped, cross.double().T).T.float()
        return weight + delta * pot(-x.exponent)

    def hessian(self, x: Act, sample: Sampler | None = None) -> torch.Tensor:
        q = self.stream.env[x.name]
        if q.shape[1] != self.tokens:  # the classifier's input
            q = q.float().flatten(0, 1) - x.zero
            q = q - q.mean(0) if self.scheme.bias_correction else q
            return split_moment(q[:, None], torch.full((len(q), 1), 1 / len(q)))
        return (sample or self.sample).covariance(q.float() - x.zero, self.scheme.bias_correction)

    def _product(self, x: Act, weight: torch.Tensor, ea: torch.Tensor) -> torch.Tensor:
        """The layer's product without bias, real values (B, T, N)."""
        return F.linear(self.stream.env[x.name].float() - x.zero, weight * pot(ea)[:, None])

    def _corrected(self, name: str, product: torch.Tensor, bias: torch.Tensor, target: torch.Tensor, sample=None):
        """Bias such that the means over the calibration tokens are the float ones; the quality is noted."""
        if self.scheme.bias_correction:
            missing = target - product
            bias = missing.mean((0, 1)) if product.shape[1] != self.tokens else (sample or self.sample).mean(missing)
        self.quality.note(name, product + bias, target)
        return bias

    def _linear(self, name: str, role: Role, x: Act, weight, bias, ea, shifts, *, offset=0, info=None, **kw):
        """Append a Matmul; ``bias`` is real-valued and does not know the input's zero-point yet."""
        real = bias - scaled((weight @ x.zero.float()), ea)
        fields = lower.linear_fields(name, weight, real, ea, shifts, offset)
        node = Matmul(name=name, out=Ref(name), role=role, x=Ref(x.name), **fields, **kw)
        node = dataclasses.replace(node, weight_bits=self.scheme.stored_bits(layer_name(node)))
        return self.stream.add(node, info)

    def _norm(self, name: str, role: Role, norm: Norm, x: Act, e_out: torch.Tensor, tokens: int) -> Act:
        c = len(e_out)
        a = x.exponent - x.exponent.min() if self.graph.tensors[x.name].fmt == "int8" else zeros(c)
        fields = lower.layernorm_fields(norm.gamma, norm.beta, e_out, a)
        info = TensorInfo(name, tokens, c, "int8", self._single(e_out))
        self.stream.add(LayerNorm(name=name, out=Ref(name), role=role, x=Ref(x.name), **fields), info)
        return Act(name, e_out, zeros(c))

    @staticmethod
    def _single(e: torch.Tensor) -> int | None:
        return int(e.flatten()[0]) if bool((e == e.flatten()[0]).all()) else None

    # ------------------------------------------------------------ the residual stream

    def _residual(
        self, name: str, role: Role, x: Act, layer: Affine, before: Act, target: torch.Tensor, eight: bool = False
    ) -> Act:  # fmt: skip
        """A linear layer added to the residual stream: ``target`` is the float stream behind it. ``eight``: written in
        8 bits whatever the scheme's stream (the average over tokens reads it)."""
        eight = eight or self.scheme.residual == "ptf8"
        sample = self.errors_in(target)
        old, hessian = self.stream.real(before), self.hessian(x, sample)
        weight = self._refitted(x, layer.weight, hessian, target - old)
        weight, ea = self._weights(name, x, weight, layer.bias, hessian)
        product = self._product(x, weight, ea)
        bias = self._corrected(name, product + old, layer.bias, target, sample)
        h = product.add_(bias)
        n = h.shape[-1]
        out = self._stream_format(*sample.every(h + old), eight)
        ep = lower.p_exponents(ea, h.flatten(0, 1), out)
        out = lower.coarse_enough(out, ep, before.exponent)
        shifts = lower.shifts_residual(ea, ep, before.exponent, out)
        fmt = "int8" if eight else "int12"
        info = TensorInfo(name, self.tokens, n, fmt, self._single(out))
        self._linear(name, role, x, weight, bias, ea, shifts, info=info, residual=Ref(before.name))
        return Act(name, out, zeros(n))

    def _stream_format(self, rows: torch.Tensor, w: torch.Tensor, eight: bool) -> torch.Tensor:
        """Exponents of the residual stream's channels."""
        if eight:
            base, a = search_ptf(rows, w, -128, 127)
            return base + a
        return search(rows, w, -2048, 2047).expand(rows.shape[1])

    def _embed(self, target: torch.Tensor) -> Act:
        """Patch embedding of the bytes: mean and standard deviation folded in, position and class token as addend."""
        vit, cfg = self.vit, self.image
        area = cfg.patch_size**2
        std = torch.tensor(cfg.std).repeat_interleave(area) * 255
        centre = (128 / 255 - torch.tensor(cfg.mean).repeat_interleave(area)) * 255 / std
        weight = vit.embed.weight / std
        bias = vit.embed.bias + vit.embed.weight @ centre
        x = Act("input", zeros(weight.shape[1]), zeros(weight.shape[1]))
        q = self.stream.env["input"].float()
        q = q - q.mean((0, 1)) if self.scheme.bias_correction else q
        moments = split_moment(q, torch.full(q.shape[:2], 1 / q[..., 0].numel()))
        weight, ea = self._weights("embed", x, weight, bias, moments)
        product = self._product(x, weight, ea)
        addend, first = vit.addend.clone(), vit.prefix
        if self.scheme.bias_correction:
            bias = (target[:, first:] - addend[first:] - product).mean((0, 1))
        h = product + bias
        self.quality.note("embed", h + addend[first:], target[:, first:])
        out = self._stream_format(
            *self.errors_in(target).every(F.pad(h, (0, 0, first, 0)) + vit.addend), self.scheme.residual == "ptf8"
        )
        ep = lower.p_exponents(ea, h.flatten(0, 1), out)
        # the prefix tokens' rows have acc = 0 and still get the bias: take its exact contribution off the addend
        b = scaled(bias, -ea).round_()
        p0 = torch.floor(scaled(b, ea - ep) + 0.5).clamp_(-2048, 2047)
        addend[:first] -= scaled(p0, ep)
        e_pos = torch.ceil(torch.log2(addend.abs().max().clamp(min=1e-6) / 32767)).int()
        e_pos = torch.maximum(e_pos, out.min() - lower.P_FINEST)
        table = quantize(addend, e_pos, -32768, 32767)
        n = len(ea)
        self.graph.constants["pos_embed"] = table.numpy().astype(np.int16)
        self.graph.tensors["pos_embed"] = TensorInfo("pos_embed", self.tokens, n, "int16", int(e_pos))
        out = lower.coarse_enough(out, ep, e_pos)
        shifts = lower.shifts_residual(ea, ep, e_pos, out)
        fmt = "int8" if self.scheme.residual == "ptf8" else "int12"
        info = TensorInfo("embed", self.tokens, n, fmt, self._single(out))
        addend = dict(residual=Ref("pos_embed"), token_offset=-first)
        self._linear("embed", Role("embed"), x, weight, bias, ea, shifts, info=info, **addend)
        return Act("embed", out, zeros(n))

    # ------------------------------------------------------------ attention

    def _attention(self, name: str, block: int, b: FloatBlock, x: Act, fq, fk, fv, finer) -> tuple[Act, Affine]:
        """Heads of one block: the attention output, (H * d) channels, and proj with the heads' gains."""
        s, heads, d = self.scheme, b.heads, b.q.weight.shape[0] // b.heads
        hessian = self.hessian(x)
        parts = {}
        for part, layer, target in (("k", b.k, fk), ("v", b.v, fv), ("q", b.q, fq)):
            weight = self._refitted(x, layer.weight, hessian, target)
            weight, ea = self._weights(f"{name}.{part}", x, weight, layer.bias, hessian)
            product = self._product(x, weight, ea)
            bias = self._corrected(f"{name}.{part}", product, layer.bias, target)
            if part == "k" and s.center_keys and b.k_norm is None:
                bias = -self.sample.mean(product)
            parts[part] = (weight, ea, bias, product.add_(bias))
        tensor = f"{name}.attend"
        self.graph.tensors[tensor] = TensorInfo(tensor, self.tokens, heads * d, "int8")
        exponents = zeros(heads * d)
        for h in range(heads):
            exponents[h * d : (h + 1) * d] = self._head(name, block, h, d, x, parts, b, tensor, finer and finer[h])
        self.graph.tensors[tensor] = TensorInfo(tensor, self.tokens, heads * d, "int8", self._single(exponents))
        att = Act(tensor, exponents, zeros(heads * d))
        exact = attention(*(b.normed(p, parts[p][3]) for p in ("q", "k", "v")), heads, b.scale)
        return att, self._gained(b.proj, att, exact, heads)

    def _gained(self, proj: Affine, att: Act, exact: torch.Tensor, heads: int) -> Affine:
        """proj with each head's columns multiplied by the factor that fits the coded attention to the ``exact`` one.

        Both have the integer layers' q, k and v: the factor undoes only what the codes do on average. 4-bit codes that
        are not normalised by their sum (log2 without row factor) are off by a few percent.
        """
        if not self.scheme.attention_gain:
            return proj
        got = self.stream.real(att)
        w = self.sample.weights[..., None]
        weighted = lambda a, b: (a * b * w).sum((0, 1)).view(heads, -1).sum(1)  # noqa: E731
        gain = (weighted(got, exact) / weighted(got, got).clamp(min=1e-12)).clamp(0.75, 1.33)
        return Affine(proj.weight * gain.repeat_interleave(proj.weight.shape[1] // heads), proj.bias)

    def _head(
        self, name: str, block: int, h: int, d: int, x: Act, parts: dict, b: FloatBlock, tensor: str, finer: int | None
    ) -> torch.Tensor:
        s, t, scale = self.scheme, self.tokens, b.scale
        cut = slice(h * d, (h + 1) * d)
        real = {p: self.sample.every(b.normed(p, parts[p][3])[..., cut]) for p in parts}
        w = real["q"][1]
        e = {}
        norms = {"q": b.q_norm, "k": b.k_norm}
        if b.q_norm or b.k_norm:
            e["q"] = search(real["q"][0], w, -128, 127).expand(d)
            e["k"] = search(real["k"][0], w, -127, 127).expand(d) if b.k_norm is None else reach(b.k_norm).expand(d)
        else:
            e["q"], e["k"] = query_key_exponents(real["q"][0], real["k"][0], w, s.query_exponents == "channel")
        if finer is not None:
            e["v"] = torch.full((d,), finer, dtype=torch.int32)
        elif s.value_exponents == "channel":
            e["v"] = channel_exponents(real["v"][0], w, -128, 127)
        else:
            e["v"] = search(real["v"][0], w, -128, 127).expand(d)
        for part in ("k", "v", "q"):
            weight, ea, bias, _ = parts[part]
            node = f"{name}.{part}.h{h}"
            norm = norms.get(part)
            if norm is None:
                e[part] = lower.reachable(ea[cut], e[part])
                _, shifts = lower.shifts_plain(ea[cut], e[part])
                info = TensorInfo(node, t, d, "int8", self._single(e[part]))
            else:  # LayerNorm reads 12 bits
                raw = search(self.sample.every(parts[part][3][..., cut])[0], w, -2048, 2047)
                shifts = lower.shifts_given_p(ea[cut], torch.maximum(ea[cut], raw), raw)
                info = TensorInfo(node, t, d, "int12", int(raw))
            narrow = part == "k" and norm is None
            self._linear(
                node, Role(part, block, h), x, weight[cut], bias[cut], ea[cut], shifts, info=info, narrow=narrow
            )
            if norm is not None:
                normed = f"{name}.{part}_norm.h{h}"
                before = Act(node, raw.expand(d), zeros(d))
                self._norm(normed, Role(f"{part}_norm", block, h), norm, before, e[part], t)
                self.stream.drop(node)
        node, env = f"{name}.scores.h{h}", self.stream.env
        q, k, v = (Ref(f"{name}.{p}{'_norm' if norms.get(p) else ''}.h{h}") for p in ("q", "k", "v"))
        ea = int(e["q"][0] + e["k"][0])
        some = slice(0, min(16, len(env[q.name])))
        acc = env[q.name][some].float() @ env[k.name][some].float().transpose(1, 2)
        es = self._scores_exponent(acc, ea, scale)
        s1, s2 = lower.scores_shifts(ea, es)
        role = Role("scores", block, h)
        scores = Scores(name=node, out=Ref(node), role=role, q=q, k=k, s1=s1, s2=s2)
        self.stream.add(scores, TensorInfo(node, t, t, "int8", es))
        c, sc = lower.softmax_constants(scale, es)
        soft = f"{name}.softmax.h{h}"
        role = Role("softmax", block, h)
        softmax = Softmax(name=soft, out=Ref(soft), role=role, x=Ref(node), rule=s.rule, c=c, sc=sc)
        self.stream.add(softmax, TensorInfo(soft, t, t, "code4"))
        # the attention output is an average of values: it may have finer steps than they have
        att = f"{name}.attend.h{h}"
        out = Ref(tensor, h * d, d)
        if finer is None:
            finer = self._average_steps(acc * (2.0**ea * scale), env[v.name][some])
        else:
            finer = -finer
        shift = lower.attend_shift(0, finer, s.row_factor)
        role = Role("attend", block, h)
        self.stream.add(Attend(
            name=att, out=out, role=role, codes=Ref(soft), v=v, rule=s.rule, shift=shift, factor=s.row_factor
        ))  # fmt: skip
        self.stream.drop(q.name, k.name, v.name, node, soft)
        return e["v"] + finer

    @staticmethod
    def _average_steps(scores: torch.Tensor, v: torch.Tensor) -> int:
        steps = (torch.softmax(scores, -1) @ v.float()).flatten(0, 1)
        even = torch.full((len(steps),), 1 / len(steps))
        errors = {o: float(error(steps, o, -128, 127, even).sum()) for o in (-4, -3, -2, -1, 0)}
        return min(errors, key=errors.get)

    def _scores_exponent(self, acc: torch.Tensor, ea: int, scale: float) -> int:
        """The exponent of int8 scores with the least error of the softmax's output."""
        x = acc * (2.0**ea)
        want = torch.softmax(x * scale, -1)
        first = int(torch.floor(torch.log2(x.abs().max().clamp(min=1e-6) / 127)))
        best = None
        for e in range(max(ea, first - 2), max(ea, first + 1) + 1):
            got = torch.softmax(quantize(x, e, -128, 127) * (2.0**e * scale), -1)
            err = float((got - want).square().mean())
            if best is None or err < best[0]:
                best = (err, e)
        return best[1]

    # ------------------------------------------------------------ MLP

    def _units(self, name: str, block: int, x: Act, fc1: Affine, b: FloatBlock, n2, fx) -> tuple[Act, Affine]:
        """The hidden tensor with steps chosen unit by unit, and fc2 for it.

        ``fc1``: as folded for x; ``b``: the float block, n2 and fx its float LayerNorm output and stream behind it.
        """
        sample = self.errors_in(fx)
        f1 = F.linear(n2, b.fc1.weight, b.fc1.bias)
        if not (reached := float(f1.abs().max())) < LARGEST:  # also where it is not a number
            raise ValueError(f"{name}.fc1: outputs on the calibration images must be below 2^60, reach {reached:.3g}")
        coarsest = torch.floor(torch.log2(fc1.weight.abs().max().clamp(min=1e-9) / 127)) + max(CANDIDATES)
        finest = max(3, -int(torch.maximum(coarsest, lower.least_exponents(fc1.bias).max())))
        plan = plan_hidden(*sample.every(f1), sample.rows(f1), sample.w, b.fc2.weight, finest)
        self.notes += [f"{name}.fc1: {note}" for note in plan.notes]
        exact, layer, hessian = plan.fc1(b.fc1), plan.fc1(fc1), self.hessian(x)
        weight, ea = self._weights(f"{name}.fc1", x, layer.weight, layer.bias, hessian)
        target = F.linear(n2, exact.weight, exact.bias)
        bias = self._corrected(f"{name}.fc1", self._product(x, weight, ea), layer.bias, target)
        role = Role("mlp.fc1", block)
        hidden = self._gelu(f"{name}.fc1", role, x, weight, bias, ea, plan.gelu_exp, plan.exponent, GELU_LOW)
        return hidden, plan.fc2(b.fc2)

    def _gelu(self, name: str, role: Role, x: Act, weight, bias, ea, exp: int, e: torch.Tensor, low: float) -> Act:
        """Append a linear layer with GELU of inputs with ``exp`` fraction bits, output from ``low`` in steps of 2^e."""
        n = len(ea)
        if exp > -int(ea.max()):
            raise ValueError(f"{name}: weights are too coarse for GELU's input (exponent {int(ea.max())}, most {-exp})")
        zero = zero_point(e, low) if low else zeros(n)
        shifts = lower.shifts_given_p(ea, torch.full((n,), -exp, dtype=torch.int32), e)
        info = TensorInfo(name, self.tokens, n, "int8", self._single(e), self._single(zero) or 0)
        self._linear(name, role, x, weight, bias, ea, shifts, offset=zero, info=info, act="gelu", gelu_exp=exp)
        return Act(name, e, zero)

    def errors_in(self, stream: torch.Tensor) -> Sampler:
        """Weights of rows for errors that go into the residual ``stream`` (B, T, C)."""
        return self.sample.relative(stream) if self.scheme.relative_errors else self.sample

    def _hidden(self, name: str, role: Role, x: Act, layer: Affine, after: Affine, target: torch.Tensor) -> Act:
        """fc1 with GELU; int8 output with zero-point, scales per channel where fc2 may absorb them."""
        s, hessian = self.scheme, self.hessian(x)
        weight = self._refitted(x, layer.weight, hessian, target)
        weight, ea = self._weights(name, x, weight, layer.bias, hessian)
        product = self._product(x, weight, ea)
        bias = self._corrected(name, product, layer.bias, target)
        product.add_(bias)
        top = product.amax((0, 1))  # GELU of the largest input is that input
        p, w = self.sample.rows(product), self.sample.w
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
        return self._gelu(name, role, x, weight, bias, ea, exp, e, low)

    def _rectified(self, name: str, role: Role, x: Act, layer: Affine, target: torch.Tensor) -> Act:
        """fc1 with ReLU: the zero-point is the lowest code, where negative values end; one scale."""
        hessian = self.hessian(x)
        weight = self._refitted(x, layer.weight, hessian, target)
        weight, ea = self._weights(name, x, weight, layer.bias, hessian)
        product = self._product(x, weight, ea)
        bias = self._corrected(name, product, layer.bias, target)
        product.add_(bias)
        p, n = F.relu(self.sample.rows(product)), len(ea)
        e = search(p, self.sample.w, 0, 255, top=product.amax((0, 1)).clamp(min=0)).expand(n)
        ep = torch.maximum(ea, e - lower.P_MORE + 1)  # 255 steps within the 11 bits that p has above zero
        zero = torch.full((n,), -128, dtype=torch.int32)
        info = TensorInfo(name, self.tokens, n, "int8", self._single(e), -128)
        shifts = lower.shifts_given_p(ea, ep, e)
        self._linear(name, role, x, weight, bias, ea, shifts, offset=zero, info=info, act="relu")
        return Act(name, e, zero)

    # ------------------------------------------------------------ the walk

    def _smoothed(self, name: str, y: torch.Tensor, norm: Norm, layers: Sequence[Affine]):
        """(exponents of the LayerNorm's output, LayerNorm, layers behind it) for float outputs y (B, T, C)."""
        s = self.scheme
        if y.shape[1] != self.tokens:  # the classifier's input
            x = y.flatten(0, 1)
            w = torch.full((len(x),), 1 / len(x))
        else:
            x, w = self.sample.rows(y), self.sample.w
        stacked = torch.cat([layer.weight for layer in layers])
        if s.smoothing_factors != "real":
            linear = s.smoothing_factors == "pot_linear"
            return smooth_linear(x, w, stacked, s.smoothing, -128, 127, s.bits(name), linear=linear), norm, layers
        step, centre = smooth_steps(x, w, stacked, s.smoothing, -128, 127, s.bits(name))
        folded = tuple(Affine(a.weight * step, a.bias + a.weight @ centre) for a in layers)
        return zeros(len(step)), Norm(norm.gamma / step, (norm.beta - centre) / step, norm.eps), folded

    def _block(self, i: int, b: FloatBlock, x: Act, fx: torch.Tensor) -> tuple[Act, torch.Tensor]:
        name, s = f"blocks.{i}", self.scheme
        n1 = layer_norm(fx, b.norm1)
        e1, norm1, (bq, bk, bv) = self._smoothed(f"{name}.attn.q", n1, b.norm1, (b.q, b.k, b.v))
        q, k, v = (F.linear(n1, a.weight, a.bias) for a in (b.q, b.k, b.v))
        y = self._norm(f"{name}.norm1", Role("norm1", i), norm1, x, e1, self.tokens)
        fa = attention(b.normed("q", q), b.normed("k", k), v, b.heads, b.scale)
        folded, finer = dataclasses.replace(b, q=bq, k=bk, v=bv), None
        if s.value_exponents == "real":
            step, finer = value_steps(v, fa, b.proj.weight, b.heads)
            v = v / step
            folded.v = Affine(bv.weight / step[:, None], bv.bias / step)
            folded.proj = Affine(b.proj.weight * step, b.proj.bias)
        att, proj = self._attention(f"{name}.attn", i, folded, y, q, k, v, finer)
        fx = fx + F.linear(fa, b.proj.weight, b.proj.bias)
        last = i == len(self.vit.blocks) - 1
        if last and s.last_share is not None and self.vit.pool == "token":
            self.sample.set_share(s.last_share, self.tokens)
        middle = self._residual(f"{name}.attn.proj", Role("attn.proj", i), att, proj, x, fx)
        self.stream.drop(x.name, y.name, att.name)
        n2 = layer_norm(fx, b.norm2)
        e2, norm2, (fc1,) = self._smoothed(f"{name}.mlp.fc1", n2, b.norm2, (b.fc1,))
        y = self._norm(f"{name}.norm2", Role("norm2", i), norm2, middle, e2, self.tokens)
        f1 = F.linear(n2, b.fc1.weight, b.fc1.bias)
        fx = fx + F.linear(b.activation(f1), b.fc2.weight, b.fc2.bias)
        role, fc2 = Role("mlp.fc1", i), b.fc2
        if b.act == "relu":
            hidden = self._rectified(f"{name}.mlp.fc1", role, y, fc1, f1)
        elif s.hidden_steps == "unit":
            hidden, fc2 = self._units(f"{name}.mlp", i, y, fc1, b, n2, fx)
        else:
            hidden = self._hidden(f"{name}.mlp.fc1", role, y, fc1, b.fc2, f1)
        eight = last and self.vit.pool == "before"
        out = self._residual(f"{name}.mlp.fc2", Role("mlp.fc2", i), hidden, fc2, middle, fx, eight)
        self.stream.drop(middle.name, y.name, hidden.name)
        return out, fx

    def _head_layer(self, x: Act, fx: torch.Tensor) -> None:
        """LayerNorm and classifier on token 0; of a distilled model half of it, added to half of the one on token 1."""
        vit = self.vit
        if vit.pool != "token":
            return self._pooled_head(x, fx)
        layers = [vit.head] if vit.head_dist is None else [halved(vit.head), halved(vit.head_dist)]
        n = layer_norm(fx[:, : len(layers)], vit.norm)
        want = [F.linear(n[:, i : i + 1], layer.weight, layer.bias) for i, layer in enumerate(layers)]
        e, norm, layers = self._smoothed("head", n, vit.norm, layers)
        y = self._norm("norm", Role("norm"), norm, x, e, len(layers))
        before = self._classifier("head_dist", y, layers[1], want[1], token=1) if len(layers) > 1 else None
        self._classifier("head", y, layers[0], want[0], before=before)

    def _pooled_head(self, x: Act, fx: torch.Tensor) -> None:
        """The average over tokens before LayerNorm or behind it, and the classifier."""
        vit = self.vit
        n = vit.pooled(fx)
        if vit.pool == "before":
            e, norm, (head,) = self._smoothed("head", n, vit.norm, [vit.head])
            y = self._norm("norm", Role("norm"), norm, self._average(x), e, 1)
        else:
            e, norm, (head,) = self._smoothed("head", layer_norm(fx, vit.norm), vit.norm, [vit.head])
            y = self._average(self._norm("norm", Role("norm"), norm, x, e, self.tokens))
        self._classifier("head", y, head, F.linear(n, vit.head.weight, vit.head.bias))

    def _average(self, x: Act) -> Act:
        """The average over tokens of an int8 tensor: attention with the weight 1 for every token that counts, head by
        head; it may have finer steps than the tokens."""
        vit, c, heads = self.vit, len(x.exponent), self.vit.blocks[0].heads
        row = np.zeros((1, self.tokens), np.int8)
        row[0, : 0 if vit.pool_prefix else vit.prefix] = -128
        self.graph.constants["pool.scores"] = row
        self.graph.tensors["pool.scores"] = TensorInfo("pool.scores", 1, self.tokens, "int8", 0)
        top = float((vit.average(self.stream.real(x)) * pot(-x.exponent)).abs().max())
        finer = max(-4, math.ceil(math.log2(max(top, 1e-6) * POOL_ROOM / 127)))
        exponents = x.exponent + min(finer, 0)
        self.graph.tensors["pool"] = TensorInfo("pool", 1, c, "int8", self._single(exponents))
        d = c // heads
        for h in range(heads):
            codes, cut = f"pool.softmax.h{h}", (h * d, d)
            self.stream.add(Softmax(
                name=codes, out=Ref(codes), role=Role("pool.softmax", head=h), x=Ref("pool.scores"), rule="maxrel",
                c=(1 << 10) - 1, sc=0,
            ), TensorInfo(codes, 1, self.tokens, "code4"))  # fmt: skip
            self.stream.add(Attend(
                name=f"pool.attend.h{h}", out=Ref("pool", *cut), role=Role("pool.attend", head=h), codes=Ref(codes),
                v=Ref(x.name, *cut), rule="maxrel", shift=lower.attend_shift(0, min(finer, 0), True), factor=True,
            ))  # fmt: skip
        return Act("pool", exponents, zeros(c))

    def _classifier(
        self, name: str, y: Act, layer: Affine, want: torch.Tensor, token: int = 0, before: Act | None = None
    ) -> Act:  # fmt: skip
        """Logits (12 bits) of one token, added to those ``before``; ``want`` (B, 1, N): in float."""
        weight, ea = self._weights(name, y, layer.weight, layer.bias, self.hessian(y))
        product = self._product(y, weight, ea)[:, token : token + 1]
        bias = self._corrected(name, product, layer.bias, want)
        part = product.add_(bias)
        logits = part[:, 0] if before is None else (part + self.stream.real(before))[:, 0]
        out = search(logits, torch.full((len(want),), 1 / len(want)), -2048, 2047, least=int(ea.max()))
        more: dict = dict(token_offset=token)
        if before is None:
            shifts = lower.shifts_given_p(ea, out, out)
        else:
            out = torch.maximum(out, before.exponent.max())
            ep = lower.p_exponents(ea, part.flatten(0, 1), out)
            shifts = lower.shifts_residual(ea, ep, before.exponent, out)
            more["residual"] = Ref(before.name)
        info = TensorInfo(name, 1, len(ea), "int12", int(out))
        self._linear(name, Role(name), y, weight, bias, ea, shifts, info=info, **more)
        return Act(name, out.expand(len(ea)), zeros(len(ea)))

    @torch.inference_mode()
    def run(self, progress: bool = True) -> Graph:
        from ...models.images import patches_to_float

        patches = self.stream.env["input"].numpy()
        cfg = self.image
        pixels = torch.from_numpy(patches_to_float(patches, cfg))
        fx = self.vit.embedding(F.unfold(pixels, cfg.patch_size, stride=cfg.patch_size).transpose(1, 2))
        del pixels
        if self.scheme.rotation == "mixing":
            done = "spread by the rotation"
            self.notes += [f"{note}; {done}" for note in stream_outliers(self.vit, fx)]
            r = mixing(self.vit.channels)
            self.vit, fx = rotate(self.vit, r), (fx.double() @ r).float()
        x = self._embed(fx)
        for i, b in enumerate(steps(self.vit.blocks, "blocks", progress)):
            x, fx = self._block(i, b, x, fx)
        self._head_layer(x, fx)
        self.graph.meta["treated"] = self.notes
        return self.graph
