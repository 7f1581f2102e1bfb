"""From an image file to the accelerator's input bytes: the one definition that drivers, CLI and benches share.

Only numpy and Pillow, so that a board's driver can use it. Resize and centre crop are those of timm's evaluation
transform (checked against it in the tests); the bytes are ``pixel - 128``, mean and standard deviation are folded
into the patch embedding's weights by the quantizer.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from PIL import Image

from . import windows
from .pixels import ALPHA, EXIF, LARGEST, Oddities, flatten, load_image

_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CROP_MODES = ("center", "squash")


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """timm's data config of one model, and the patches (or overlapping windows) that order the bytes."""

    image_size: int
    patch_size: int
    in_chans: int = 3
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    crop_mode: str = "center"  #: center: short side to image_size / crop_pct, then crop; squash: resize both sides
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    stride: int = 0  #: distance of patches; 0: disjoint patches, else windows of a padded convolution (windows.py)
    padding: int = 0  #: pixels around the image, windows only
    exif: str = "ignore"  #: a file's orientation tag: ignore, apply
    alpha: str = "ignore"  #: the ground of transparent pixels: ignore (their own colour), white, black

    def __post_init__(self):
        def need(ok, text):
            if not ok:
                raise ValueError(f"image config: {text}")

        need(
            _integer(self.image_size) and self.image_size > 0,
            f"image_size must be a positive integer, not {self.image_size!r}",
        )
        need(
            _integer(self.patch_size) and self.patch_size > 0,
            f"patch_size must be a positive integer, not {self.patch_size!r}",
        )
        if self.stride:
            need(
                _integer(self.stride) and 0 < self.stride <= self.patch_size,
                f"stride must be in 1..patch_size = {self.patch_size}, not {self.stride!r}",
            )
            need(
                _integer(self.padding) and 0 <= 2 * self.padding < self.patch_size <= self.image_size,
                f"padding must be below half of patch_size = {self.patch_size}, not {self.padding!r}",
            )
            reach = self.stride * (self.side - 1) + self.patch_size - self.padding
            need(reach >= self.image_size, f"windows reach {reach} of image_size {self.image_size} pixels")
        else:
            need(
                self.image_size % self.patch_size == 0,
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size!r}",
            )
            no = self.padding == 0 and _integer(self.padding)
            need(no, f"padding must be 0 for disjoint patches, not {self.padding!r}")
        need(_integer(self.in_chans) and self.in_chans in (1, 3), f"in_chans must be 1 or 3, not {self.in_chans!r}")
        need(
            self.interpolation in _INTERPOLATION,
            f"interpolation must be one of {', '.join(_INTERPOLATION)}, not {self.interpolation!r}",
        )
        need(
            self.crop_mode in _CROP_MODES, f"crop_mode must be one of {', '.join(_CROP_MODES)}, not {self.crop_mode!r}"
        )
        need(self.exif in EXIF, f"exif must be one of {', '.join(EXIF)}, not {self.exif!r}")
        need(self.alpha in ALPHA, f"alpha must be one of {', '.join(ALPHA)}, not {self.alpha!r}")
        need(0 < self.crop_pct <= 1, f"crop_pct must be in (0, 1], not {self.crop_pct!r}")
        for name in ("mean", "std"):
            value = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, value)
            need(len(value) == self.in_chans, f"{name} must have in_chans = {self.in_chans} values, not {len(value)}")
            need(all(0 <= v <= 1 for v in value), f"{name} must be in 0..1, of pixels in 0..1, not {value}")
        need(all(v > 0 for v in self.std), f"std must be positive, not {self.std}")

    side = property(
        lambda s: windows.window_count(s.image_size, s.patch_size, s.stride or s.patch_size, s.padding),
        doc="patches along one side",
    )
    patches = property(lambda s: s.side**2)
    patch_bytes = property(lambda s: s.in_chans * s.patch_size**2)

    def to_dict(self) -> dict:
        """Of the newer fields only those that differ from their default: models saved before keep their hash."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {k: v for k, v in fields.items() if k not in ("exif", "alpha") or v != "ignore"}

    @classmethod
    def from_dict(cls, data: dict | None) -> "ImageConfig":
        """The inverse of :meth:`to_dict`; no object, unknown or missing names are a ValueError."""
        if not isinstance(data, dict):
            raise ValueError("image config: the model has none: what becomes of an image is unknown")
        known = {f.name for f in dataclasses.fields(cls)}
        if extra := set(data) - known:
            raise ValueError(f"image config: unknown parameter {sorted(extra)[0]!r}")
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
        except TypeError as error:
            raise ValueError(f"image config: {error}") from None


def input_pixels(image: Image.Image | str | Path, config: ImageConfig, seen: Oddities | None = None) -> np.ndarray:
    """Resized and cropped pixels: uint8 (image_size, image_size, in_chans). ``seen`` counts what was not plain."""
    how, what = (config.in_chans, config.exif, config.alpha, seen), image
    image = load_image(image, *how) if isinstance(image, (str, Path)) else flatten(image, *how)
    size, how, (w, h) = config.image_size, _INTERPOLATION[config.interpolation], image.size
    if config.crop_mode == "squash":
        scale = math.floor(size / config.crop_pct)
        wanted = (scale, scale)
    else:  # as torchvision's Resize: the short side exactly, the long side truncated
        scale = math.floor(size / config.crop_pct)
        wanted = (scale, int(scale * h / w)) if w <= h else (int(scale * w / h), scale)
    if wanted[0] * wanted[1] > LARGEST:
        name = f"image {what}" if isinstance(what, (str, Path)) else "image"
        raise ValueError(f"{name}: {w} x {h} pixels would become {wanted[0]} x {wanted[1]}; cut it")
    if image.size != wanted:
        image = image.resize(wanted, how)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8).reshape(size, size, config.in_chans)


def pixels_to_patches(pixels: np.ndarray, config: ImageConfig) -> np.ndarray:
    """uint8 (H, W, C) to int8 (patches, C * ps * ps): pixel - 128, a patch flattened as a convolution's weight
    ``weight.reshape(N, -1)`` is (channel, row, column), patches row by row."""
    if config.stride:
        return windows.pixels_to_windows(pixels, config.patch_size, config.stride, config.padding, config.mean)
    n, ps = config.image_size // config.patch_size, config.patch_size
    x = (pixels.astype(np.int16) - 128).astype(np.int8)
    x = x.reshape(n, ps, n, ps, config.in_chans).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(x.reshape(n * n, config.patch_bytes))


def input_patches(image: Image.Image | str | Path, config: ImageConfig, seen: Oddities | None = None) -> np.ndarray:
    """The accelerator's input bytes: int8 (patches, C * ps * ps)."""
    return pixels_to_patches(input_pixels(image, config, seen), config)


def patches_to_float(patches: np.ndarray, config: ImageConfig) -> np.ndarray:
    """The float model's input of the same bytes: float32 (B, C, H, W), normalised by mean and std."""
    n, ps, c = config.side, config.patch_size, config.in_chans
    if config.stride:
        x = windows.windows_to_pixels(patches, config.image_size, c, ps, config.stride, config.padding)
    else:
        x = patches.reshape(-1, n, n, c, ps, ps).transpose(0, 3, 1, 4, 2, 5).reshape(-1, c, n * ps, n * ps)
    x = (x.astype(np.float32) + 128) / 255
    shape = (1, c, 1, 1)
    return (x - np.reshape(config.mean, shape).astype(np.float32)) / np.reshape(config.std, shape).astype(np.float32)


def load_patches(
    files: list[Path], config: ImageConfig, progress: bool = False, notes: list[str] | None = None
) -> np.ndarray:
    """Input bytes of many files: int8 (B, patches, C * ps * ps). ``notes`` gets a line for each kind of oddity."""
    from ..progress import steps

    out = np.empty((len(files), config.patches, config.patch_bytes), dtype=np.int8)
    seen = Oddities()
    for i, path in enumerate(steps(files, "images", progress)):
        out[i] = input_patches(path, config, seen)
    if notes is not None:
        notes += seen.lines(len(files), config.exif, config.alpha)
    return out
