"""``vitforge search``: the task from files, the budget's cost function, the plot of the front."""

import hashlib
import json
from dataclasses import asdict

from vitforge_sw.families.quantize import float_hash
from vitforge_sw.families.schemes import scheme_for
from vitforge_sw.families.vit.precision.costs import Cost, cycles_cost, mean_bits, mean_mac_bits
from vitforge_sw.families.vit.precision.run import Task, run
from vitforge_sw.families.vit.precision.search import layer_wbits
from vitforge_sw.families.vit.schemes import Scheme
from vitforge_sw.families.vit.walk import weight_layers
from vitforge_sw.models.files import some_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.pool import pool
from vitforge_sw.predict import CyclePredictor

from . import workers
from .api import FloatModel
from .estimation import model_shapes
from .rtl import load_config

STATE = "vitforge-search-4"  #: what a state file holds; one of another kind is not gone on with

__all__ = ["cost", "key", "layer_wbits", "plot", "pool", "run", "task", "worth_while"]


#: bits of a layer's weights by what counts: a file has any width, the machine multiplies by 4 and by 8 bits
WIDTHS = {"size": (4, 5, 6, 7), "macs": (4,), "cycles": (4,)}


def task(
    model: FloatModel, calib: str, base: str, options: dict, limit: int | None = None, widths: tuple[int, ...] = (4,)
) -> Task:  # fmt: skip
    """What a search needs; reads the images below ``calib`` and nothing else. Raises ValueError for other families."""
    scheme = scheme_for(model.model, base, **options)
    if not isinstance(scheme, Scheme):
        raise ValueError(f"search: mixed precision needs a ViT; {model.spec.name} is an EfficientViT")
    patches = load_patches(some_images(calib, limit), model.image)
    return Task(model.model, model.spec, model.image, scheme, patches, model.trained, widths)


def key(of: Task, model: FloatModel) -> str:
    """Names everything that sensitivities depend on."""
    parts = [STATE, float_hash(model.model), json.dumps(asdict(of.scheme)), json.dumps(of.widths)]
    parts.append(hashlib.sha256(of.patches.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def worth_while(of: Task) -> int:
    """Processes for a search: every layer's noise is about one evaluation of the images."""
    vit = of.vit()
    layers = weight_layers(vit)
    macs = sum(layer.weight.numel() for layer in layers.values()) * vit.tokens
    return workers.cores() if macs * len(of.patches) * len(layers) >= workers.WORTH else 1


def cost(name: str, of: Task, by: str, preset: str | None) -> tuple[Cost, Cost | None]:
    """Size (bits per weight), macs (bits per multiplication) or cycles (an image on ``preset``); and for cycles, which
    are summed up from single blocks, those of the compiled network."""
    vit = of.vit()
    weights = {n: layer.weight.numel() for n, layer in weight_layers(vit).items()}
    if by == "size":
        return mean_bits(weights), None
    if by == "macs":
        return mean_mac_bits(weights, vit.tokens, vit.prefix), None
    config = load_config(preset, None)
    predictor = CyclePredictor(model_shapes(name), config)
    return cycles_cost(predictor.quick, config), cycles_cost(predictor.exact, config)


def plot(result: dict, by: str, path: str) -> None:
    """Cost against predicted SQNR: the candidates, the front over budgets, the finalists as measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    unit = {"size": "bits per weight", "macs": "bits per multiplication", "cycles": "predicted cycles per image"}[by]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.plot(*zip(*result["front"], strict=True), "o-", label="Pareto front (predicted)")
    axes.plot(*zip(*result["candidates"], strict=True), ".", color="grey", label="candidates (predicted)")
    measured = [(c, db) for c, _, db, _ in result["finalists"]]
    axes.plot(*zip(*measured, strict=True), "x", color="red", markersize=9, label="finalists (measured)")
    axes.set_xlabel(unit)
    axes.set_ylabel("logit SQNR, dB (held-back calibration images)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
