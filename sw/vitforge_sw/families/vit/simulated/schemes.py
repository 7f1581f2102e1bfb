"""Published schemes as points in one space of strategies; a new strategy is a function in its file, named here."""

import dataclasses
import fnmatch

#: names of ``observers`` and ``transforms``: a command line is refused without loading PyTorch (a test compares)
OBSERVERS = ("minmax", "ema", "percentile", "omse")
TRANSFORMS = ("none", "ptf", "smoothquant", "repq")
FLOAT_SCALES = "real-valued scales need multipliers where a ViT preset shifts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulated:
    """A scheme that is simulated in float. The accelerator cannot run it: ``reason``."""

    name: str
    source: str  #: publication
    reason: str = FLOAT_SCALES  #: why compile cannot take it
    published: float | None = None  #: DeiT-Tiny top-1 on ImageNet-1k in the publication (float: 72.2)
    wbits: int = 8  #: bits of weights
    abits: int = 8  #: bits of activations
    attention_bits: int = 8  #: bits of softmax codes
    observer: str = "minmax"  #: minmax | ema | percentile | omse
    symmetric: bool = False  #: activations without zero-point
    granularity: str = "tensor"  #: of activations: tensor | group | channel
    channel_sites: tuple[str, ...] = ()  #: patterns of sites that are quantized per channel whatever granularity says
    weight_granularity: str = "channel"  #: tensor | group | channel
    rounding: str = "nearest"  #: of weights: nearest | gptq
    transform: str = "none"  #: at LayerNorm's outputs: none | ptf | smoothquant | repq
    stream: str = "float"  #: residual stream: float (as most publications) | none | ptf, quantized so
    scores: bool = False  #: scores before softmax are quantized
    softmax: str = "uniform"  #: uniform | log2 | log_sqrt2 | adalog | twin | log_int | shiftmax
    hidden: str = "uniform"  #: GELU's output: uniform | twin
    gelu: str = "exact"  #: exact | i_gelu | shift_gelu

    def __post_init__(self):
        allowed = dict(
            observer=OBSERVERS, transform=TRANSFORMS, granularity=("tensor", "group", "channel"),
            weight_granularity=("tensor", "group", "channel"), rounding=("nearest", "gptq"),
            softmax=("uniform", "log2", "log_sqrt2", "adalog", "twin", "log_int", "shiftmax"),
            hidden=("uniform", "twin"), gelu=("exact", "i_gelu", "shift_gelu"), stream=("float", "none", "ptf"),
        )  # fmt: skip
        for field, values in allowed.items():
            if (value := getattr(self, field)) not in values:
                raise ValueError(f"scheme {self.name}: {field} must be {' or '.join(values)}, not {value!r}")
        for field in ("wbits", "abits", "attention_bits"):
            if not 2 <= (bits := getattr(self, field)) <= 8:
                raise ValueError(f"scheme {self.name}: {field} must be in 2..8, not {bits}")

    def per(self, site: str) -> str:
        """Granularity of a site's activations."""
        return "channel" if any(fnmatch.fnmatchcase(site, p) for p in self.channel_sites) else self.granularity


FQ = dict(source="2111.13824", observer="minmax", transform="ptf", stream="ptf", scores=True)
SIMULATED: dict[str, Simulated] = {
    s.name: s
    for s in (
        *(Simulated(name=o, source="observer alone", observer=o) for o in OBSERVERS),
        Simulated(name="minmax_symmetric", source="granularity", symmetric=True),
        Simulated(name="layerwise", source="granularity", weight_granularity="tensor"),
        Simulated(name="groupwise", source="2109.12948", granularity="group", weight_granularity="group"),
        Simulated(
            name="channelwise", source="granularity", granularity="channel",
            reason="scales per input channel do not come out of a matrix product",
        ),
        Simulated(
            name="selective", source="LayerNorm and fc2's inputs of the middle blocks per channel",
            channel_sites=("*.norm?", "blocks.5.mlp.fc1", "blocks.6.mlp.fc1"),
            reason="fc2's input per channel needs real factors behind GELU",
        ),
        Simulated(name="fqvit_888", **FQ),
        Simulated(
            name="fqvit_884", **FQ, softmax="log_int", attention_bits=4, published=71.07,
            reason="log-int-softmax divides; " + FLOAT_SCALES,
        ),
        Simulated(
            name="ptq4vit", source="2111.12293", softmax="twin", hidden="twin", symmetric=True,
            reason="codes of two ranges have no decoder before the multipliers",
        ),
        Simulated(name="repq", source="2212.08254", transform="repq", softmax="log_sqrt2", published=71.94),
        Simulated(
            name="repq_884", source="2212.08254, 4-bit attention", transform="repq", softmax="log_sqrt2",
            attention_bits=4, reason="odd codes of log-sqrt2 need a multiplication by sqrt 2",
        ),
        Simulated(name="smoothquant", source="2211.10438", transform="smoothquant", symmetric=True),
        Simulated(
            name="ivit", source="2207.01405, without its training", symmetric=True, scores=True, softmax="shiftmax",
            gelu="shift_gelu", stream="none", published=72.24, reason="Shiftmax and ShiftGELU have no unit",
        ),
        Simulated(
            name="ibert", source="2101.01321, its GELU", symmetric=True, gelu="i_gelu", reason="i-GELU has no unit",
        ),
        Simulated(
            name="adalog_884", source="2407.12951, its attention codes", softmax="adalog", attention_bits=4,
            reason="a searched logarithm base needs a multiplier per code",
        ),
        Simulated(name="gptq", source="2210.17323", rounding="gptq"),
    )
}  # fmt: skip
