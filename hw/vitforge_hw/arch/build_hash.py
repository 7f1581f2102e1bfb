"""What a program and the hardware that runs it must share: configuration, instruction set and generator."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

from . import isa, registers
from .config import AcceleratorConfig


@functools.cache
def generator_hash() -> bytes:
    """SHA-256 over the sources of this package: names and contents, in order of names."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()} {len(text)}\n".encode() + text)
    return digest.digest()


def instruction_set() -> str:
    """Every format that programs have, as text."""
    formats = {"waits": isa.WAIT_FIELDS, "rows": (isa.ROWS_FIELD,), "header": isa.HEADER_FIELDS}
    formats |= {"post": isa.POST_PARAM_FIELDS, "layernorm": isa.LN_PARAM_FIELDS, "window": isa.WINDOW_FIELDS}
    formats |= {chunk.name: fields for chunk, fields in isa.OP_FIELDS.items()}
    layout = {name: [(f.name, f.bits, f.signed) for f in fields] for name, fields in formats.items()}
    return json.dumps([isa.WAITS, isa.INSTRUCTION_BYTES, registers.VERSION, layout])


def build_hash(config: AcceleratorConfig, generator: bytes | None = None) -> int:
    """32 bits: register ``build_hash`` and the program header's field; the hardware refuses another one.

    generator : digest in place of :func:`generator_hash` (tests)
    """
    data = dataclasses.asdict(config)
    data.pop("name")
    parts = [json.dumps(data, sort_keys=True).encode(), instruction_set().encode(), generator or generator_hash()]
    return int.from_bytes(hashlib.sha256(b"\0".join(parts)).digest()[:4], "little")
