"""Shared by the software tests: the shipped digits model and its quantized graphs, the data folder."""

import os
from pathlib import Path

import pytest

from vitforge.shipped import shipped_model
from vitforge_sw.families import quantize_model
from vitforge_sw.families.vit import get_scheme
from vitforge_sw.models.checkpoint import load_model
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.models.labels import labelled_images
from vitforge_sw.models.resolve import resolve_model

ROOT = Path(__file__).resolve().parents[2]


class Digits:
    """The shipped model with everything that tests ask for."""

    def __init__(self):
        self.paths = shipped_model("digits_vit")
        self.spec = resolve_model(str(self.paths.model))
        self.model, self.image = load_model(self.spec, self.paths.checkpoint)
        self.calib = load_patches(list_images(self.paths.calib), self.image)
        pairs = labelled_images(self.paths.test, self.paths.labels)
        self.test = load_patches([path for path, _ in pairs], self.image)
        self.labels = [label for _, label in pairs]

    def quantize(self, scheme: str, images: int | None = None, **options):
        patches = self.calib[:images]
        return quantize_model(self.model, self.spec, self.image, get_scheme(scheme, **options), patches, progress=False)


@pytest.fixture(scope="session")
def digits() -> Digits:
    return Digits()


@pytest.fixture(scope="session", params=["vitforge", "p2vit"])
def graph(request, digits):
    return digits.quantize(request.param)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = Path(os.environ.get("VITFORGE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"VITFORGE_DATA: no folder {folder}")
    return folder
