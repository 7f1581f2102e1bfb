"""MODEL (a timm name, or a JSON file in timm's hub form) to a timm model and its image config."""

import contextlib
import dataclasses
import difflib
import re
from pathlib import Path

import torch

from .images import ImageConfig
from .text import shown
from .timm_import import import_timm
from .written import read_json

LARGEST = 1 << 31  #: parameters of a model that is described by numbers of the user's
DEEPEST = 200  #: blocks of one
_SIZES = ("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio")
#: of timm's hub form; the first five decide
HUB_KEYS = ["architecture", "model_args", "num_classes", "pretrained_cfg", "label_names", "label_descriptions",
            "num_features", "global_pool"]  # fmt: skip
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pth.tar")  #: of files that are no MODEL


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What builds a model: timm architecture, constructor arguments, timm's pretrained_cfg overrides, class names."""

    name: str
    architecture: str
    model_args: dict = dataclasses.field(default_factory=dict)
    num_classes: int | None = None
    pretrained_cfg: dict = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {"label_names": list(self.label_names)}

    @classmethod
    def from_dict(cls, data: dict | None) -> "ModelSpec":
        """The inverse of :meth:`to_dict`; ValueError for anything else."""
        try:
            return cls(**(data | {"label_names": tuple(data.get("label_names", ()))}))
        except (TypeError, AttributeError):
            raise ValueError("model: does not say what float model it was made from") from None


def read_hub_json(path: str | Path) -> dict:
    """A JSON object; anything else is a ValueError."""
    try:
        data = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"model file {path}: not readable JSON ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(f"model file {path}: must hold a JSON object, not {type(data).__name__}")
    return data


def resolve_model(model: str) -> ModelSpec:
    """A timm name or the path of a JSON file with ``architecture`` (and ``model_args``, ``num_classes``,
    ``pretrained_cfg``, ``label_names``). Unknown names and malformed files are a ValueError."""
    timm = import_timm()
    if str(model).endswith(".json"):
        data = read_hub_json(model)
        architecture = data.get("architecture")
        if not isinstance(architecture, str):
            raise ValueError(f"model file {model}: needs a string 'architecture', not {architecture!r}")
        for key, kind in (("model_args", dict), ("pretrained_cfg", dict), ("num_classes", int), ("label_names", list)):
            if key in data and not isinstance(data[key], kind):
                raise ValueError(f"model file {model}: {key} must be {kind.__name__}, not {data[key]!r}")
        for key in data.keys() - HUB_KEYS:  # others are left out, but for a slip of the pen
            if near := difflib.get_close_matches(key, HUB_KEYS[:5], 1, 0.8):
                raise ValueError(f"model file {model}: unknown {shown(key)} (did you mean {near[0]}?)")
        spec = ModelSpec(
            name=Path(model).stem,
            architecture=architecture,
            model_args=data.get("model_args", {}),
            num_classes=data.get("num_classes"),
            pretrained_cfg=data.get("pretrained_cfg", {}),
            label_names=tuple(data.get("label_names", ())),
        )
    else:
        spec = ModelSpec(name=str(model), architecture=str(model))
    name = shown(model, 300)
    if str(model).endswith(WEIGHTS):
        raise ValueError(f"model {name}: is a file of weights; name their model, and the file with --checkpoint")
    spec = dataclasses.replace(spec, architecture=re.sub(r"^(hf[_-]hub:)?timm/", "", spec.architecture))
    if not timm.is_model(spec.architecture):
        known = timm.list_models()
        near = [n for n in known if n.startswith(spec.architecture)] or difflib.get_close_matches(
            spec.architecture, known, 3
        )
        near = near[:3] or timm.list_models(f"*{spec.architecture.split('_')[0]}*")[:3]
        hint = f"; similar: {', '.join(near)}" if near else ""
        raise ValueError(f"model {name}: {spec.architecture!r} is neither a timm model nor a .json file{hint}")
    return spec


def build_model(
    spec: ModelSpec, num_classes: int | None = None, seed: int = 0, *, shapes_only: bool = False
) -> torch.nn.Module:
    """The timm model in eval mode, with seeded random weights. Arguments that timm refuses are a ValueError.

    shapes_only: on torch's meta device, modules and shapes without weights: milliseconds for any size.
    """
    timm = import_timm()
    args = dict(spec.model_args)
    classes = num_classes if num_classes is not None else spec.num_classes
    if classes is not None:
        args["num_classes"] = classes
    _check_numbers(spec, args)
    if not shapes_only and not _ordinary(args):
        build_model(spec, num_classes, shapes_only=True)  # says what is too large, in no memory
    device = torch.device("meta") if shapes_only else contextlib.nullcontext()
    with torch.random.fork_rng(devices=[]), device:
        torch.manual_seed(seed)
        try:
            model = timm.create_model(spec.architecture, pretrained=False, **args)
        except (
            TypeError,
            ValueError,
            RuntimeError,
            AssertionError,
            KeyError,
            AttributeError,
            ArithmeticError,
            IndexError,
            MemoryError,
        ) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            raise ValueError(
                f"model {spec.name}: {spec.architecture} refuses model_args {spec.model_args} ({reason})"
            ) from None
    if args and shapes_only and (count := sum(p.numel() for p in model.parameters())) > LARGEST:
        raise ValueError(f"model {spec.name}: would have {count} parameters, the most is {LARGEST}")
    return model.eval()


def _check_numbers(spec: ModelSpec, args: dict) -> None:
    """ValueError for numbers of ``args`` that no network has: timm would count for hours, or in complex numbers."""
    for name, value in args.items():
        if name in _SIZES and isinstance(value, bool):
            raise ValueError(f"model {spec.name}: {name} must be a number, not {value}")
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, int) and not 0 <= number < 1 << 16:
                raise ValueError(f"model {spec.name}: {shown(name)} must be in 0..65535, not {number}")
            if name in ("depth", "depths") and isinstance(number, int) and not 0 < number <= DEEPEST:
                raise ValueError(f"model {spec.name}: {name} must be 1 to {DEEPEST} blocks, not {number}")


def _ordinary(args: dict) -> bool:
    """No number of ``args`` makes a model that is larger than its name says."""
    least = {"depth": 64, "mlp_ratio": 8, "num_classes": 1 << 16}
    return all(not isinstance(v, int | float) or v <= least.get(k, 1024) for k, v in args.items())


def image_config(
    model: torch.nn.Module, spec: ModelSpec, beside: dict | None = None, overrides: dict | None = None
) -> ImageConfig:
    """Image size, crop, interpolation, mean, std: from ``overrides`` (options), else from a JSON in hub form
    ``beside`` the checkpoint, else from MODEL's own ``pretrained_cfg``, else from timm's data config."""
    timm = import_timm()
    config = dict(timm.data.resolve_data_config({}, model=model, verbose=False))
    for source in (spec.pretrained_cfg, (beside or {}).get("pretrained_cfg", {})):
        config.update({k: v for k, v in source.items() if k in config})
    embed = getattr(model, "patch_embed", None)
    patch = getattr(embed, "patch_size", None)
    patch = patch[0] if isinstance(patch, tuple) else patch or 1
    try:
        size = config["input_size"][-1]
        if embed is not None and getattr(embed, "img_size", None):
            size = embed.img_size[0]  # what the model was built for decides, unless an option says otherwise
        chosen = dict(
            image_size=int(size),
            patch_size=int(patch),
            in_chans=int(getattr(getattr(embed, "proj", None), "in_channels", config["input_size"][0])),
            crop_pct=float(config["crop_pct"]),
            interpolation=config["interpolation"],
            crop_mode=config.get("crop_mode") or "center",
            mean=tuple(float(v) for v in config["mean"]),
            std=tuple(float(v) for v in config["std"]),
        )
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise ValueError(f"image config: pretrained_cfg of {spec.name} is malformed ({error})") from None
    stem = getattr(getattr(getattr(model, "stem", None), "in_conv", None), "conv", None)
    if embed is None and isinstance(stem, torch.nn.Conv2d):  # EfficientViT: windows of the stem's convolution
        chosen |= dict(
            patch_size=stem.kernel_size[0],
            stride=stem.stride[0],
            padding=int(stem.padding[0]),
            in_chans=stem.in_channels,
        )
    for name in ("mean", "std"):  # timm's three-channel default for a gray model
        if chosen["in_chans"] == 1 and len(chosen[name]) == 3:
            chosen[name] = (sum(chosen[name]) / 3,)
    for key, value in (overrides or {}).items():
        if value is not None:
            chosen[key] = tuple(value) if isinstance(value, (list, tuple)) else value
    result = ImageConfig(**chosen)
    if embed is not None and getattr(embed, "img_size", None) and result.image_size != embed.img_size[0]:
        raise ValueError(
            f"image config: image_size {result.image_size} differs from the model's {embed.img_size[0]} "
            "(give img_size in model_args to build the model for another size)"
        )
    return result
