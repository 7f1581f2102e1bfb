"""Schemes of the EfficientViT family: every choice as one frozen value, the ablation's rows are replaced options."""

import dataclasses

CHOICES = dict(
    migration=("none", "pot", "exact", "channel"),
    divisors=("log2", "reciprocal", "uniform8", "exact"),
    divisor_gain=("none", "8/9", "head"),
    attention_scales=("layer", "head", "channel"),
    norm_input=("int12", "int8"),
    weight_rounding=("nearest", "gptq"),
    reconstruction=("none", "block"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrioScheme:
    """W8A8, weights symmetric per output channel, dyadic re-quantization, integer-only from input bytes to logits.

    Software-only options (the graph is refused by the compiler): migration exact and channel, divisors uniform8 and
    exact.
    """

    name: str
    #: scales of depthwise inputs. none: one per layer; pot: channel-wise migration, factors powers of two;
    #: exact: the released factors max_i / mean(max), clipped to 0.1..64; channel: a scale of its own per channel
    migration: str = "pot"
    depthwise_zero_point: bool = False  #: a layer zero-point at depthwise inputs (padding inserts it)
    #: filter-wise shifting: a zero-point per channel at the inputs of second pointwise layers, and one at that of the
    #: classifier's last layer, which follows a Hardswish, too
    shifting: bool = True
    pw2_factors: bool = False  #: a factor 2^{0,-1} per channel there, folded into the weights
    divisors: str = "log2"  #: log2: 4-bit codes and shifts; reciprocal: 8-bit mantissa
    #: log2 codes stand for gain * 2^-r, folded into the projection: none: 1; 8/9: the rule's mean; head: fitted
    divisor_gain: str = "8/9"
    #: layer: one each for q k v, Z and Ksum; head (the integer contract): Ksum per head, Z per head and column, v a
    #: power of two per channel; channel: any step for v, and q against k per head and channel
    attention_scales: str = "head"
    residual_factors: bool = False  #: residual stream: a power of two per channel, folded into its readers' weights
    norm_input: str = "int12"  #: the classifier's LayerNorm reads the 12-bit p, or int8
    head_zero_points: bool = False  #: zero-points and channel factors before and behind pooling
    bias_correction: bool = False  #: integer outputs get the float outputs' means over the calibration images
    weight_rounding: str = "nearest"  #: gptq: error compensation along the inputs (pointwise and linear layers)
    reconstruction: str = "none"  #: block: learned rounding, biases and activation steps, block by block

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"scheme {self.name}: {field} must be {' or '.join(allowed)}, not {getattr(self, field)!r}"
                )
        for field in dataclasses.fields(self):
            if field.type is bool and not isinstance(getattr(self, field.name), bool):
                raise ValueError(
                    f"scheme {self.name}: {field.name} must be true or false, not {getattr(self, field.name)!r}"
                )


TRIO_SCHEMES: dict[str, TrioScheme] = {
    s.name: s
    for s in (
        # the best that the hardware runs
        TrioScheme(
            name="vitforge", depthwise_zero_point=True, pw2_factors=True, divisors="reciprocal",
            attention_scales="channel", residual_factors=True, head_zero_points=True, bias_correction=True,
            weight_rounding="gptq",
        ),
        # Trio-ViT (2405.03882): symmetric layer-wise activations, migration, shifting, 4-bit log2 divisors; bias
        # correction stands where the paper reconstructs blocks with learned rounding (an option here)
        TrioScheme(name="trio", bias_correction=True),
    )
}  # fmt: skip


def get_trio_scheme(name: str, **options) -> TrioScheme:
    """A named scheme with options replaced; unknown names and options are a ValueError."""
    if name not in TRIO_SCHEMES:
        raise ValueError(f"scheme {name!r} is unknown for EfficientViT; schemes are {', '.join(sorted(TRIO_SCHEMES))}")
    known = {f.name for f in dataclasses.fields(TrioScheme)} - {"name"}
    if extra := sorted(set(options) - known):
        raise ValueError(f"scheme {name}: unknown option {extra[0]!r}; options are {', '.join(sorted(known))}")
    return dataclasses.replace(TRIO_SCHEMES[name], **options)
