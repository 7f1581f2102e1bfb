"""Accuracy of an integer model, beside its float model: top-1, top-5, agreement, logit SQNR, images per second."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from .golden.model import Golden
from .graph.ir import Graph
from .models.images import ImageConfig, load_patches, patches_to_float
from .progress import steps
from .shards import Shard, merged


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


@dataclasses.dataclass(frozen=True)
class Work:
    """What one process measures: the integer model and the float one on its own images."""

    graph: Graph
    float_model: torch.nn.Module | None
    shard: Shard
    batch: int

    def run(self, patches: np.ndarray, progress: bool) -> dict:
        """{integer, float: logits of these images; seconds, float_seconds}: float only with a float model."""
        golden, image = Golden(self.graph), ImageConfig.from_dict(self.graph.meta.get("image"))
        warm = patches[: self.batch]  # caches: the rate is that of a long run
        golden.logits(warm)
        self.shard.together()
        start = time.perf_counter()
        found = {"integer": real_logits(self.graph, golden.logits(patches, self.batch, progress))}
        found["seconds"] = time.perf_counter() - start
        if self.float_model is not None:
            float_logits(self.float_model, warm, image, self.batch)
            self.shard.together()
            start = time.perf_counter()
            found["float"] = float_logits(self.float_model, patches, image, self.batch, progress)
            found["float_seconds"] = time.perf_counter() - start
        return found


def evaluate(
    graph: Graph,
    images: list[Path] | np.ndarray,
    labels: list[int],
    float_model: torch.nn.Module | None = None,
    *,
    batch: int = 8,
    progress: bool = False,
    shard: Shard | None = None,
    notes: list[str] | None = None,
) -> dict:
    """Run the golden model (and ``float_model``) on ``images``: files, or input bytes int8 (B, patches, K).

    Returns {images, top1, top5 (counts), images_per_second, processes} and, with a float model, {agreement (percent of
    images with the float arg-max), logit_sqnr_db, float: {top1, top5, images_per_second}}. Rates leave decoding out.
    ``shard``: this process's part; the result is that of all images, on process 0, and empty on the others.
    ``notes``: lines for the user about this process's files are appended.
    Raises ValueError for labels outside the classes and counts that differ, and for fewer batches than processes.
    """
    shard = shard or Shard()
    image = ImageConfig.from_dict(graph.meta.get("image"))
    classes, n = graph.tensors[graph.output].channels, len(images)
    if len(labels) != n or n == 0:
        raise ValueError(f"evaluate: needs one label per image and at least one, not {len(labels)} for {n} images")
    if bad := next((v for v in labels if not 0 <= int(v) < classes), None):
        raise ValueError(f"evaluate: labels must be in 0..{classes - 1}, not {bad}")
    rows = shard.rows(n, batch)
    if (batches := -(-n // batch)) < shard.count:
        raise ValueError(f"evaluate: processes must be at most {batches}, the batches of {batch}, not {shard.count}")
    progress = progress and shard.rank == 0
    if isinstance(images, np.ndarray):
        mine = images[rows]
    else:
        mine = load_patches([images[i] for i in rows], image, progress, notes)
    parts = shard.gather(Work(graph, float_model, shard, batch).run(mine, progress))
    if not parts:
        return {}
    truth = torch.tensor([int(v) for v in labels])
    integer = merged(parts, "integer", n, batch)
    rate = n / max(part["seconds"] for part in parts)
    result = {"images": n, **_hits(integer, truth), "images_per_second": rate, "processes": shard.count}
    if float_model is not None:
        reference = merged(parts, "float", n, batch)
        if reference.shape[1] != classes:
            raise ValueError(f"evaluate: the float model has {reference.shape[1]} classes, the integer model {classes}")
        result["agreement"] = 100 * float((integer.argmax(1) == reference.argmax(1)).double().mean())
        result["logit_sqnr_db"] = sqnr_db(reference, integer)
        rate = n / max(part["float_seconds"] for part in parts)
        result["float"] = {**_hits(reference, truth), "images_per_second": rate}
    return result
