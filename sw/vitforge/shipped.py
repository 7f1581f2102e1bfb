"""The trained models that the package ships."""

import dataclasses
from pathlib import Path

_FOLDER = Path(__file__).parent / "models"
_IMAGES = {"digits_efficientvit": "digits_vit"}  #: whose images a model without images of its own has


@dataclasses.dataclass(frozen=True)
class ShippedModel:
    """Paths of one model: hub-form JSON, checkpoint, calibration images, held-out images with their labels."""

    model: Path
    checkpoint: Path
    calib: Path
    test: Path
    labels: Path


def shipped_model(name: str = "digits_vit") -> ShippedModel:
    """Trained on scikit-learn's handwritten digits, real scans of 8 x 8 pixels; both have the same held-out scans.

    ``digits_vit``: a ViT of 78,000 parameters (scripts/train_digits.py).
    ``digits_efficientvit``: an EfficientViT of 167,000 parameters on scans enlarged to 64 x 64 RGB, with linear
    attention in two stages (scripts/train_digits_efficientvit.py).
    """
    folder = _FOLDER / name
    if not folder.is_dir():
        known = sorted(p.name for p in _FOLDER.iterdir() if p.is_dir())
        raise ValueError(f"shipped model {name!r} is unknown; there are {', '.join(known)}")
    images = _FOLDER / _IMAGES.get(name, name)
    return ShippedModel(
        folder / f"{name}.json",
        folder / f"{name}.safetensors",
        images / "calib",
        images / "test",
        images / "test" / "labels.csv",
    )
