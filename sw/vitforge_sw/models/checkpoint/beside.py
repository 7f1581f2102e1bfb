"""What lies beside a checkpoint: timm's hub-form JSON, Hugging Face's configuration, the names of the labels."""

from pathlib import Path

from ..resolve import ModelSpec, read_hub_json
from ..text import shown

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  #: Pillow's numbers, as Hugging Face writes them


def _preprocessor(data: dict, path: Path) -> dict:
    """Hugging Face's image processor in timm's terms; what it cannot say is left to timm's data config."""
    try:
        size, crop = data.get("size"), data.get("crop_size")
        side = size if isinstance(size, int) else (size or {}).get("height") or (size or {}).get("shortest_edge")
        kept = crop if isinstance(crop, int) or crop is None else crop.get("height")
        config = {}
        if side:
            square = not (isinstance(size, dict) and "shortest_edge" in size)
            config |= dict(crop_mode="squash" if square else "center", crop_pct=1.0)
            if data.get("do_center_crop") and kept:
                config["crop_pct"] = kept / side
        if data.get("resample") in _RESAMPLE:
            config["interpolation"] = _RESAMPLE[data["resample"]]
        if data.get("do_normalize", True):
            config |= {k: tuple(data[f"image_{k}"]) for k in ("mean", "std") if data.get(f"image_{k}")}
        else:
            config |= dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return config
    except (AttributeError, TypeError, ZeroDivisionError, KeyError) as error:
        raise ValueError(f"image processor {path}: is malformed ({shown(error)})") from None


def hub_json_beside(path: str | Path, notes: list[str] | None = None) -> dict | None:
    """The checkpoint's ``<name>.json`` or a ``config.json`` in its folder, None without either.

    Where none has image options (``pretrained_cfg``), Hugging Face's ``preprocessor_config.json`` gives them.
    """
    path = Path(path)
    found = next((c for c in (path.with_suffix(".json"), path.with_name("config.json")) if c.is_file()), None)
    data = None if found is None else read_hub_json(found)
    if data is not None and not isinstance(data.get("pretrained_cfg", {}), dict):
        raise ValueError(f"model file {found}: pretrained_cfg must be dict, not {data['pretrained_cfg']!r}")
    processor = path.with_name("preprocessor_config.json")
    if processor.is_file() and not (data or {}).get("pretrained_cfg"):
        data = (data or {}) | {"pretrained_cfg": _preprocessor(read_hub_json(processor), processor)}
        if notes is not None:
            notes.append("checkpoint: image options from preprocessor_config.json beside it")
    return data


def label_names(spec: ModelSpec, beside: dict | None, classes: int, notes: list[str] | None = None) -> tuple[str, ...]:
    """The names of the classes: MODEL's ``label_names``, else those beside the checkpoint (``label_names``, or Hugging
    Face's ``id2label``); () where there are none, or another number than ``classes``."""
    beside = beside or {}
    names = spec.label_names or beside.get("label_names") or ()
    by_id = beside.get("id2label")
    if not names and isinstance(by_id, dict) and set(by_id) == {str(i) for i in range(len(by_id))}:
        names = [by_id[str(i)] for i in range(len(by_id))]
        if names == [f"LABEL_{i}" for i in range(len(names))]:  # Hugging Face's placeholders
            names = ()
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        names = ()
    if names and len(names) != classes:
        if notes is not None:
            notes.append(f"labels: {len(names)} label names for {classes} classes, so they are not used")
        names = ()
    return tuple(names)
