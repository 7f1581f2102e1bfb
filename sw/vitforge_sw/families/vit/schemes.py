"""Schemes: every choice that a quantizer has, as one frozen value; the named schemes are points in this space.

Another scheme is another entry of ``SCHEMES``; another idea is another field, read in one place.
"""

import dataclasses
import fnmatch

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  #: penalties that held-back images choose from
ENDS = ("embed", "head", "head_dist")  #: layers that ``wbits`` leaves at 8 bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
    """All scales are powers of two and the model is integer-only from input bytes to logits."""

    name: str
    wbits: int = 8  #: bits of a weight, 2 to 8; below 8 embedding and classifier keep 8
    layer_wbits: tuple[tuple[str, int], ...] = ()  #: (name pattern, bits), the first match counts: mixed precision
    rule: str = "maxrel"  #: softmax codes: maxrel | log2
    row_factor: bool = True  #: multiply attention x value by 1 / sum of the codes' weights
    residual: str = (
        "int12"  #: residual stream: int12 (one scale per tensor) | ptf8 (8 bits, exponents 0..3 per channel)
    )
    smoothing: tuple[float, ...] = (0.35, 0.40, 0.45, 0.50, 0.55)  #: candidates of alpha, LayerNorm -> linear; () = off
    smoothing_factors: str = "pot"  #: pot | pot_linear (rounded on the linear scale) | real, with centres
    rotation: str = "none"  #: of the residual stream: none | mixing (all channels; spreads its outliers)
    hidden_steps: str = "tensor"  #: of GELU's output: one for all (tensor) | unit (massive units divided and split)
    relative_errors: bool = False  #: errors in the stream count relative to their token's deviation, as LayerNorm sees
    weight_granularity: str = "channel"  #: a weight scale per output channel | layer
    weight_rounding: str = "nearest"  #: nearest | gptq (compensated along K) | chosen (either, by held-back images)
    weight_refit: float | None = None  #: ridge of a least-squares refit of each layer to the float outputs (None: off)
    bias_correction: bool = False  #: integer outputs get the float outputs' means over the calibration images
    gelu_zero_point: bool = True  #: GELU's output uses the whole int8 range
    hidden_octaves: int = 0  #: small channels of fc2's input get steps finer by up to so many octaves
    value_exponents: str = "tensor"  #: scale of v: one per head (tensor) | channel | real: folded into proj
    octaves: bool = False  #: real factors of value, query and key channels that suit rows of up to 4 bits
    query_exponents: str = "tensor"  #: scales of q and k: one per head | channel (their product stays one scale)
    attention_gain: bool = True  #: least-squares factor per head, coded to float attention, folded into proj's weights
    center_keys: bool = False  #: subtract k's mean over tokens (softmax does not see it)
    class_share: float | None = None  #: weight of the class token in errors and means (None: as any token)
    last_share: float | None = None  #: the same behind the last attention, where nothing else reaches the classifier
    reconstruction: str = "none"  #: block: learned roundings of weights and biases, branch by branch of a block

    def __post_init__(self):
        choices = dict(
            reconstruction=("none", "block"),
            rule=("maxrel", "log2"),
            residual=("int12", "ptf8"),
            smoothing_factors=("pot", "pot_linear", "real"),
            rotation=("none", "mixing"),
            hidden_steps=("tensor", "unit"),
            weight_granularity=("channel", "layer"),
            weight_rounding=("nearest", "gptq", "chosen"),
            value_exponents=("tensor", "channel", "real"),
            query_exponents=("tensor", "channel"),
        )
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"scheme {self.name}: {field} must be {' or '.join(allowed)}, not {getattr(self, field)!r}"
                )
        if self.rule == "maxrel" and not self.row_factor:
            raise ValueError(f"scheme {self.name}: maxrel codes need row_factor, which is off")
        for what, bits in (("wbits", self.wbits), *self.layer_wbits):
            if not 2 <= bits <= 8:
                raise ValueError(f"scheme {self.name}: {what} must be in 2..8, not {bits}")
        for what, share in (("class_share", self.class_share), ("last_share", self.last_share)):
            if share is not None and not 0 < share < 1:
                raise ValueError(f"scheme {self.name}: {what} must be in (0, 1), not {share}")

    def bits(self, layer: str) -> int:
        """Weight bits of a layer: ``embed``, ``blocks.B.attn.{q,k,v,proj}``, ``blocks.B.mlp.{fc1,fc2}``, ``head``.

        ``wbits`` is not for the ends, which 4 bits hurt most and where they save least; a pattern may name them.
        """
        others = 8 if layer in ENDS else self.wbits
        return next((bits for pattern, bits in self.layer_wbits if fnmatch.fnmatchcase(layer, pattern)), others)

    def ridges(self, layer: str) -> tuple[float, ...]:
        """Candidate penalties of a layer's refit (``quant.refit``); none: no refit."""
        if self.weight_refit is not None:
            return () if layer in ENDS else (self.weight_refit,)
        few = min(self.wbits, *(bits for _, bits in self.layer_wbits), 8) <= 4
        return RIDGES if few and self.weight_rounding == "chosen" else ()


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        # the best that the hardware runs
        Scheme(
            name="vitforge",
            smoothing_factors="real",
            rotation="mixing",
            hidden_steps="unit",
            relative_errors=True,
            weight_rounding="chosen",
            bias_correction=True,
            value_exponents="real",
            query_exponents="channel",
            octaves=True,
            center_keys=True,
            class_share=0.2,
        ),
        # P2-ViT (2405.19915): adaptive rounding, PTF, log2 codes, PoT-aware smoothing; ours: weights per channel, and
        # two that cost nothing in hardware, attention_gain and class_share (worth 0.4 and 0.5 dB on DeiT-Tiny)
        Scheme(name="p2vit", rule="log2", row_factor=False, residual="ptf8", class_share=0.2),
        # the same without anything of ours: weights per layer, factors rounded in the linear domain, signed GELU output
        Scheme(
            name="p2vit_literal",
            rule="log2",
            row_factor=False,
            residual="ptf8",
            smoothing_factors="pot_linear",
            weight_granularity="layer",
            gelu_zero_point=False,
            attention_gain=False,
        ),
    )
}


def get_scheme(name: str, **options) -> Scheme:
    """A named scheme with options replaced; unknown names and options are a ValueError."""
    if name not in SCHEMES:
        raise ValueError(f"scheme {name!r} is unknown; schemes are {', '.join(sorted(SCHEMES))}")
    known = {f.name for f in dataclasses.fields(Scheme)} - {"name"}
    if extra := sorted(set(options) - known):
        raise ValueError(f"scheme {name}: unknown option {extra[0]!r}; options are {', '.join(sorted(known))}")
    return dataclasses.replace(SCHEMES[name], **options)
