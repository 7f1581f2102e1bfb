"""What may stand in the files that ``vitforge package`` reads of a build: the record for drivers and synth.json.

A record is written by the compiler, and later read by C that checks nothing: whoever edits it must hear of it here.
"""

import hashlib
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitforge_hw.arch import memmap, registers
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.isa import MAGIC
from vitforge_sim.synth.parts import RESOURCES
from vitforge_sw.compiler import Build, load_build
from vitforge_sw.compiler.program.record import SCHEMA
from vitforge_sw.models.images import ImageConfig
from vitforge_sw.models.text import reason_of, shown
from vitforge_sw.models.written import read_json


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words and as a test."""

    says: str
    holds: Callable[[Any], bool]


def _integer(low: int, high: int) -> Rule:
    return Rule(f"an integer from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def _finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _list(rule: Rule, what: str) -> Rule:
    return Rule(what, lambda v: isinstance(v, list) and all(rule.holds(x) for x in v))


def _is_text(value: Any) -> bool:
    """Text that a C string can hold: UTF-8, no NUL, as long as every compiler takes it."""
    try:
        return isinstance(value, str) and "\0" not in value and len(value.encode()) <= 4095
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


_NUMBER = Rule("a number", _finite)
_ABOVE = Rule("a number above 0", lambda v: _finite(v) and v > 0)
_TEXT = Rule("text of at most 4095 bytes without NUL", _is_text)
_HASH = Rule("64 hexadecimal digits", lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) is not None)
_WORD, _COUNT, _BYTE = _integer(0, (1 << 32) - 1), _integer(1, (1 << 32) - 1), _integer(-128, 127)
_SIZE = _integer(1, (1 << 16) - 1)

#: section.field of the record -> rule
RECORD = {
    "schema": Rule(repr(SCHEMA), lambda v: v == SCHEMA),
    "preset": _TEXT,
    "model_hash": _HASH,
    "hardware.ident": _WORD,
    "hardware.version": _WORD,
    "hardware.config_hash": _WORD,
    "hardware.build_hash": _WORD,
    "hardware.magic": _WORD,
    "hardware.masters": _SIZE,
    "memory.file": _TEXT,
    "memory.bytes": _COUNT,
    "memory.sha256": _HASH,
    "memory.crc32": _WORD,
    "memory.program_beats": _COUNT,
    "memory.alignment": _COUNT,
    "job.images": _COUNT,
    "job.lag": _WORD,
    "job.image_bytes": _COUNT,
    "job.result_bytes": _COUNT,
    "input.height": _SIZE,
    "input.width": _SIZE,
    "input.channels": _integer(1, 4),  # struct vf_model holds four
    "input.scale": _ABOVE,
    "input.zero_point": _BYTE,
    "input.kernel": _SIZE,
    "input.stride": _SIZE,
    "input.padding": _integer(0, (1 << 16) - 1),
    "input.pad": _list(_BYTE, f"a list, each {_BYTE.says}"),
    "input.rows": _SIZE,
    "input.columns": _SIZE,
    "input.cores": _SIZE,
    "input.word": _SIZE,
    "input.beat_bytes": _SIZE,
    "input.run_bytes": _COUNT,
    "input.image_stride": _COUNT,
    "input.prepare.size": _SIZE,
    "input.prepare.crop_pct": _ABOVE,
    "input.prepare.crop_mode": _TEXT,
    "input.prepare.interpolation": _TEXT,
    "input.prepare.exif": _TEXT,
    "input.prepare.alpha": _TEXT,
    "output.classes": _SIZE,
    "output.word": _SIZE,
    "output.planes": _integer(1, 2),
    "output.image_stride": _COUNT,
    "output.scale": _ABOVE,
    "output.zero_point": _integer(-(1 << 15), (1 << 15) - 1),
    "output.labels": _list(_TEXT, f"a list, each {_TEXT.says}"),
}
#: of synth.json, what decides whether a design fits
SYNTH = {"config_hash": _TEXT, "target": _TEXT} | {
    f"total.{name}": Rule("a number of at least 0", lambda v: _finite(v) and v >= 0) for name in RESOURCES
}


def check(data: Any, rules: Mapping[str, Rule], where: str, prefix: str = "", more: bool = False) -> None:
    """ValueError of the first field that is missing, breaks its rule or, without ``more``, is not among ``rules``."""
    sections: dict[str, set[str]] = {"": set()}
    for name in rules:
        parts = name.split(".")
        for n, part in enumerate(parts):
            sections.setdefault(".".join(parts[:n]), set()).add(part)
    for section, names in sections.items():
        found = _at(data, section)
        if not isinstance(found, dict):
            name = f"{prefix}{section}".rstrip(".")
            raise ValueError(f"{where}: {f'{name} ' if name else ''}must be a JSON object, not {shown(repr(found))}")
        base = f"{prefix}{section}." if section else prefix
        for name in sorted(names - found.keys()):
            raise ValueError(f"{where}: {base}{name} must be there")
        for name in sorted(found.keys() - names if not more else ()):
            raise ValueError(f"{where}: {base}{shown(name)} is unknown")
    for name, rule in rules.items():
        if not rule.holds(value := _at(data, name)):
            raise ValueError(f"{where}: {prefix}{name} must be {rule.says}, not {shown(_fault(rule, value))}")


def _at(data: Any, path: str) -> Any:
    for name in path.split(".") if path else ():
        data = data[name]
    return data


def _fault(rule: Rule, value: Any) -> str:
    """A value as the message shows it; of a long list of texts the first that breaks the rule."""
    if rule is RECORD["output.labels"] and isinstance(value, list):
        n, bad = next((n, x) for n, x in enumerate(value) if not _is_text(x))
        return f"[{n}] = {bad!r}"
    return repr(value)


def read_build(build: Path) -> Build:
    """The build directory. ValueError: it is damaged, has no record, or one that does not belong to it."""
    path = build / "build.json"
    compiled = load_build(build)
    if compiled.driver == {}:
        raise ValueError(f"build directory {build}: has no record for drivers; compile again")
    record = compiled.driver
    check(record, {"schema": RECORD["schema"]}, str(path), "driver.", more=True)  # of another version: nothing more
    check(record, RECORD, str(path), "driver.")
    for name, wanted in _belongs(compiled).items():
        if (found := _at(record, name)) != wanted:
            show = hex if type(wanted) is int and name.startswith("hardware.") else repr
            raise ValueError(f"{path}: driver.{name} must be {show(wanted)}, not {shown(show(found))}")
    _layout(record, f"{path}: driver.", compiled.tensors[compiled.input]["channels"])
    return compiled


def _belongs(build: Build) -> dict[str, Any]:
    """Fields that configuration, program and memory image decide."""
    config, image, result = build.config, build.tensors[build.input], build.tensors[build.output]
    return {
        "preset": config.name,
        "model_hash": build.model_hash,
        "hardware.ident": registers.IDENT,
        "hardware.version": registers.VERSION,
        "hardware.config_hash": config.hash,
        "hardware.build_hash": build_hash(config),  # load_build: the memory image's, too
        "hardware.magic": MAGIC,
        "hardware.masters": config.masters,
        "memory.file": "memory.bin",
        "memory.bytes": len(build.memory_image),
        "memory.sha256": hashlib.sha256(build.memory_image).hexdigest(),
        "memory.crc32": zlib.crc32(build.memory_image),
        "memory.program_beats": build.program_beats,
        "memory.alignment": memmap.BASE_ALIGNMENT,
        "job.images": build.batch,
        "job.lag": build.lag,
        "job.image_bytes": build.image_bytes,
        "job.result_bytes": build.result_bytes,
        "input.rows": image.get("height") or 1,
        "input.columns": image.get("width") or image["tokens"],
        "input.cores": config.cores,
        "input.word": config.word,
        "input.beat_bytes": config.beat_bytes,
        "input.run_bytes": 16 * memmap.STRIPE_BEATS,
        "input.image_stride": build.image_bytes // build.batch,
        "output.classes": result["channels"],
        "output.word": config.word,
        "output.planes": build.places[build.output].planes,
        "output.image_stride": build.result_bytes // build.batch,
    }


def _layout(record: dict[str, Any], where: str, depth: int) -> None:
    """ValueError where the image's numbers do not make up the tokens of the network (of ``depth`` channels), or labels
    its classes."""
    image, out = record["input"], record["output"]
    prepare, channels, stride = image["prepare"], image["channels"], image["stride"]
    for name in ("height", "width"):
        if image[name] != prepare["size"]:
            raise ValueError(f"{where}input.{name} must be input.prepare.size = {prepare['size']}, not {image[name]}")
    if len(image["pad"]) != channels:
        raise ValueError(f"{where}input.pad must have input.channels = {channels} values, not {len(image['pad'])}")
    how = {name: prepare[name] for name in ("crop_pct", "crop_mode", "interpolation", "exif", "alpha")}
    windows = 0 if stride == image["kernel"] and not image["padding"] else stride
    try:
        config = ImageConfig(
            image_size=prepare["size"], patch_size=image["kernel"], in_chans=channels, stride=windows,
            padding=image["padding"], mean=(0.5,) * channels, std=(0.5,) * channels, **how,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{where}input: {reason_of(error).removeprefix('image config: ')}") from None
    if config.side**2 != image["rows"] * image["columns"]:
        text = f"input.rows * input.columns = {image['rows'] * image['columns']} windows"
        raise ValueError(f"{where}input: size, kernel, stride and padding must give {text}, not {config.side**2}")
    if channels * image["kernel"] ** 2 != depth:
        text = f"channels * kernel^2 = {depth}, the tokens' channels"
        raise ValueError(f"{where}input: must have {text}, not {channels * image['kernel'] ** 2}")
    if not 2**-16 <= image["scale"] <= 2**16:  # pixel / scale is an int32 in C
        raise ValueError(f"{where}input.scale must be 2^-16 to 2^16, not {image['scale']}")
    if out["labels"] and len(out["labels"]) != out["classes"]:
        count = f"no names or output.classes = {out['classes']}"
        raise ValueError(f"{where}output.labels must have {count}, not {len(out['labels'])}")


def read_synth(build: Path) -> dict[str, Any] | None:
    """What synth.json of a build says; None where it is not there. ValueError: it is damaged."""
    path = build / "synth.json"
    try:
        data = read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: must be JSON ({reason_of(error)})") from None
    check(data, SYNTH, str(path), more=True)
    assert isinstance(data, dict)
    return data
