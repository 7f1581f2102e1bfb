"""Input bytes: timm's own transform, patch order, and bad input."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import (
    ImageConfig,
    input_patches,
    input_pixels,
    load_image,
    patches_to_float,
    pixels_to_patches,
)
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.timm_import import import_timm


def picture(width, height, seed=0, mode="RGB"):
    rng = np.random.default_rng(seed)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    small = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(299, 299), (500, 333), (333, 501), (64, 200), (224, 224)])
@pytest.mark.parametrize(
    "config",
    [
        dict(image_size=224, patch_size=16, crop_pct=0.9, interpolation="bicubic"),
        dict(image_size=224, patch_size=16, crop_pct=0.875, interpolation="bilinear"),
        dict(image_size=64, patch_size=8, crop_pct=1.0, interpolation="bilinear", crop_mode="squash"),
    ],
)
def test_pixels_are_those_of_timm(size, config):
    config = ImageConfig(**config)
    transform = import_timm().data.create_transform(
        (3, config.image_size, config.image_size), is_training=False, interpolation=config.interpolation,
        crop_pct=config.crop_pct, crop_mode=config.crop_mode, mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    image = picture(*size)
    want = (transform(image) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(input_pixels(image, config), want)


@pytest.mark.parametrize("chans", [1, 3])
def test_patches_are_a_convolution(chans):
    config = ImageConfig(image_size=12, patch_size=4, in_chans=chans, mean=(0.4,) * chans, std=(0.3,) * chans)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 12, chans), dtype=np.uint8)
    patches = pixels_to_patches(pixels, config)
    assert patches.shape == (9, chans * 16) and patches.dtype == np.int8
    conv = torch.nn.Conv2d(chans, 5, 4, 4)
    x = torch.from_numpy(pixels.astype(np.float32) - 128).permute(2, 0, 1)[None]
    flat = torch.from_numpy(patches.astype(np.float32)) @ conv.weight.reshape(5, -1).T + conv.bias
    assert torch.allclose(conv(x)[0].flatten(1).T, flat, atol=1e-2)
    back = patches_to_float(patches[None], config)
    assert np.allclose(back[0], ((pixels / 255 - 0.4) / 0.3).transpose(2, 0, 1), atol=1e-6)


def test_gray_and_colour_files(tmp_path):
    picture(20, 30, mode="L").save(tmp_path / "g.png")
    config = ImageConfig(image_size=8, patch_size=2, in_chans=3, crop_pct=1.0)
    assert input_patches(tmp_path / "g.png", config).shape == (16, 12)
    assert load_image(tmp_path / "g.png", 1).mode == "L"


def test_config_round_trip_and_errors():
    config = ImageConfig(image_size=32, patch_size=8)
    assert ImageConfig.from_dict(config.to_dict()) == config
    for change, text in [
        (dict(patch_size=5), "image_size 32 must be a multiple of patch_size 5"),
        (dict(interpolation="cubic"), "interpolation must be one of nearest, bilinear"),
        (dict(crop_pct=0.0), r"crop_pct must be in \(0, 1\], not 0.0"),
        (dict(mean=(0.5,)), "mean must have in_chans = 3 values, not 1"),
        (dict(std=(0.5, 0.0, 1.0)), "std must be positive"),
        (dict(in_chans=2), "in_chans must be 1 or 3, not 2"),
        (dict(crop_mode="border"), "crop_mode must be one of"),
    ]:
        with pytest.raises(ValueError, match=text):
            ImageConfig(**(dict(image_size=32, patch_size=8) | change))
    with pytest.raises(ValueError, match="unknown parameter 'size'"):
        ImageConfig.from_dict({"size": 3})
    with pytest.raises(ValueError, match="image config"):
        ImageConfig.from_dict({"image_size": 32})


def test_truth_values_are_no_numbers():
    for name in ("image_size", "patch_size", "in_chans", "stride", "padding"):
        with pytest.raises(ValueError, match=f"^image config: {name} must be .*, not (True|False)$"):
            ImageConfig(**dict(image_size=8, patch_size=1) | {name: name != "padding"})


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_a_small_crop_of_a_large_image(mode):
    config = ImageConfig(image_size=8, patch_size=8, crop_pct=1e-4, crop_mode=mode)
    with pytest.raises(ValueError, match="^image: 6 x 6 pixels would become 80000 x 80000; cut it$"):
        input_pixels(Image.new("RGB", (6, 6)), config)


def test_folders(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        list_images(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image"):
        list_images(tmp_path)
    for name in ("b/2.png", "a/1.png", "a/x/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(9, 9).save(tmp_path / name)
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ["a/1.png", "a/x/0.jpg", "b/2.png"]
    assert [label for _, label in labelled_images(tmp_path)] == [0, 0, 1]
    (tmp_path / "labels.csv").write_text("file,label\nb/2.png,7\na/1.png,3\n")
    pairs = labelled_images(tmp_path, tmp_path / "labels.csv")
    assert [(p.name, label) for p, label in pairs] == [("2.png", 7), ("1.png", 3)]
    for text, message in [
        ("file,label\nz.png,1\n", "line 2: no such image"),
        ("file,label\na/1.png,cat\n", "label must be a class index, not 'cat'"),
        ("name,class\n", "needs a header file,label"),
        ("", "needs a header file,label"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            labelled_images(tmp_path, tmp_path / "bad.csv")
    with pytest.raises(ValueError, match="cannot be read"):
        labelled_images(tmp_path, tmp_path / "none.csv")
    picture(9, 9).save(tmp_path / "stray.png")
    with pytest.raises(ValueError, match="class's subfolder, not stray.png"):
        labelled_images(tmp_path)


def test_an_image_of_gigabytes(tmp_path):
    """Refused by its header, before it is decoded."""
    picture(9, 9).save(tmp_path / "large.png")
    blob = (tmp_path / "large.png").read_bytes()
    head = b"IHDR" + struct.pack(">II", 12_000, 12_000) + blob[24:29]
    (tmp_path / "large.png").write_bytes(blob[:12] + head + struct.pack(">I", zlib.crc32(head)) + blob[33:])
    with pytest.raises(ValueError, match=r"large.png: cannot be read \(12000 x 12000 pixels, the most is 134217728\)"):
        load_image(tmp_path / "large.png")


def test_unreadable_images(tmp_path):
    picture(50, 50).save(tmp_path / "good.png")
    blob = (tmp_path / "good.png").read_bytes()
    for name, data in [("cut.png", blob[:500]), ("text.png", b"hello"), ("empty.jpg", b"")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"image .*{name}: cannot be read") as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such file"):
        load_image(tmp_path / "none.png")
