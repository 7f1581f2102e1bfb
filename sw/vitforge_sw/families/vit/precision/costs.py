"""What an assignment of weight bits costs: bytes, MACs x bits, or predicted cycles. Lower is better.

A cost is any function from {layer: bits} to a number. ``cycles_cost`` asks the
cycle model of a configuration that has a 4-bit datapath.
"""

from collections.abc import Callable, Mapping

from .search import FIXED, free

Cost = Callable[[Mapping[str, int]], float]


def table_cost(
    per_bit: Mapping[str, float], rate: Callable[[int], float] = lambda bits: bits, fixed: float = 0
) -> Cost:
    """Sum over layers of ``per_bit`` x ``rate(bits)``, and ``fixed``."""
    return lambda bits: fixed + sum(value * rate(bits[name]) for name, value in per_bit.items())


def mean_bits(weights: Mapping[str, int]) -> Cost:
    """Bits per weight over all layers of ``weights`` (layer: number), the fixed ones at 8 bits included."""
    total = sum(weights.values())
    return table_cost({n: weights[n] / total for n in free(weights)}, fixed=8 * sum(weights[n] for n in FIXED) / total)


def mean_mac_bits(weights: Mapping[str, int], tokens: int, prefix: int) -> Cost:
    """MACs x bits over MACs of the weight layers (P2-ViT's budget): the classifier runs on one token."""
    rows = {name: {"embed": tokens - prefix, "head": 1}.get(name, tokens) for name in weights}
    macs = {name: count * rows[name] for name, count in weights.items()}
    return mean_bits(macs)


def cycles_cost(quick: Callable[[Mapping[str, int]], float], config) -> Cost:
    """Predicted cycles an image on ``config``: ``quick`` (predict.CyclePredictor) knows them by each layer's bits.

    Raises ValueError where fewer bits save nothing on ``config``: the search would buy noise with no gain.
    """
    if not config.w4:
        raise ValueError(
            f"budget cycles: preset {config.name} has no faster 4-bit weights (w4 is false), all assignments take the "
            "same cycles; give another preset, or a budget by size or macs"
        )
    return quick
