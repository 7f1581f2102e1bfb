"""``quantize_model``: the whole way from a timm model to a checked integer graph with its metadata."""

import dataclasses
import hashlib
import json

import numpy as np
import torch

from ..graph.ir import Graph
from ..graph.rules import check_graph
from ..models.images import ImageConfig
from ..models.resolve import ModelSpec
from ..quant.quality import Quality
from .efficientvit import Quantizer, TrioScheme, import_efficientvit
from .vit.frontend import import_vit
from .vit.quantizer import Builder, quantize_network
from .vit.schemes import Scheme


def float_hash(model: torch.nn.Module) -> str:
    """SHA-256 (hex) of the float model's weights: names the float reference of a quantized model."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def quantize_model(
    model: torch.nn.Module,
    spec: ModelSpec,
    image: ImageConfig,
    scheme: Scheme | TrioScheme,
    patches: np.ndarray,
    *,
    trained: bool = True,
    progress: bool = True,
    quality: Quality | None = None,
) -> Graph:
    """The integer graph of ``model``, every rule checked.

    ``patches``: input bytes of the calibration images, int8 (B, patches, C * ps * ps), from ``load_patches``.
    ``meta`` of the graph: model (the spec), image (the image config), scheme (every option), float_hash, trained,
    calibration_images. ``quality``: filled in. Raises ValueError for models that the machine cannot run.
    """
    if patches.ndim != 3 or patches.shape[1:] != (image.patches, image.patch_bytes) or len(patches) == 0:
        raise ValueError(
            f"calibration: needs int8 (B, {image.patches}, {image.patch_bytes}) with B > 0, not {patches.shape}"
        )
    if len(patches) and patches.min() == patches.max():
        raise ValueError(f"calibration: every pixel of the images is {int(patches.min()) + 128}: they say no ranges")
    if isinstance(scheme, TrioScheme):
        network = Quantizer(import_efficientvit(model), image, scheme, patches)
        graph, layers = network.run(progress), network.b.quality.layers
    else:
        build = Builder(import_vit(model), image, scheme, patches)
        graph, layers = quantize_network(build, progress), build.quality.layers
    if quality is not None:
        quality.layers.update(layers)
    graph.meta.update(
        model=spec.to_dict(),
        image=image.to_dict(),
        scheme=json.loads(json.dumps(dataclasses.asdict(scheme))),  # lists, as a file gives them back
        float_hash=float_hash(model),
        trained=trained,
        calibration_images=len(patches),
        labels=list(spec.label_names),
    )
    return check_graph(graph)
