"""Accuracy of an integer model, beside its float model: top-1, top-5, agreement, logit SQNR, images per second."""

import time
from pathlib import Path

import numpy as np
import torch

from .golden.model import Golden
from .graph.ir import Graph
from .models.images import ImageConfig, load_patches, patches_to_float
from .progress import steps


@torch.inference_mode()
def float_logits(
    model: torch.nn.Module, patches: np.ndarray, image: ImageConfig, batch: int = 8, progress: bool = False
) -> torch.Tensor:
    """The float model on the integer model's own input bytes: (B, classes)."""
    starts = steps(range(0, len(patches), batch), "float model", progress)
    return torch.cat([model(torch.from_numpy(patches_to_float(patches[i : i + batch], image))) for i in starts])


def real_logits(graph: Graph, logits: torch.Tensor) -> torch.Tensor:
    """Integer logits to real values."""
    return logits.double() * 2.0 ** graph.tensors[graph.output].exponent


def sqnr_db(reference: torch.Tensor, value: torch.Tensor) -> float:
    """Mean over rows of 10 log10(power of the reference / power of the error)."""
    reference, value = reference.double(), value.double()
    noise = (reference - value).square().sum(1).clamp(min=1e-30)
    return float((10 * torch.log10(reference.square().sum(1).clamp(min=1e-30) / noise)).mean())


def _hits(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, int]:
    top = logits.topk(min(5, logits.shape[1]), 1).indices
    right = top == labels[:, None]
    return {"top1": int(right[:, 0].sum()), "top5": int(right.any(1).sum())}


def evaluate(
    graph: Graph,
    images: list[Path] | np.ndarray,
    labels: list[int],
    float_model: torch.nn.Module | None = None,
    *,
    batch: int = 8,
    progress: bool = False,
) -> dict:
    """Run the golden model (and ``float_model``) on ``images``: files, or input bytes int8 (B, patches, K).

    Returns {images, top1, top5 (counts), images_per_second} and, with a float model, {agreement (percent of images
    with the float arg-max), logit_sqnr_db, float: {top1, top5, images_per_second}}. Rates leave decoding out.
    Raises ValueError for labels outside the classes and counts that differ.
    """
    image = ImageConfig.from_dict(graph.meta["image"])
    classes = graph.tensors[graph.output].channels
    if len(labels) != len(images) or len(labels) == 0:
        raise ValueError(
            f"evaluate: needs one label per image and at least one, not {len(labels)} for {len(images)} images"
        )
    if bad := next((v for v in labels if not 0 <= int(v) < classes), None):
        raise ValueError(f"evaluate: labels must be in 0..{classes - 1}, not {bad}")
    patches = images if isinstance(images, np.ndarray) else load_patches(list(images), image, progress)
    truth = torch.tensor([int(v) for v in labels])
    golden = Golden(graph)
    golden.logits(patches[:batch])  # warm caches: the rate is that of a long run
    start = time.perf_counter()
    integer = real_logits(graph, golden.logits(patches, batch, progress))
    result = {"images": len(patches), **_hits(integer, truth)}
    result["images_per_second"] = len(patches) / (time.perf_counter() - start)
    if float_model is not None:
        float_logits(float_model, patches[:batch], image, batch)
        start = time.perf_counter()
        reference = float_logits(float_model, patches, image, batch, progress)
        seconds = time.perf_counter() - start
        if reference.shape[1] != classes:
            raise ValueError(f"evaluate: the float model has {reference.shape[1]} classes, the integer model {classes}")
        result["agreement"] = 100 * float((integer.argmax(1) == reference.argmax(1)).double().mean())
        result["logit_sqnr_db"] = sqnr_db(reference, integer)
        result["float"] = {**_hits(reference, truth), "images_per_second": len(patches) / seconds}
    return result
