"""Where in a checkpoint the weights are: training scripts keep them under many names, averaged ones beside plain ones.

Of averaged (EMA) and plain weights the averaged are taken, as timm does, and a line says so.
"""

from collections.abc import Mapping

import torch

from ..text import few, shown

EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema")
PLAIN_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params", "module")
_OTHERS = (
    "optimizer",
    "optim",
    "scheduler",
    "lr_scheduler",
    "scaler",
    "loss_scaler",
    "args",
    "config",
    "cfg",
    "hparams",
)
_DEPTH = 5


def _tensors(value: object) -> int:
    """Tensors directly in ``value``; 0 for what is no mapping."""
    return sum(isinstance(v, torch.Tensor) for v in value.values()) if isinstance(value, Mapping) else 0


def _holds_weights(value: object, depth: int = _DEPTH) -> bool:
    return isinstance(value, Mapping) and (
        _tensors(value) > 0 or (depth > 0 and any(_holds_weights(v, depth - 1) for v in value.values()))
    )


def state_dict_of(found: object, where: str, notes: list[str]) -> dict[str, torch.Tensor]:
    """Tensors by name, from what a checkpoint file holds, however deep under the usual keys.

    Raises ValueError where there is no state dict, or several of which none has a usual name. ``notes`` gets a line
    for every choice between several.
    """
    path: list[str] = []
    while isinstance(found, Mapping) and len(path) <= _DEPTH:
        below = {k: v for k, v in found.items() if _holds_weights(v)}
        average = next((k for k in EMA_KEYS if k in below), None)
        plain = next((k for k in PLAIN_KEYS if k in below), None)
        unread = next((k for k in EMA_KEYS if k in found and k not in below and found[k]), None)
        if unread is not None and plain is not None and isinstance(found[unread], Mapping | list | tuple):
            notes.append(f"checkpoint: what {unread} holds is no state dict; the weights under {plain} are taken")
        if average is not None:
            if plain is not None:
                notes.append(f"checkpoint: averaged (EMA) weights taken, under {average}, not those under {plain}")
            key = average
        elif plain is not None:
            key = plain
        elif _tensors(found):
            break
        else:
            rest = [k for k in below if not (isinstance(k, str) and k in _OTHERS)]
            if len(rest) != 1:
                break
            key = rest[0]
        path.append(shown(key))
        found = below[key]
    if not isinstance(found, Mapping) or not _tensors(found):
        several = [k for k, v in found.items() if _holds_weights(v)] if isinstance(found, Mapping) else []
        if several:
            raise ValueError(f"{where}: must hold a state dict of tensors; it has several, {few(several)}; keep one")
        what = f"a mapping with {few(found)}" if isinstance(found, Mapping) and found else f"{type(found).__name__}"
        raise ValueError(f"{where}: must hold a state dict of tensors, not {what}")
    others = [k for k, v in found.items() if not isinstance(v, torch.Tensor)]
    if others:
        notes.append(f"checkpoint: beside the tensors there is {few(others)}, which is left out")
    return {shown(k, 400): v for k, v in found.items() if isinstance(v, torch.Tensor)}
