"""Images: files with chunks or bytes changed, arrays of every mode, and the options of what becomes of them."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from vitforge_sw.models.images import ImageConfig, input_pixels
from vitforge_sw.models.pixels import Oddities, flatten, load_image

from .changes import changed, printable, scribbled

_MODES = ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "PA", "RGBA", "F", "I", "LAB", "HSV", "I;16",
          "La", "RGBa"]  # fmt: skip
_CONFIGS = [
    dict(image_size=8, patch_size=4, in_chans=3),
    dict(image_size=8, patch_size=2, in_chans=1, mean=[0.5], std=[0.5], crop_mode="squash", interpolation="nearest"),
    dict(image_size=8, patch_size=3, in_chans=3, stride=2, padding=1, crop_pct=1.0, exif="apply", alpha="white"),
]
_WORDS = ["bicubic", "lanczos", "squash", "center", "apply", "white", "stride", "padding"]


def _chunks(blob: bytes) -> list[tuple[bytes, bytes]]:
    out, at = [], 8
    while at < len(blob):
        size = struct.unpack(">I", blob[at : at + 4])[0]
        out.append((blob[at + 4 : at + 8], blob[at + 8 : at + 8 + size]))
        at += 12 + size
    return out


def png(r: random.Random, blob: bytes) -> bytes:
    """Chunks changed, with right checksums."""
    chunks = _chunks(blob)
    for _ in range(r.randrange(1, 3)):
        i = r.randrange(len(chunks))
        kind, data = chunks[i]
        if kind == b"IHDR" and r.random() < 0.8:
            side = r.choice([0, 1, 5, 33, 1 << 16, 2200, 0x7FFFFFFF])
            data = struct.pack(">IIBBBBB", side, r.choice([1, 5, 1 << 16]), r.choice([1, 2, 4, 8, 16, 7]),
                               r.choice([0, 2, 3, 4, 6, 5]), 0, 0, r.choice([0, 1]))  # fmt: skip
        elif kind == b"IDAT" and r.random() < 0.5:
            data = zlib.compress(bytes(r.randrange(256) for _ in range(r.randrange(200))))
        elif r.random() < 0.5:
            data = scribbled(r, data, 200) if data else b"x"
        else:
            kind = r.choice([b"tRNS", b"PLTE", b"gAMA", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"IEND", b"sBIT"])
        chunks[i] = (kind, data)
    if r.random() < 0.2:
        del chunks[r.randrange(len(chunks))]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return blob[:8] + body


def samples() -> list[tuple[str, bytes]]:
    """(format, file) of small images of every kind that is read, and some that are not."""
    rng = np.random.default_rng(0)
    rgb, gray = rng.integers(0, 256, (9, 7, 3), np.uint8), rng.integers(0, 65536, (9, 7)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    out = []
    for image, kind, options in (
        (Image.fromarray(rgb), "PNG", dict(exif=exif)), (Image.fromarray(rgb), "JPEG", dict(exif=exif)),
        (Image.fromarray(rgb), "WEBP", {}), (Image.fromarray(rgb), "BMP", {}), (Image.fromarray(rgb), "TIFF", {}),
        (Image.fromarray(gray), "TIFF", {}), (Image.fromarray(gray), "PNG", {}), (Image.fromarray(rgb), "PPM", {}),
        (Image.fromarray(rgb).convert("P"), "PNG", dict(transparency=3)),
        (Image.fromarray(gray.astype(np.float32)), "TIFF", {}), (Image.fromarray(gray // 300), "PNG", {}),
        (Image.fromarray(rgb).convert("RGBA"), "PNG", {}), (Image.fromarray(rgb).convert("CMYK"), "JPEG", {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        out.append((kind, buffer.getvalue()))
    return out


class Images:
    """A file, an image in memory, or the options."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.samples = folder, samples()
        self.modes = [Image.new(mode, (5, 3)) for mode in _MODES]
        self.strip = Image.new("L", (1, 40_000))

    def __call__(self, r: random.Random) -> None:
        how = r.random()
        (self.file if how < 0.7 else self.memory if how < 0.8 else self.options)(r)

    def file(self, r: random.Random) -> None:
        kind, blob = r.choice(self.samples)
        path = self.folder / f"x.{kind.lower()}"
        whole = kind == "PNG" and r.random() < 0.8
        path.write_bytes(png(r, blob) if whole else scribbled(r, blob, 200))
        path = path if r.random() < 0.995 else self.folder / r.choice([".", "none.png"])
        channels, exif, seen = r.choice([1, 3]), r.choice(["ignore", "apply"]), Oddities()
        image = load_image(path, channels, exif, r.choice(["ignore", "white", "black"]), seen)
        assert image.mode == ("L" if channels == 1 else "RGB"), "another mode than was asked for"
        for line in seen.lines(1, "apply", "white"):
            printable(line)

    def memory(self, r: random.Random) -> None:
        image, channels = r.choice(self.modes), r.choice([1, 3])
        got = flatten(image, channels, "apply", r.choice(["ignore", "white", "black"]))
        assert got.mode == ("L" if channels == 1 else "RGB") and got.size == image.size

    def options(self, r: random.Random) -> None:
        data: object = r.choice(_CONFIGS)
        for _ in range(r.choice([0, 1, 1, 2])):
            data = changed(r, data, _WORDS)
        if isinstance(data, dict) and r.random() < 0.4:
            name = r.choice(["stride", "padding", "mean", "std", "crop_pct", "in_chans", "interpolation", "crop_mode"])
            odd = [-1, 0, 1, 2, 3, 9, 1e-4, 0.0, [0.5], [0.0] * 3, [2, 0.5, 0.5], "nearest", None]
            data = data | {name: r.choice(odd)}
        config = ImageConfig.from_dict(data)
        assert ImageConfig.from_dict(config.to_dict()) == config, "other options when they are read again"
        if config.image_size <= 64 and config.patch_size <= 64:
            image = self.strip if r.random() < 0.1 else Image.new(r.choice(["L", "RGB", "RGBA"]), (6, 9))
            assert input_pixels(image, config).shape == (config.image_size, config.image_size, config.in_chans)
