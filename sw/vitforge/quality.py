"""How good a fresh integer model is: SQNR of its logits on images that calibration did not use; its worst layers."""

from pathlib import Path

import numpy as np

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import Graph
from vitforge_sw.models.files import list_images, some_images
from vitforge_sw.models.images import load_patches
from vitforge_sw.quant.quality import Quality, held

from .api import FloatModel

IMAGES = 16  #: judged at most


def judge(
    graph: Graph,
    source: FloatModel,
    noted: Quality,
    patches: np.ndarray,
    calib: object,
    limit: int | None,
    progress: bool = False,
) -> dict:
    """{logit_sqnr_db, agreement (per cent), images, held_back, layers {name: dB}, worst [[name, dB], ...]}.

    The images are those of the folder ``calib`` that ``limit`` left out; where it left none, every fourth of the
    calibration ``patches``, which choices of roundings are judged by (``held_back`` is False then).
    """
    left = _left_out(calib, limit)
    judged = load_patches(left, source.image, progress) if left else held(patches)[:IMAGES]
    reference = float_logits(source.model, judged, source.image)
    got = real_logits(graph, Golden(graph).logits(judged))
    return {
        "logit_sqnr_db": sqnr_db(reference, got),
        "agreement": 100 * float((got.argmax(1) == reference.argmax(1)).double().mean()),
        "images": len(judged),
        "held_back": bool(left),
        "layers": dict(noted.layers),
        "worst": [list(item) for item in noted.worst()],
    }


def _left_out(calib: object, limit: int | None) -> list[Path]:
    """Up to IMAGES files of a folder that calibration did not take, evenly over the rest."""
    if limit is None or not isinstance(calib, str | Path) or not Path(calib).is_dir():
        return []
    taken = set(some_images(calib, limit))
    rest = [f for f in list_images(calib) if f not in taken]
    return [rest[i * len(rest) // IMAGES] for i in range(IMAGES)] if len(rest) > IMAGES else rest


def lines(quality: dict) -> list[str]:
    """Two lines for the user."""
    which = "left out of calibration" if quality["held_back"] else "of the calibration set (--limit leaves some out)"
    worst = ", ".join(f"{name} {db:.1f} dB" for name, db in quality["worst"])
    return [
        f"logits: SQNR {quality['logit_sqnr_db']:.2f} dB, arg-max as in float {quality['agreement']:.1f} %, "
        f"on {quality['images']} images {which}",
        f"worst layers (outputs against the float model's): {worst}",
    ]
