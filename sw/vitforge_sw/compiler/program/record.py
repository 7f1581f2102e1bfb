"""What a driver needs of a build, and all that it may know: the entry ``driver`` of build.json.

Numbers, no code of ours: which bytes an image becomes, where a result's logits lie and what they are worth, what the
hardware must answer. ``FIELDS`` says what each one means; docs/package.md shows the same table.
"""

import hashlib
import math
import zlib
from typing import Any

from vitforge_hw.arch import memmap, registers
from vitforge_hw.arch.build_hash import build_hash
from vitforge_hw.arch.isa import MAGIC

from ...graph.ir import Graph
from . import image
from .build import Build

SCHEMA = "vitforge-driver-2"
#: section.field -> meaning
FIELDS: dict[str, str] = {
    "schema": SCHEMA,
    "preset": "name of the accelerator's configuration",
    "model_hash": "SHA-256 of the integer model",
    "hardware.ident": "register `id`",
    "hardware.version": "register `version`",
    "hardware.config_hash": "register `config_hash`, word 1 of the memory image",
    "hardware.build_hash": "register `build_hash`, word 2 of the memory image",
    "hardware.magic": "word 0 of the memory image",
    "hardware.masters": "AXI masters side by side",
    "memory.file": "the memory image, beside build.json",
    "memory.bytes": "its length",
    "memory.sha256": "its SHA-256",
    "memory.crc32": "its CRC-32 (zlib's), for drivers that have no SHA-256",
    "memory.program_beats": "register `program_beats`",
    "memory.alignment": "of every base and stride in DRAM, bytes",
    "job.images": "images of one job",
    "job.lag": "jobs by which a result comes later than its images",
    "job.image_bytes": "bytes of a job's images",
    "job.result_bytes": "bytes of a job's result",
    "input.height": "pixels, after resizing and cropping",
    "input.width": "pixels",
    "input.channels": "colours, innermost",
    "input.scale": "step of a stored value in units of a pixel (0 to 255)",
    "input.zero_point": "stored value of pixel 0: stored = round(pixel / scale) + zero_point, limited to int8",
    "input.kernel": "pixels of a patch's or window's side",
    "input.stride": "pixels from one to the next",
    "input.padding": "pixels around the image",
    "input.pad": "stored value there, one a colour",
    "input.rows": "rows of tokens; a token is a patch or window: (colour, row, column), padded to words",
    "input.columns": "tokens of a row; each row is padded to groups of `cores`",
    "input.cores": "tokens of a group",
    "input.word": "bytes of a word: a buffer row holds one word of each token of a group",
    "input.beat_bytes": "a buffer row is padded to beats of 16 bytes of each master",
    "input.run_bytes": "master m's part of a stripe: bytes m * run_bytes on; each beat gives it 16",
    "input.image_stride": "bytes from one image of a job to the next",
    "input.prepare": "how a file becomes pixels: size, crop_pct, crop_mode, interpolation, exif, alpha",
    "output.classes": "logits",
    "output.word": "channels of a word",
    "output.planes": "bytes of a logit: word after word, in each the low bytes first, then the high bytes (signed)",
    "output.image_stride": "bytes from one image's result of a job to the next",
    "output.scale": "logit = (stored - zero_point) * scale",
    "output.zero_point": "stored value of logit 0",
    "output.labels": "name of each class; may be empty",
}


def record(build: Build, graph: Graph) -> dict[str, Any]:
    """The entry ``driver`` of a build; empty for a graph that says nothing of its images (random ones)."""
    prepare = graph.meta.get("image")
    if not prepare:
        return {}
    config, place = build.config, build.places[build.output]
    t, out = graph.tensors[graph.input], graph.tensors[graph.output]
    size, kernel = prepare["image_size"], prepare["patch_size"]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "preset": config.name,
        "model_hash": build.model_hash,
        "hardware": {
            "ident": registers.IDENT,
            "version": registers.VERSION,
            "config_hash": config.hash,
            "build_hash": build_hash(config),
            "magic": MAGIC,
            "masters": config.masters,
        },
        "memory": {
            "file": "memory.bin",
            "bytes": len(build.memory_image),
            "sha256": hashlib.sha256(build.memory_image).hexdigest(),
            "crc32": zlib.crc32(build.memory_image),
            "program_beats": build.program_beats,
            "alignment": memmap.BASE_ALIGNMENT,
        },
        "job": {
            "images": build.batch,
            "lag": build.lag,
            "image_bytes": build.image_bytes,
            "result_bytes": build.result_bytes,
        },
        "input": {
            "height": size,
            "width": size,
            "channels": prepare["in_chans"],
            "scale": 1.0,
            "zero_point": -128,
            "kernel": kernel,
            "stride": prepare["stride"] or kernel,
            "padding": prepare["padding"],
            "pad": [math.floor(255 * m + 0.5) - 128 for m in prepare["mean"]],
            "rows": t.height or 1,
            "columns": t.width or t.tokens,
            "cores": config.cores,
            "word": config.word,
            "beat_bytes": config.beat_bytes,
            "run_bytes": 16 * memmap.STRIPE_BEATS,
            "image_stride": build.image_bytes // build.batch,
            "prepare": {k: v for k, v in prepare.items() if k in ("crop_pct", "crop_mode", "interpolation")}
            | {"size": size, "exif": prepare.get("exif", "ignore"), "alpha": prepare.get("alpha", "ignore")},
        },
        "output": {
            "classes": out.channels,
            "word": config.word,
            "planes": place.planes,
            "image_stride": 16 * image.result_units(place.stride, config),
            "scale": 2.0 ** (out.exponent or 0),
            "zero_point": out.zero_point,
            "labels": list(graph.meta.get("labels") or []),
        },
    }
    assert sorted(flat(found)) == sorted(FIELDS), set(flat(found)) ^ set(FIELDS)
    return found


def flat(found: dict[str, Any]) -> list[str]:
    """Names of a record's fields: section.field."""
    names = []
    for name, value in found.items():
        names += [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
    return names
