"""DeiT-Tiny with ImageNet weights: accuracy, rates and time of quantization (needs VITFORGE_DATA)."""

import time

import pytest

from vitforge_sw.evaluate import evaluate
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.resolve import resolve_model

#: top-1 of 200, agreement in percent, logit SQNR in dB
FLOORS = {"vitforge": (162, 95, 18.5), "p2vit": (161, 90, 12.5)}


@pytest.fixture(scope="module")
def deit(data_folder):
    spec = resolve_model("deit_tiny_patch16_224")
    model, image = load_model(spec, data_folder / "checkpoints/deit_tiny_patch16_224.safetensors")
    pairs = labelled_images(data_folder / "imagenet_cc/test", data_folder / "imagenet_cc/test/labels.csv")
    return spec, model, image, list_images(data_folder / "imagenet_cc/calib"), pairs


def test_a_few_images(deit):
    """The road in seconds: 5 calibration images, 10 test images."""
    spec, model, image, calib, pairs = deit
    patches = load_patches(calib[:5], image)
    graph = quantize_model(model, spec, image, get_scheme("vitforge"), patches, progress=False)
    result = evaluate(graph, [p for p, _ in pairs[:10]], [label for _, label in pairs[:10]], model)
    print(result)
    assert result["agreement"] >= 70 and result["logit_sqnr_db"] >= 13


@pytest.mark.slow
@pytest.mark.parametrize("scheme", FLOORS)
def test_accuracy(deit, scheme):
    spec, model, image, calib, pairs = deit
    start = time.perf_counter()
    graph = quantize_model(model, spec, image, get_scheme(scheme), load_patches(calib, image), progress=False)
    seconds = time.perf_counter() - start
    result = evaluate(graph, [p for p, _ in pairs], [label for _, label in pairs], model)
    print(scheme, f"{seconds:.0f} s", result)
    top1, agreement, sqnr = FLOORS[scheme]
    assert (result["float"]["top1"], result["float"]["top5"]) == (164, 194)
    assert result["top1"] >= top1 and result["agreement"] >= agreement and result["logit_sqnr_db"] >= sqnr
    assert result["images_per_second"] >= result["float"]["images_per_second"] / 3
    assert seconds < 300
