"""Images that are not plain 8-bit: their values, the line that says so, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from vitforge_sw.models.images import ImageConfig, input_pixels, load_patches, pixels_to_patches
from vitforge_sw.models.pixels import Oddities, load_image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
CONFIG = dict(image_size=16, patch_size=4, crop_pct=1.0)


def values(path, channels=1, **options) -> np.ndarray:
    return np.asarray(load_image(path, channels, **options))


def notes_of(paths, **options) -> list[str]:
    notes = []
    load_patches(paths, ImageConfig(**CONFIG | options), notes=notes)
    return notes


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm", "big_endian.tif"])
@pytest.mark.parametrize("factor", [256, 257])
def test_sixteen_bits_are_scaled(tmp_path, name, factor):
    """A ramp over the whole range comes out as the 8-bit ramp, not clipped to 0 and 255."""
    path, deep = tmp_path / name, RAMP.astype(np.uint16) * factor
    if name.endswith("pgm"):
        path.write_bytes(b"P5 16 16 65535\n" + deep.astype(">u2").tobytes())
    elif name.startswith("big"):
        Image.frombytes("I;16B", (16, 16), deep.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(deep).save(path)
    assert np.array_equal(values(path), RAMP)
    assert np.array_equal(values(path, 3), np.stack([RAMP] * 3, -1))
    assert notes_of([path]) == [f"images: 1 of 1 with 16-bit values (largest {255 * factor}), divided by 256"]


def test_sixteen_bit_colour(tmp_path):
    """Pillow reads the high bytes of 16-bit colour: the same rule."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rgb = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    rows = b"".join(b"\0" + (r.astype(np.uint16) * 257).astype(">u2").tobytes() for r in rgb)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
    path = tmp_path / "c.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert np.array_equal(values(path, 3), rgb)


def test_eight_bits_in_sixteen_are_refused(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "dark.png")
    with pytest.raises(ValueError, match=r"dark.png: .*its 16-bit values end at 255, so that it would be black"):
        load_image(tmp_path / "dark.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "black.png")
    assert not values(tmp_path / "black.png").any()


@pytest.mark.parametrize(
    "mode, says",
    [
        ("F", "mode F cannot be used (floating-point values have no defined range)"),
        ("I", "mode I cannot be used (32-bit values have no defined range)"),
        ("LAB", "mode LAB cannot be used (Pillow converts no Lab image)"),
    ],
)
def test_other_modes_are_refused(tmp_path, mode, says):
    image = Image.new(mode, (16, 16)) if mode == "LAB" else Image.fromarray(RAMP.astype(np.float32)).convert(mode)
    image.save(tmp_path / "x.tif")
    with pytest.raises(ValueError) as caught:
        load_image(tmp_path / "x.tif")
    assert says in str(caught.value) and "x.tif" in str(caught.value) and "\n" not in str(caught.value)


def test_plain_images_keep_their_bytes_and_say_nothing(tmp_path):
    rgb = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    opaque = np.dstack([rgb, np.full((16, 16), 255, np.uint8)])
    for name, array in (("g.png", RAMP), ("c.png", rgb), ("a.png", opaque)):
        Image.fromarray(array).save(tmp_path / name)
    assert np.array_equal(values(tmp_path / "g.png"), RAMP)
    assert np.array_equal(values(tmp_path / "c.png", 3), rgb) and np.array_equal(values(tmp_path / "a.png", 3), rgb)
    for options in ({}, dict(exif="apply", alpha="white")):
        config = ImageConfig(**CONFIG | options)
        assert notes_of([tmp_path / n for n in ("g.png", "c.png", "a.png")], **options) == []
        assert np.array_equal(input_pixels(tmp_path / "c.png", config), rgb)
    assert "exif" not in ImageConfig(**CONFIG).to_dict()  # the hash of models saved before


def test_orientation(tmp_path):
    """Tag 6: the camera was held upright, the top of the scene is the right edge of the file."""
    rgb = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "phone.png", exif=exif)
    exif[0x0112] = 1
    Image.fromarray(rgb).save(tmp_path / "upright.png", exif=exif)
    paths = [tmp_path / "phone.png", tmp_path / "upright.png"]
    ignored, applied = (ImageConfig(**CONFIG, exif=how) for how in ("ignore", "apply"))
    assert np.array_equal(input_pixels(paths[0], ignored), rgb)
    assert np.array_equal(input_pixels(paths[0], applied), np.rot90(rgb, -1))
    assert np.array_equal(input_pixels(paths[1], applied), rgb)
    assert notes_of(paths) == [
        "images: 1 of 2 with an EXIF orientation, ignored as timm does (quantize --exif apply turns them)"
    ]
    assert notes_of(paths, exif="apply") == ["images: 1 of 2 with an EXIF orientation, applied"]
    assert ImageConfig.from_dict(applied.to_dict()) == applied


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_transparency(tmp_path, kind):
    """A cut-out on nothing: half of the pixels see-through, whatever colour they have underneath."""
    path, clear = tmp_path / "cut.png", np.zeros((16, 16), np.uint8)
    clear[:, 8:] = 255
    if kind == "RGBA":
        Image.fromarray(np.dstack([RAMP, RAMP, RAMP, clear])).save(path)
    elif kind == "LA":
        Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(clear)]).save(path)
    else:
        image = Image.fromarray(np.where(clear > 0, RAMP, 0).astype(np.uint8)).convert("P")
        image.save(path, transparency=0)
    under = np.zeros_like(RAMP) if kind == "palette" else RAMP
    for alpha, ground in (("ignore", under), ("white", 255), ("black", 0)):
        want = np.where(clear > 0, RAMP, ground).astype(np.uint8)
        assert np.array_equal(values(path, 3, alpha=alpha), np.stack([want] * 3, -1)), alpha
        assert np.array_equal(values(path, 1, alpha=alpha), want)
    left = "left opaque as timm does (quantize --alpha white, black)"
    assert notes_of([path]) == [f"images: 1 of 1 with transparent pixels, {left}"]
    assert notes_of([path], alpha="white") == ["images: 1 of 1 with transparent pixels, laid on white"]


def test_first_frame(tmp_path):
    first, second = (Image.fromarray(np.full((16, 16), v, np.uint8)) for v in (10, 200))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    assert (values(tmp_path / "pages.tif") == 10).all()
    assert notes_of([tmp_path / "pages.tif"]) == ["images: 1 of 1 with several frames, the first is taken"]


def test_counts_and_arrays(tmp_path):
    """Images in memory follow the same rules."""
    seen = Oddities()
    deep = Image.fromarray(RAMP.astype(np.uint16) * 256)
    pixels = input_pixels(deep, ImageConfig(**CONFIG, in_chans=1, mean=(0.5,), std=(0.5,)), seen)
    assert np.array_equal(pixels[..., 0], RAMP) and seen == {"deep": 1} and seen.deepest == 65280
    assert pixels_to_patches(pixels, ImageConfig(**CONFIG, in_chans=1, mean=(0.5,), std=(0.5,))).min() == -128


def test_options_are_checked():
    with pytest.raises(ValueError, match="exif must be one of ignore, apply, not 'rotate'"):
        ImageConfig(**CONFIG, exif="rotate")
    with pytest.raises(ValueError, match="alpha must be one of ignore, white, black, not 'pink'"):
        ImageConfig(**CONFIG, alpha="pink")
