"""From an image file of any kind to 8-bit RGB or gray, as timm reads it; what is not plain is counted and said.

numpy and Pillow only. 16-bit values keep their high byte, as Pillow does for 16-bit colour. Values without a defined
range (float, 32 bits) and colour spaces that Pillow cannot convert are refused.
"""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

LARGEST = 1 << 27  #: pixels of an image, as it is read and as it is resized
EXIF = ("ignore", "apply")  #: what becomes of an orientation tag
ALPHA = ("ignore", "white", "black")  #: the ground that transparent pixels are laid on
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "PA", "RGBA")
_REASONS = {
    "F": "floating-point values have no defined range",
    "I": "32-bit values have no defined range",
    "LAB": "Pillow converts no Lab image",
    "HSV": "HSV is no file's colour space",
}
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class Oddities(Counter):
    """How many images had something that is not plain: ``exif``, ``alpha``, ``deep``, ``frames``."""

    deepest = 0  #: largest 16-bit value

    def lines(self, images: int, exif: str, alpha: str) -> list[str]:
        """One line for the user for each kind, of ``images`` in all, with what became of it."""
        says = {
            "exif": "an EXIF orientation, "
            + ("applied" if exif == "apply" else "ignored as timm does (quantize --exif apply turns them)"),
            "alpha": "transparent pixels, "
            + (f"laid on {alpha}" if alpha != "ignore" else "left opaque as timm does (quantize --alpha white, black)"),
            "deep": f"16-bit values (largest {self.deepest}), divided by 256",
            "frames": "several frames, the first is taken",
        }
        return [f"images: {self[kind]} of {images} with {text}" for kind, text in says.items() if self[kind]]


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata of any kind does not make the pixels unreadable
        return 1


def _animated(image: Image.Image) -> bool:
    try:
        return image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a phone's photo and its preview
    except Exception:  # a damaged second page
        return False


def _eight_bits(image: Image.Image, seen: Oddities) -> Image.Image:
    """A 16-bit gray image by its high bytes; one that would turn black is refused."""
    values = np.asarray(image).astype(np.uint32)
    top = int(values.max(initial=0))
    if 0 < top < 256:
        raise ValueError(f"its 16-bit values end at {top}, so that it would be black; save it with 8 bits")
    seen["deep"] += 1
    seen.deepest = max(seen.deepest, top)
    return Image.fromarray((values >> 8).astype(np.uint8))


def flatten(
    image: Image.Image, channels: int, exif: str = "ignore", alpha: str = "ignore", seen: Oddities | None = None
) -> Image.Image:
    """``image`` as 8-bit RGB (3 channels) or gray (1). What has no such form is a ValueError, without a name."""
    seen = Oddities() if seen is None else seen
    if _animated(image):
        seen["frames"] += 1
    if _orientation(image) in range(2, 9):
        seen["exif"] += 1
        if exif == "apply":
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # a 16-bit PGM
        image = _eight_bits(image, seen)
    if image.mode not in _PLAIN:
        reason = _REASONS.get(image.mode, "it is no mode of images for display")
        raise ValueError(f"mode {image.mode} cannot be used ({reason}); save it with 8 or 16 bits, RGB or gray")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema()[0] < 255:
            seen["alpha"] += 1
            if alpha != "ignore":
                image = Image.alpha_composite(Image.new("RGBA", layer.size, alpha), layer)
    return image.convert("RGB" if channels == 3 else "L")


def load_image(
    path: str | Path, in_chans: int = 3, exif: str = "ignore", alpha: str = "ignore", seen: Oddities | None = None
) -> Image.Image:
    """Decode a file to RGB (3 channels) or 8-bit gray (1). Unreadable and unusable files are a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on size, EXIF, palettes: what matters is said by Oddities
            with Image.open(path) as image:
                if image.width * image.height > LARGEST:  # gigabytes when it is decoded
                    raise ValueError(f"{image.width} x {image.height} pixels, the most is {LARGEST}")
                image.load()
                return flatten(image, in_chans, exif, alpha, seen)
    except Exception as error:  # Pillow's decoders raise every kind on damaged files
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).split("\n")[0]
        raise ValueError(f"image {path}: cannot be read ({reason or type(error).__name__})") from None
