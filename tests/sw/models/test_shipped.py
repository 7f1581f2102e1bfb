"""The shipped EfficientViT: it fits the preset it is shown on, and quantizes without loss."""

import pytest
import torch

from vitforge import api
from vitforge.shipped import shipped_model
from vitforge_hw.arch.config import get_config
from vitforge_sw.families.efficientvit.frontend import LiteMLA, import_efficientvit
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.images import input_pixels, windows
from vitforge_sw.models.resolve import resolve_model

NAME = "digits_efficientvit"


@pytest.fixture(scope="module")
def loaded():
    paths = shipped_model(NAME)
    return load_model(resolve_model(str(paths.model)), paths.checkpoint)


def test_unknown_name():
    with pytest.raises(ValueError, match="'cats' is unknown; there are digits_efficientvit, digits_vit"):
        shipped_model("cats")


def test_size_and_images():
    paths = shipped_model(NAME)
    assert 300_000 <= paths.checkpoint.stat().st_size <= 1_500_000
    pairs = api.labelled_images(paths.test, paths.labels)
    assert len(pairs) == 400 and {label for _, label in pairs} == set(range(10))
    assert len(api.labelled_images(shipped_model("digits_vit").test, paths.labels)) == 400


def test_fits_tiny_hybrid(loaded):
    """Words without padding, activations on chip, weights that must stream."""
    model, image = loaded
    net, config = import_efficientvit(model), get_config("tiny_hybrid")
    sizes, weights = [], 0

    def record(name, value):
        sizes.append(value[0].numel())
        assert value.shape[-1] % config.word == 0 or name == "head.classifier.4", name

    x = torch.zeros(1, 3, image.image_size, image.image_size)
    assert net(torch.nn.functional.unfold(x, 3, stride=2, padding=1).mT.unflatten(1, (32, 32)), record).shape == (1, 10)
    # input, output and residual of one layer at the same time
    assert 3 * max(sizes) < config.act_rows * config.row_bytes
    attention = [b for b in net.blocks if isinstance(b, LiteMLA)]
    assert len(attention) == 2 and {b.dim for b in attention} == {config.word}
    for block in attention:
        assert block.heads * (1 + len(block.branches)) <= config.ksum_rows
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            weights += layer.weight.numel()
            assert layer.weight[0].numel() <= config.max_k
    assert weights > config.weight_rows * config.weight_row_bytes
    assert model.head.classifier[1].normalized_shape[0] <= config.max_channels


def test_image_reader_enlarges_the_scans(loaded):
    """8 x 8 gray to 64 x 64 RGB, in training as here; the padding is a pixel value."""
    _, image = loaded
    path = api.labelled_images(shipped_model(NAME).test, shipped_model(NAME).labels)[0][0]
    pixels = input_pixels(path, image)
    assert pixels.shape == (64, 64, 3) and (pixels == pixels[..., :1]).all() and len(set(pixels.flatten())) > 64
    padded = windows.pixels_to_windows(pixels, 3, 2, 1, image.mean)
    assert abs((int(padded[0, 0]) + 128) / 255 - image.mean[0]) < 1e-4


@pytest.mark.parametrize("scheme", ["vitforge", "trio"])
def test_quantized(scheme):
    """Every held-out scan: the integer model is within a percent of the float model, which reads 98 % at least."""
    paths = shipped_model(NAME)
    assert all(row.supported for row in api.check(str(paths.model)))
    source = api.load_float(str(paths.model), paths.checkpoint)
    graph = api.quantize(source, paths.calib, scheme)
    result = api.evaluate(graph, paths.test, paths.labels, api.float_of(graph, paths.checkpoint))
    assert result["float"]["top1"] >= 392
    assert result["top1"] >= result["float"]["top1"] - 4
    assert result["agreement"] >= 99 and result["logit_sqnr_db"] > 30
