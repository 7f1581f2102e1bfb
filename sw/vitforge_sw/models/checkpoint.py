"""Checkpoints: safetensors or weights-only .pth state dicts into a timm model, every fault a one-line ValueError."""

import json
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .images import ImageConfig
from .resolve import ModelSpec, build_model, image_config, read_hub_json


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name from ``.safetensors`` or ``.pth`` / ``.pt`` / ``.bin`` (``weights_only``)."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in (".pth", ".pt", ".bin"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ValueError(f"checkpoint {path}: must end in .safetensors, .pth, .pt or .bin, not {path.suffix!r}")
    except (
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        OSError,
        RuntimeError,
        EOFError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = (str(error).split("\n")[0] or type(error).__name__)[:160]
        raise ValueError(f"checkpoint {path}: corrupt or truncated ({reason})") from None
    for key in ("model", "state_dict"):  # DeiT's and timm's training checkpoints
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"checkpoint {path}: must hold a state dict of tensors")
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            count = int((~torch.isfinite(value)).sum())
            raise ValueError(f"checkpoint {path}: {name} must be finite, has {count} NaN or Inf of {value.numel()}")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def hub_json_beside(path: str | Path) -> dict | None:
    """The checkpoint's ``<name>.json`` or a ``config.json`` in its folder, None without either."""
    path = Path(path)
    for candidate in (path.with_suffix(".json"), path.with_name("config.json")):
        if candidate.is_file():
            return read_hub_json(candidate)
    return None


def _classes(state: dict[str, torch.Tensor], model: torch.nn.Module, where: str) -> int:
    name = (getattr(model, "default_cfg", {}) or {}).get("classifier") or "head"
    name = name[0] if isinstance(name, (tuple, list)) else name
    weight = state.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise ValueError(f"{where}: the classifier {name}.weight is missing, so the number of classes is unknown")
    return weight.shape[0]


def load_model(
    spec: ModelSpec, checkpoint: str | Path | None = None, overrides: dict | None = None, seed: int = 0
) -> tuple[torch.nn.Module, ImageConfig]:
    """The model with the checkpoint's weights (without one: seeded random weights) and its image config.

    The number of classes is read off the checkpoint's classifier. Raises ValueError for missing, truncated or
    corrupt files, NaN or Inf, missing, unexpected or misshapen tensors.
    """
    if checkpoint is None:
        model = build_model(spec, seed=seed)
        return model, image_config(model, spec, overrides=overrides)
    where = f"checkpoint {checkpoint}"
    state = read_state_dict(checkpoint)
    classes = _classes(state, build_model(spec, shapes_only=True), where)
    model = build_model(spec, num_classes=classes, seed=seed)
    own = model.state_dict()
    for name, value in own.items():
        if name not in state:
            raise ValueError(f"{where}: tensor {name} of {spec.name} is missing")
        if state[name].shape != value.shape:
            raise ValueError(
                f"{where}: {name} must have shape {tuple(value.shape)} for {spec.name}, not {tuple(state[name].shape)}"
            )
    if extra := sorted(set(state) - set(own)):
        raise ValueError(f"{where}: {spec.name} has no tensor {extra[0]} ({len(extra)} unexpected)")
    model.load_state_dict(state)
    return model.eval(), image_config(model, spec, beside=hub_json_beside(checkpoint), overrides=overrides)
