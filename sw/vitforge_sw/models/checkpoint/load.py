"""A checkpoint's weights into a timm model: every fault a one-line ValueError, every choice a line for the user."""

from pathlib import Path

import torch

from ..images import ImageConfig
from ..resolve import ModelSpec, build_model, image_config
from ..text import few, reason_of, shown
from ..timm_import import import_timm
from .beside import hub_json_beside
from .families import State
from .names import apply_map, fit_names, unsupported_names
from .nesting import state_dict_of
from .read import read_file
from .tensors import COUNTER, as_weight, check_kinds, check_stored

_VITS = ("VisionTransformer", "VisionTransformerDistilled")  #: what timm's adaptations are for


def read_state_dict(path: str | Path, notes: list[str] | None = None) -> State:
    """Tensors by name, as they are in the file: safetensors or ``torch.save``, by content, weights only."""
    where = f"checkpoint {path}"
    state = state_dict_of(read_file(path), where, [] if notes is None else notes)
    check_stored(state, where)
    return state


def _classes(state: State, model: torch.nn.Module, where: str) -> int:
    name = (getattr(model, "default_cfg", {}) or {}).get("classifier") or "head"
    name = name[0] if isinstance(name, (tuple, list)) else name
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise ValueError(
            f"{where}: the classifier {name}.weight is missing, so the number of classes is unknown; a backbone alone "
            "classifies nothing: train a classifier on it first"
        )
    return weight.shape[0]


def _declared(spec: ModelSpec, classes: int, notes: list[str]) -> None:
    """The checkpoint decides about the number of classes; that MODEL says another one is said."""
    for said in (spec.num_classes, spec.model_args.get("num_classes"), spec.pretrained_cfg.get("num_classes")):
        if said is not None and said != classes:
            notes.append(f"classes: the checkpoint has {classes}, {spec.name} says {said}: the checkpoint decides")
            return


def _adapted(state: State, model: torch.nn.Module, name: str, where: str, notes: list[str]) -> State:
    """timm's own adaptations of a ViT: deit3's layer scale names, position embeddings of another image size.

    Not its resampling of patch weights, which makes another model.
    """
    patch, own = state.get("patch_embed.proj.weight"), getattr(getattr(model, "patch_embed", None), "proj", None)
    if type(model).__name__ not in _VITS or patch is None or own is None:
        return state
    if patch.ndim == 4 and patch.shape != own.weight.shape:
        shape, wanted = tuple(patch.shape), tuple(own.weight.shape)
        raise ValueError(f"{where}: patch_embed.proj.weight must have shape {wanted} for {name}, not {shape}")
    checkpoint_filter_fn = import_timm().models.vision_transformer.checkpoint_filter_fn
    before = state.get("pos_embed")
    try:
        out = checkpoint_filter_fn(dict(state), model, adapt_layer_scale=True)
    except Exception as error:  # resampling shapes that no image size gives
        raise ValueError(f"{where}: cannot be adapted to the model ({reason_of(error)})") from None
    if before is not None and "pos_embed" in out and out["pos_embed"].shape != before.shape:
        prefix = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
        side = round((before.shape[1] - prefix) ** 0.5)
        grid = model.patch_embed.grid_size
        notes.append(f"checkpoint: pos_embed resampled from {side} x {side} to {grid[0]} x {grid[1]} patches")
    if dropped := [n for n in state if "pre_logits" in n]:
        notes.append(f"checkpoint: {few(dropped)} left out, as timm does")
    return out


def _fill(model: torch.nn.Module, state: State, name: str, where: str) -> None:
    """Check every tensor against the model's and load them."""
    own = {n: v for n, v in model.state_dict().items() if n in state or not n.endswith(COUNTER)}
    for tensor, value in own.items():
        if tensor not in state:
            raise ValueError(f"{where}: tensor {tensor} of {name} is missing")
        if state[tensor].shape != value.shape:
            raise ValueError(
                f"{where}: {tensor} must have shape {tuple(value.shape)} for {name}, not {tuple(state[tensor].shape)}"
            )
    if extra := sorted(set(state) - set(own)):
        raise ValueError(f"{where}: {name} has no tensor {shown(extra[0])} ({len(extra)} unexpected)")
    model.load_state_dict({n: as_weight(n, state[n], where) for n in own}, strict=False)


def load_model(
    spec: ModelSpec,
    checkpoint: str | Path | None = None,
    overrides: dict | None = None,
    seed: int = 0,
    names: dict[str, str | None] | None = None,
    notes: list[str] | None = None,
) -> tuple[torch.nn.Module, ImageConfig]:
    """The model with the checkpoint's weights (without one: seeded random weights) and its image config.

    The number of classes is read off the checkpoint's classifier. ``names``: renames tensors first
    (``names.read_map``). ``notes`` gets a line for every choice that was made. Raises ValueError for files that are
    no checkpoint or damaged, for tensors that are missing, unexpected, misshapen, not finite or of no usable kind.
    """
    if checkpoint is None:
        model = build_model(spec, seed=seed)
        return model, image_config(model, spec, overrides=overrides)
    where, notes = f"checkpoint {checkpoint}", [] if notes is None else notes
    state = read_state_dict(checkpoint, notes)
    if names:
        state = apply_map(state, names, where)
    shapes = build_model(spec, shapes_only=True)
    state = fit_names(state, set(shapes.state_dict()), spec.name, where, notes)
    unsupported_names(state, set(shapes.state_dict()), where)
    check_kinds(state, where)
    classes = _classes(state, shapes, where)
    _declared(spec, classes, notes)
    model = build_model(spec, num_classes=classes, seed=seed)
    _fill(model, _adapted(state, model, spec.name, where, notes), spec.name, where)
    beside = hub_json_beside(checkpoint, notes)
    return model.eval(), image_config(model, spec, beside=beside, overrides=overrides)
