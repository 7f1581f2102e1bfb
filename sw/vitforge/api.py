"""The steps of the road as functions; the command line is a thin shell over them.

check -> quantize -> evaluate -> compile -> verilog -> simulate; ``estimate`` needs no RTL. Every function raises
ValueError with one line naming subject, rule and value on bad input, and writes nothing then.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_sw.compiler import Build, CompileOptions, compile_graph, load_build, save_build
from vitforge_sw.evaluate import evaluate as evaluate_graph
from vitforge_sw.families.quantize import float_hash, quantize_model
from vitforge_sw.families.schemes import scheme_for
from vitforge_sw.families.vit.alive import bring_to_life
from vitforge_sw.families.vit.check import Row, check_model
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph
from vitforge_sw.models.checkpoint import hub_json_beside, label_names, load_model
from vitforge_sw.models.files import list_images, some_images, spread
from vitforge_sw.models.images import ImageConfig, load_patches
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.resolve import ModelSpec, build_model, resolve_model


@dataclasses.dataclass
class FloatModel:
    """A timm model with what is needed to feed it: ``trained`` is False for seeded random weights brought to life."""

    model: torch.nn.Module
    spec: ModelSpec
    image: ImageConfig
    trained: bool
    notes: list[str] = dataclasses.field(default_factory=list)  #: what was chosen while loading, a line each


def check(model: str, word: int = 16) -> list[Row]:
    """Layer by layer: is MODEL (timm name or hub-form JSON) supported, and if not, why. ``word``: the accelerator's
    channels per word."""
    return check_model(build_model(resolve_model(model), shapes_only=True), word)


def family(model: str) -> str:
    """The family of MODEL, which decides its schemes and presets: ViT or EfficientViT."""
    net = build_model(resolve_model(model), shapes_only=True)
    return "EfficientViT" if type(net).__name__ == "EfficientVit" else "ViT"


def load_float(
    model: str,
    checkpoint: str | Path | None = None,
    overrides: dict | None = None,
    seed: int = 0,
    names: dict[str, str | None] | None = None,
) -> FloatModel:
    """The float model. Without a checkpoint its weights are random, rescaled until every layer carries signal.

    ``overrides``: image options; ``names``: renames the checkpoint's tensors (``checkpoint.read_map``).
    """
    spec, notes = resolve_model(model), []
    net, image = load_model(spec, checkpoint, overrides, seed, names, notes)
    if checkpoint is None:
        bring_to_life(net, image, seed=seed)
    else:
        labels = label_names(spec, hub_json_beside(checkpoint), net.num_classes, notes)
        spec = dataclasses.replace(spec, label_names=labels)
    return FloatModel(net, spec, image, checkpoint is not None, notes)


def quantize(
    float_model: FloatModel,
    calib: str | Path,
    scheme: str,
    *,
    limit: int | None = None,
    progress: bool = True,
    notes: list[str] | None = None,
    **options,
) -> Graph:
    """Post-training quantization with the images below ``calib`` (``limit`` of them, as ``some_images`` chooses).

    ``notes``: lines for the user are appended.
    """
    chosen = scheme_for(float_model.model, scheme, **options)
    files = some_images(calib, limit, notes)
    patches = load_patches(files, float_model.image, progress, notes)
    return quantize_model(
        float_model.model,
        float_model.spec,
        float_model.image,
        chosen,
        patches,
        trained=float_model.trained,
        progress=progress,
    )


def float_of(graph: Graph, checkpoint: str | Path | None = None) -> torch.nn.Module:
    """The float model that ``graph`` was made from; refused when the weights are others."""
    spec = ModelSpec.from_dict(graph.meta.get("model"))
    path = checkpoint or graph.meta.get("checkpoint")
    net, _ = load_model(spec, path, names=graph.meta.get("checkpoint_map"))
    if not path:
        bring_to_life(net, ImageConfig.from_dict(graph.meta.get("image")))
    if (found := float_hash(net)) != graph.meta.get("float_hash"):
        raise ValueError(
            f"float model of {spec.name}: weights' hash must be {graph.meta['float_hash'][:16]}, is {found[:16]} "
            "(give the checkpoint that was quantized with --checkpoint)"
        )
    return net


def labelled(
    graph: Graph,
    images: str | Path,
    labels: str | Path | None = None,
    limit: int | None = None,
    notes: list[str] | None = None,
) -> list[tuple[Path, int]]:
    """(file, class) of every image to be evaluated.

    ``labels``: a CSV; without it the names of the subfolders of ``images`` say the class (``labels.folder_classes``).
    ``limit``: that many images, spread over the classes. ``notes``: lines for the user are appended.
    """
    classes = graph.tensors[graph.output].channels
    names = graph.meta.get("labels") or []
    pairs = labelled_images(images, labels, names if len(names) == classes else [], classes, notes)
    if limit is not None and limit < len(pairs):
        found = [label for _, label in pairs]
        if notes is not None:
            notes.append(f"images: {limit} of {len(pairs)}, spread over {len(set(found))} classes (seed 0)")
        pairs = [pairs[i] for i in spread(found, limit)]
    return pairs


def evaluate(
    graph: Graph,
    images: str | Path,
    labels: str | Path | None = None,
    float_model: torch.nn.Module | None = None,
    *,
    limit: int | None = None,
    progress: bool = False,
    notes: list[str] | None = None,
) -> dict:
    """Top-1, top-5, and with a float model agreement and logit SQNR (fields of ``evaluate --json``).

    Arguments as for ``labelled``, in this process alone.
    """
    pairs = labelled(graph, images, labels, limit, notes)
    patches = load_patches([f for f, _ in pairs], ImageConfig.from_dict(graph.meta.get("image")), progress, notes)
    return evaluate_graph(graph, patches, [c for _, c in pairs], float_model, progress=progress)


def compile_model(
    graph: Graph,
    config: AcceleratorConfig,
    folder: str | Path,
    command: str = "",
    options: CompileOptions | None = None,
) -> Build:
    """Schedule (with the order of every access proved over two images), write the build directory, model included."""
    build = compile_graph(graph, config, options)
    save_build(build, folder, command)
    save_graph(graph, Path(folder) / "model.safetensors")
    return build


def load_compiled(folder: str | Path) -> tuple[Graph, Build]:
    """A build directory's model and program; refused when they do not belong together."""
    folder = Path(folder)
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"build directory {folder}: has no model.safetensors; run vitforge compile first")
    graph = load_graph(folder / "model.safetensors")
    return graph, load_build(folder, model_hash=graph_hash(graph))


def image_files(image: str | None, images: str | None, count: int | None, notes: list[str] | None = None) -> list[Path]:
    """``--image`` files (one), or ``count`` below ``--images``: the first ones, or spread over its subfolders."""
    if (image is None) == (images is None):
        raise ValueError("images: give either --image FILE or --images DIR")
    files = [Path(image)] if image else list_images(images)
    if count is not None:
        if not 1 <= count <= len(files):
            raise ValueError(f"count must be 1 to {len(files)} (images found), not {count}")
        files = files if image else some_images(images, count, notes)
    return files


def pack(graph: Graph, build: Build, patches: np.ndarray) -> tuple[bytes, bytes]:
    """One job's input bytes and the result bytes that the golden model expects, as they lie in DRAM.

    ``patches``: int8 (images, tokens, K), as many as the build's batch. Of a build with a deferred classifier the
    result comes with the next job. Raises ValueError for another number of images.
    """
    data = build.pack_job(patches)
    return data, build.pack_result(Golden(graph).run(patches)[graph.output].numpy()[:, 0])


def unpack(build: Build, result: bytes) -> np.ndarray:
    """Integer logits (images, classes) of the results of one job or several. Raises ValueError for another length."""
    size = build.result_bytes
    if not result or len(result) % size:
        raise ValueError(f"result: length must be a positive multiple of {size} bytes (one job), not {len(result)}")
    jobs = [result[at : at + size] for at in range(0, len(result), size)]
    return np.stack([build.logits(job, i) for job in jobs for i in range(build.batch)])


def load_inputs(graph: Graph, files: list[Path], notes: list[str] | None = None) -> np.ndarray:
    """Input bytes int8 (images, tokens, K), by the same function that drivers use."""
    return load_patches(files, ImageConfig.from_dict(graph.meta.get("image")), notes=notes)
