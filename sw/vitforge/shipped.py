"""The trained models that the package ships."""

import dataclasses
from pathlib import Path

_FOLDER = Path(__file__).parent / "models"


@dataclasses.dataclass(frozen=True)
class ShippedModel:
    """Paths of one model: hub-form JSON, checkpoint, calibration images, held-out images with their labels."""

    model: Path
    checkpoint: Path
    calib: Path
    test: Path
    labels: Path


def shipped_model(name: str = "digits_vit") -> ShippedModel:
    """``digits_vit``: a ViT of 78,000 parameters on scikit-learn's handwritten digits (scripts/train_digits.py)."""
    folder = _FOLDER / name
    if not folder.is_dir():
        known = sorted(p.name for p in _FOLDER.iterdir() if p.is_dir())
        raise ValueError(f"shipped model {name!r} is unknown; there are {', '.join(known)}")
    test = folder / "test"
    return ShippedModel(
        folder / f"{name}.json", folder / f"{name}.safetensors", folder / "calib", test, test / "labels.csv"
    )
