"""The road in Python: what ``import vitforge`` offers. Each function is a command; values are the same.

    graph = vitforge.quantize("deit_tiny_patch16_224", "calib", checkpoint="deit.safetensors")
    vitforge.compile(graph, "build/deit", preset="p2vit")
    result = vitforge.simulate("build/deit", "images", count=4, tensors=True)

Bad input is a ValueError of one line that names subject, rule and value; nothing is written then. ``notes``: a list
that gets the lines that the command would print about choices it made.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_sw.compiler import Build, CompileOptions
from vitforge_sw.families.quantize import quantize_model
from vitforge_sw.families.schemes import scheme_for
from vitforge_sw.families.vit.check import Row, check_model
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import load_graph, save_graph
from vitforge_sw.models.images import ImageConfig
from vitforge_sw.models.inputs import as_patches
from vitforge_sw.models.resolve import ModelSpec, image_config
from vitforge_sw.quant.quality import Quality

from . import api
from .api import FloatModel
from .quality import judge

Model = str | Path | torch.nn.Module | FloatModel
FAMILIES = ("VisionTransformer", "VisionTransformerDistilled", "EfficientVit")


def load_model(
    model: Model,
    checkpoint: str | Path | None = None,
    *,
    image: dict | None = None,
    names: dict[str, str | None] | None = None,
    seed: int = 0,
) -> FloatModel:
    """A float model with what is needed to feed it.

    Parameters
    ----------
    model
        timm name, JSON in timm's hub form, or a timm module (VisionTransformer, EfficientVit) with its weights
    checkpoint
        safetensors or weights-only PyTorch file; None: seeded random weights (a module keeps its own)
    image
        what differs from the data config: image_size (pixels), crop_pct, interpolation, mean, std, exif, alpha
    names
        renames the checkpoint's tensors
    seed
        of random weights

    Raises
    ------
    ValueError
        for models, checkpoints and image options that cannot be taken
    """
    if isinstance(model, FloatModel):
        return model
    if not isinstance(model, torch.nn.Module):
        return api.load_float(str(model), checkpoint, image, seed, names)
    if checkpoint is not None:
        raise ValueError("model: a module brings its weights, give no checkpoint beside it")
    if (kind := type(model).__name__) not in FAMILIES:
        raise ValueError(f"model: a module must be one of timm's {', '.join(FAMILIES)}, not {kind}")
    hub = getattr(model, "pretrained_cfg", None) or {}
    name = hub.get("architecture") or kind
    spec = ModelSpec(name=name, architecture=name, num_classes=model.num_classes)
    return FloatModel(model.eval(), spec, image_config(model, spec, overrides=image), True)


def check(model: Model, *, word: int = 16) -> list[Row]:
    """Layer by layer: is the model supported, and if not, why and what to do. ``word``: channels of a word.

    Returns
    -------
    list[Row]
        a row per layer: name, kind, shape, supported, reason

    Raises
    ------
    ValueError
        for unknown models
    """
    if isinstance(model, FloatModel | torch.nn.Module):
        return check_model(load_model(model).model, word)
    return api.check(str(model), word)


def quantize(
    model: Model,
    calib: object,
    scheme: str = "vitforge",
    *,
    checkpoint: str | Path | None = None,
    image: dict | None = None,
    names: dict[str, str | None] | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
    notes: list[str] | None = None,
    quality: dict | None = None,
    **options: object,
) -> Graph:
    """Post-training quantization to an integer-only model.

    Parameters
    ----------
    model
        as in `load_model`
    checkpoint
        as in `load_model`
    image
        as in `load_model`
    names
        as in `load_model`
    seed
        as in `load_model`
    calib
        images like those that the model will see, without labels: folder, files, PIL images, pixels uint8
        (B, H, W, C), normalised floats (B, C, H, W), a DataLoader (``vitforge_sw.models.inputs.as_patches``)
    scheme
        name (``vitforge schemes``); further keyword arguments change single options of it
    limit
        use so many images
    quality
        a dict that gets logit_sqnr_db, agreement (per cent), images, held_back, layers {name: dB}, worst

    Returns
    -------
    Graph
        the integer model, every rule checked; `save` writes it

    Raises
    ------
    ValueError
        for what cannot be taken or run
    """
    source = load_model(model, checkpoint, image=image, names=names, seed=seed)
    chosen = scheme_for(source.model, scheme, **options)
    patches, _ = as_patches(calib, source.image, limit=limit, progress=progress, notes=notes)
    noted = Quality()
    graph = quantize_model(source.model, source.spec, source.image, chosen, patches, trained=source.trained,
                           progress=progress, quality=noted)  # fmt: skip
    graph.meta["checkpoint"] = None if checkpoint is None else str(checkpoint)
    if names:
        graph.meta["checkpoint_map"] = names
    graph.meta["command"] = "vitforge.quantize"
    if quality is not None:
        quality |= judge(graph, source, noted, patches, calib, limit, progress)
    return graph


def evaluate(
    model: Graph | str | Path,
    images: object,
    labels: str | Path | Sequence[int] | None = None,
    *,
    float_model: bool | torch.nn.Module | FloatModel = False,
    checkpoint: str | Path | None = None,
    limit: int | None = None,
    progress: bool = False,
    notes: list[str] | None = None,
) -> dict:
    """Accuracy of an integer model.

    Parameters
    ----------
    model
        integer graph, or its file
    images
        a folder, or whatever `quantize` takes as ``calib``
    labels
        of a folder a CSV, or None where its subfolders say the class; else a class index for each image, or None
        where the data loader yields them
    float_model
        True: the float model that the graph was made from (``checkpoint``: where its weights moved to); or it

    Returns
    -------
    dict
        images, top1, top5 (counts), images_per_second; with a float model agreement (per cent), logit_sqnr_db and float
        with its own top1, top5, images_per_second

    Raises
    ------
    ValueError
        for labels outside the classes, and where it cannot be told which label an image has
    """
    graph = _graph(model)
    net = float_model.model if isinstance(float_model, FloatModel) else float_model
    if net is True:
        net = api.float_of(graph, checkpoint)
    net = net or None
    if isinstance(images, str | Path) and Path(images).is_dir() and not _indices(labels):
        return api.evaluate(graph, images, labels, net, limit=limit, progress=progress, notes=notes)
    config = ImageConfig.from_dict(graph.meta.get("image"))
    patches, found = as_patches(images, config, limit=limit, progress=progress, notes=notes)
    known = [int(v) for v in labels][: len(patches)] if _indices(labels) else found
    if known is None:
        raise ValueError("evaluate: images that are no folder need labels, a class index for each")
    from vitforge_sw.evaluate import evaluate as accuracy

    return accuracy(graph, patches, known, net, progress=progress)


def compile(  # noqa: A001 (the command's name)
    model: Graph | str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    config: AcceleratorConfig | dict | str | Path | None = None,
    **options: object,
) -> Build:
    """Schedule, program and memory image for one accelerator, written to the build directory ``output``.

    Parameters
    ----------
    model
        integer graph, or its file
    output
        made where missing
    preset
        its name; or else
    config
        an AcceleratorConfig, a dict of what differs from its "base", or a file;
        further keyword arguments: pipelining, engines, batch (images of a job), defer

    Returns
    -------
    Build
        ``memory_image`` (bytes as in DRAM), ``config``, ``programs``, ``logits(result)``

    Raises
    ------
    ValueError
        for models that do not fit, naming the memory and the sizes
    """
    names = [f.name for f in dataclasses.fields(CompileOptions)]
    if unknown := sorted(set(options) - set(names)):
        raise ValueError(f"compile: unknown option {unknown[0]!r}; there are {', '.join(names)}")
    return api.compile_model(_graph(model), _config(preset, config), output, "vitforge.compile",
                             CompileOptions(**options))  # fmt: skip


def simulate(
    build: str | Path,
    images: object,
    *,
    count: int | None = None,
    simulator: str = "verilator",
    tensors: bool = False,
    trace: bool = False,
    bytes_per_cycle: int | None = None,
    latency: int = 100,
    timeout: float = 3600.0,
    progress: bool = False,
    notes: list[str] | None = None,
) -> dict:
    """Run a build directory's RTL on real images and compare with the golden model, byte by byte.

    Parameters
    ----------
    build
        directory from `compile`; its Verilog and simulation program are made where missing
    images
        as ``calib`` of `quantize`
    count
        so many of them (default: all)
    simulator
        verilator or icarus
    tensors
        compare every tensor, not the logits alone
    trace
        write build/trace
    bytes_per_cycle
        bandwidth of the DRAM model
    latency
        of the DRAM model, in cycles
    timeout
        seconds

    Returns
    -------
    dict
        simulate.json's content: bit_exact, cycles_per_image, steady_state_cycles, utilization (0 to 1), units,
        first_mismatch, ...

    Raises
    ------
    ValueError
        for bad input
    SimulationError
        when the hardware hangs or breaks an AXI rule
    """
    from vitforge_sim.run.topbench import MemorySettings

    from .simulation import simulate as run

    graph, compiled = api.load_compiled(build)
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    config = ImageConfig.from_dict(graph.meta.get("image"))
    patches, _ = as_patches(images, config, limit=count, notes=notes)
    settings = MemorySettings(bandwidth=bytes_per_cycle or min(64, compiled.config.beat_bytes), latency=latency)
    return run(graph, compiled, patches, build, simulator=simulator, tensors=tensors, settings=settings, trace=trace,
               timeout=timeout, command="vitforge.simulate", progress=progress).info  # fmt: skip


def estimate(
    subject: str | Path,
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    bytes_per_cycle: int | None = None,
    latency: int = 100,
    **options: object,
) -> dict:
    """Cycles, utilization and DRAM traffic from the cycle model, without RTL.

    Parameters
    ----------
    subject
        build directory, or a model's name or JSON with ``preset`` or ``config`` (then its shapes alone count)
    bytes_per_cycle
        bandwidth of the DRAM
    latency
        of the DRAM, in cycles

    Returns
    -------
    dict
        estimate.json's content: cycles (an image, steady state), utilization, layers, chunks, ...

    Raises
    ------
    ValueError
        for models that the accelerator cannot run
    """
    from .estimation import estimate_subject

    return estimate_subject(str(subject), preset, None if config is None else str(config), bytes_per_cycle, latency,
                            "vitforge.estimate", CompileOptions(**options))  # fmt: skip


def verilog(output: str | Path, *, preset: str | None = None,
            config: AcceleratorConfig | dict | str | Path | None = None) -> dict[str, str]:  # fmt: skip
    """The accelerator's Verilog in ``output``/rtl; returns file name -> text."""
    from .rtl import ensure_rtl

    return ensure_rtl(_config(preset, config), Path(output), "vitforge.verilog")


def load(path: str | Path) -> Graph:
    """An integer model from its file; its hash and every rule are checked. Raises ValueError."""
    return load_graph(path)


def save(graph: Graph, path: str | Path) -> str:
    """Write an integer model (safetensors, no pickle); returns its hash."""
    return save_graph(graph, path)


def logits(model: Graph | str | Path, images: object) -> np.ndarray:
    """Integer logits int16 (images, classes) of the golden model, which the hardware gives too."""
    from vitforge_sw.golden import Golden

    graph = _graph(model)
    patches, _ = as_patches(images, ImageConfig.from_dict(graph.meta.get("image")))
    return Golden(graph).logits(patches).numpy()


def _graph(model: Graph | str | Path) -> Graph:
    return model if isinstance(model, Graph) else load_graph(model)


def _indices(labels: object) -> bool:
    return labels is not None and not isinstance(labels, str | Path)


def _config(preset: str | None, config: AcceleratorConfig | dict | str | Path | None) -> AcceleratorConfig:
    from .rtl import load_config

    if isinstance(config, AcceleratorConfig | dict):
        if preset is not None:
            raise ValueError("configuration: give either preset or config")
        return AcceleratorConfig.from_dict(json.loads(json.dumps(config))) if isinstance(config, dict) else config
    return load_config(preset, config)
