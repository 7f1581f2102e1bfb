"""Build directories: build.json, memory.bin, schedule.txt; written atomically, checked when read."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ...graph.serialize import write_atomic
from ..memory.place import Place
from ..options import CompileOptions
from . import image
from .build import Build, Stored
from .report import report
from .steps import Label

SCHEMA = "vitforge-build-2"


def save_build(build: Build, folder: str | Path, command: str = "") -> Path:
    """Write a build directory. build.json comes last and names the other files' hashes."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"build directory {folder}: cannot be made ({error.strerror})") from None
    write_atomic(folder / "memory.bin", build.memory_image)
    write_atomic(folder / "schedule.txt", report(build).encode())
    data = dict(
        schema=SCHEMA,
        command=command,
        config=dataclasses.asdict(build.config),
        config_hash=f"{build.config.hash:08x}",
        model_hash=build.model_hash,
        macs=build.macs,
        memory_sha256=hashlib.sha256(build.memory_image).hexdigest(),
        options=dataclasses.asdict(build.options),
        program_beats=build.program_beats,
        image_bytes=build.image_bytes,
        result_bytes=build.result_bytes,
        input=build.input,
        output=build.output,
        used=build.used,
        tensors=build.tensors,
        driver=build.driver,
        places=[dataclasses.asdict(p) for p in build.places.values()],
        pieces=[dataclasses.astuple(p) for p in build.pieces],
        labels={c.name.lower(): [dataclasses.astuple(x) for x in labels] for c, labels in build.labels.items()},
    )
    write_atomic(folder / "build.json", (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())
    return folder


def load_build(folder: str | Path, config: AcceleratorConfig | None = None, model_hash: str | None = None) -> Build:
    """Read a build directory; ValueError if it is incomplete, changed, or of another configuration or model."""
    folder = Path(folder)
    try:
        data = json.loads((folder / "build.json").read_text())
        memory = (folder / "memory.bin").read_bytes()
    except OSError as error:
        raise ValueError(f"build directory {folder}: {Path(error.filename).name}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"build directory {folder}: build.json is not JSON") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise ValueError(f"build directory {folder}: schema must be {SCHEMA}, not {found!r}")
    try:
        return _build(folder, data, memory, config, model_hash)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"build directory {folder}: malformed build.json ({error!r})") from None


def _build(folder: Path, data: dict, memory: bytes, config: AcceleratorConfig | None, model_hash: str | None) -> Build:
    own = AcceleratorConfig.from_dict(data["config"])
    digest = hashlib.sha256(memory).hexdigest()
    wanted = [
        ("configuration", f"{own.hash:08x}", data["config_hash"]),
        ("memory.bin", data["memory_sha256"], digest),
    ]
    if config is not None:
        wanted.append(("configuration", f"{config.hash:08x}", data["config_hash"]))
    if model_hash is not None:
        wanted.append(("model", model_hash, data["model_hash"]))
    for what, expected, found in wanted:
        if expected != found:
            raise ValueError(f"build directory {folder}: {what} hash must be {expected}, is {ascii(str(found))[1:-1]}")
    programs, _ = image.decode(memory, own)
    return Build(
        config=own,
        options=CompileOptions.from_dict(data["options"]),
        programs=programs,
        labels={c: _labels(c, data["labels"][c.name.lower()], len(programs[c])) for c in Chunk},
        places={p["name"]: _place(p, own) for p in data["places"]},
        used=[_within("used", n, own.act_rows) for n in data["used"]],
        pieces=[_typed(Stored(*p)) for p in data["pieces"]],
        memory_image=memory,
        tensors=_tensors(data),
        input=data["input"],
        output=data["output"],
        model_hash=data["model_hash"],
        macs={str(name): _within("macs", n, 1 << 62) for name, n in data["macs"].items()},
        driver=data.get("driver", {}),
    )


def _within(what: str, value: Any, top: int) -> int:
    """An integer from -1 (of all images) to ``top``; TypeError otherwise: build.json was not written by a compiler."""
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= top:
        raise TypeError(f"{what} must be an integer up to {top}, not {value!r}")
    return value


def _typed(record: Any) -> Any:
    """``record``, whose fields are strings, integers and truth values as it declares them; TypeError otherwise."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.type is int:
            _within(field.name, value, 1 << 32)
        elif field.type in (str, bool) and not isinstance(value, field.type):
            raise TypeError(f"{field.name} must be {field.type.__name__}, not {value!r}")
    return record


def _labels(chunk: Chunk, entries: list, count: int) -> list[Label]:
    """As many as the chunk has instructions."""
    if len(entries) != count:
        raise TypeError(f"{len(entries)} labels of {count} instructions of {chunk.name}")
    return [_typed(Label(*x)) for x in entries]


def _place(entry: dict, config: AcceleratorConfig) -> Place:
    """Inside the activation buffer."""
    place = _typed(Place(**entry))
    for name, top in (("address", config.act_rows), ("stride", config.act_rows), ("groups", 1 << 16), ("planes", 2)):
        _within(f"{name} of {place.name}", getattr(place, name), top)
    return place


def _tensors(data: dict) -> dict[str, dict]:
    """Descriptions with sizes of the integer graph's range; input and output are among them and have a place."""
    tensors = data["tensors"]
    for name, entry in tensors.items():
        for size in ("tokens", "channels", *(s for s in ("height", "width") if s in entry)):
            if _within(f"{size} of {name}", entry[size], (1 << 16) - 1) < 1:
                raise TypeError(f"{size} of {name} must be positive, not {entry[size]}")
    placed = {p["name"] for p in data["places"]}
    for end in ("input", "output"):
        if data[end] not in tensors or data[end] not in placed:
            raise TypeError(f"{end} must be a tensor with a place, not {data[end]!r}")
    return tensors
