"""``vitforge compare``: one row per scheme, each quantized and run on the same images; rows that are done are kept."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vitforge_sw.evaluate import float_logits, real_logits, sqnr_db
from vitforge_sw.families.choices import scheme_file
from vitforge_sw.families.quantize import float_hash, quantize_model
from vitforge_sw.families.schemes import SCHEME_NAMES, scheme_for
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.families.vit.precision.run import Task
from vitforge_sw.families.vit.schemes import SCHEMES, Scheme
from vitforge_sw.families.vit.simulated.model import calibrate, published_drop, simulated_logits
from vitforge_sw.families.vit.simulated.schemes import SIMULATED, Simulated
from vitforge_sw.golden.model import Golden

from .api import FloatModel

CALIBRATION_SIZES = (5, 10, 25, 50, 100)
PUBLISHED_OF = "deit_tiny_patch16_224"
PUBLISHED = {"p2vit_literal": 1.28}  #: points lost on DeiT-Tiny in the publication, of schemes that the machine runs


@dataclasses.dataclass(frozen=True)
class Row:
    """A scheme with its options, on ``images`` calibration images (None: all)."""

    text: str
    scheme: Scheme | Simulated
    images: int | None = None


def steps(model: torch.nn.Module) -> list[Row]:
    """From P2-ViT's literal form to ``vitforge``, one option after the other in the order of the scheme's fields
    (maxrel codes behind the row factor that they need)."""
    rows = [Row("p2vit_literal", scheme_for(model, "p2vit_literal"))]
    names = [f.name for f in dataclasses.fields(Scheme) if f.name not in ("name", "rule")]
    names.insert(names.index("row_factor") + 1, "rule")
    for name in ("p2vit", "vitforge"):
        goal = SCHEMES[name]
        for field in names:
            value = getattr(goal, field)
            if getattr(rows[-1].scheme, field) != value:
                text = f"+ {field} {value}"
                rows.append(Row(text, dataclasses.replace(rows[-1].scheme, **{field: value})))
        rows[-1] = dataclasses.replace(rows[-1], text=f"{rows[-1].text} = {name}")
    return rows


def granularity() -> list[Row]:
    """Weights and activations per tensor, group and channel."""
    base, parts = SIMULATED["minmax"], ("tensor", "group", "channel")
    return [
        Row(f"weights per {w}, activations per {a}", dataclasses.replace(base, weight_granularity=w, granularity=a))
        for w in parts
        for a in parts
    ]


def rows_of(names: list[str], model: torch.nn.Module) -> list[Row]:
    """The rows of a table: groups (ablation, schemes, granularity, calibration), names and files of schemes."""
    groups: dict[str, Callable[[], list[Row]]] = {
        "ablation": lambda: steps(model),
        "schemes": lambda: [Row(n, s) for n, s in SIMULATED.items()],
        "granularity": granularity,
        "calibration": lambda: [
            Row(f"vitforge, {n} calibration images", scheme_for(model, "vitforge"), n) for n in CALIBRATION_SIZES
        ],
    }
    found = []
    for name in names:
        if name in groups:
            found += groups[name]()
        elif name in SIMULATED:
            found.append(Row(name, SIMULATED[name]))
        elif name in SCHEME_NAMES:
            found.append(Row(name, scheme_for(model, name)))
        elif name.endswith(".json"):
            base, options = scheme_file(name)
            found.append(Row(f"{base}, {Path(name).stem}", scheme_for(model, base, **options)))
        else:
            known = [*groups, *SCHEMES, *SIMULATED, "scheme files *.json"]
            raise ValueError(f"row {name!r} is unknown; rows are {', '.join(known)}")
    return found


class Comparison:
    """Rows of one model on one set of calibration and one of test images."""

    def __init__(self, model: FloatModel, calib: np.ndarray, test: np.ndarray, labels: list[int], state: dict):
        self.model, self.calib, self.test = model, calib, test
        self.labels, self.state = torch.tensor(labels), state
        if type(model.model).__name__ == "EfficientVit":
            raise ValueError(f"compare: the rows are schemes of ViTs; {model.spec.name} is an EfficientViT")
        parts = [float_hash(model.model), json.dumps(model.image.to_dict()), repr(labels)]
        digests = [hashlib.sha256(x.tobytes()).hexdigest() for x in (calib, test)]
        self.key = hashlib.sha256("\n".join([*parts, *digests]).encode()).hexdigest()
        self.want: torch.Tensor | None = None

    def _float(self) -> torch.Tensor:
        if self.want is None:
            self.want = float_logits(self.model.model, self.test, self.model.image)
        return self.want

    def _logits(self, row: Row) -> torch.Tensor:
        m, patches = self.model, self.calib[: row.images]
        if isinstance(row.scheme, Scheme):
            graph = quantize_model(m.model, m.spec, m.image, row.scheme, patches, trained=m.trained, progress=False)
            return real_logits(graph, Golden(graph).logits(self.test))
        task = Task(m.model, m.spec, m.image, SCHEMES["p2vit"], self.calib, m.trained)
        vit = import_vit(m.model)
        with torch.inference_mode():
            tap = calibrate(vit, row.scheme, task.floats(patches))
            return simulated_logits(vit, tap, task.floats(self.test))

    def measure(self, row: Row) -> dict:
        """{top1, agreement, sqnr_db, float_top1, seconds, integer}, measured or kept from before."""
        options = json.dumps(dataclasses.asdict(row.scheme) | {"name": ""}, sort_keys=True)
        key = hashlib.sha256(f"{self.key} {type(row.scheme).__name__} {options} {row.images}".encode()).hexdigest()
        if key not in self.state:
            begin = time.perf_counter()
            got, want = self._logits(row), self._float()
            right = lambda x: int((x.argmax(1) == self.labels).sum())  # noqa: E731
            self.state[key] = {
                "images": len(want), "top1": right(got), "float_top1": right(want),
                "agreement": 100 * float((got.argmax(1) == want.argmax(1)).double().mean()),
                "sqnr_db": sqnr_db(want, got), "integer": isinstance(row.scheme, Scheme),
                "seconds": time.perf_counter() - begin,
            }  # fmt: skip
        return self.state[key]


def line(row: Row, found: dict, architecture: str) -> tuple[str, ...]:
    """A row of the printed table; publications' drops beside the model that they are of."""
    drop = published_drop(row.scheme) if isinstance(row.scheme, Simulated) else PUBLISHED.get(row.text)
    drop = drop if architecture == PUBLISHED_OF else None
    return (
        row.text, "integer" if found["integer"] else "simulated", f"{found['top1']}/{found['images']}",
        f"{found['agreement']:.1f}", f"{found['sqnr_db']:.1f}", "" if drop is None else f"{drop:+.2f}",
    )  # fmt: skip


HEADER = ("scheme", "kind", "top-1", "agreement %", "SQNR dB", "published drop")
