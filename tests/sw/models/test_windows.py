"""Windows of a padded convolution: the stem's product on them is the convolution; the inverse gives the image back."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vitforge_sw.models.images import ImageConfig, patches_to_float, pixels_to_patches
from vitforge_sw.models.windows import pad_bytes


def config(size, **kw):
    return ImageConfig(image_size=size, patch_size=3, stride=2, padding=1, **kw)


@pytest.mark.parametrize("size", [3, 8, 37, 64])
def test_windows_and_back(size):
    image = config(size)
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.uint8)
    windows = pixels_to_patches(pixels, image)
    assert windows.shape == (image.patches, 27) and windows.dtype == np.int8
    x = torch.from_numpy(pixels.astype(np.float32) - 128).permute(2, 0, 1)[None]
    padded = torch.empty(1, 3, size + 2, size + 2)
    padded[:] = torch.from_numpy(pad_bytes(image.mean).astype(np.float32)).view(3, 1, 1)
    padded[..., 1:-1, 1:-1] = x
    assert torch.equal(F.unfold(padded, 3, stride=2)[0].T, torch.from_numpy(windows).float())
    back = patches_to_float(windows[None], image)
    want = (pixels / 255 - np.array(image.mean)) / np.array(image.std)
    assert np.abs(back[0].transpose(1, 2, 0) - want).max() < 1e-5


def test_padding_is_the_byte_nearest_to_the_mean():
    assert pad_bytes((0.485, 0.5, 0.0, 1.0)).tolist() == [124 - 128, 128 - 128, -128, 127]


@pytest.mark.parametrize(
    "kw,text",
    [
        (dict(stride=4), "stride must be in 1..patch_size = 3, not 4"),
        (dict(padding=2), "padding must be below half of patch_size = 3, not 2"),
        (dict(stride=0, padding=1, image_size=9), "padding must be 0 for disjoint patches, not 1"),
    ],
)
def test_bad_windows(kw, text):
    with pytest.raises(ValueError, match=text):
        ImageConfig(**dict(image_size=16, patch_size=3, stride=2, padding=1) | kw)
