"""The record that the compiler writes for drivers: entry ``driver`` of build.json, and the memory image beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import MismatchError

SCHEMA = "vitforge-driver-2"


class Record:
    """data: the entry ``driver``; its sections are attributes (``record.output["scale"]``).

    memory_image: bytes of memory.bin, or None.
    """

    def __init__(self, data: dict[str, Any], memory_image: bytes | None = None):
        if data.get("schema") != SCHEMA:
            raise MismatchError(f"driver record: schema must be {SCHEMA}, not {data.get('schema')!r}")
        self.data, self.memory_image = data, memory_image
        for section in ("hardware", "memory", "job", "input", "output"):
            if not isinstance(data.get(section), dict):
                raise MismatchError(f"driver record: needs section {section}")
        self.hardware: dict[str, int] = data["hardware"]
        self.memory: dict[str, Any] = data["memory"]
        self.job: dict[str, int] = data["job"]
        self.input: dict[str, Any] = data["input"]
        self.output: dict[str, Any] = data["output"]

    @classmethod
    def load(cls, folder: str | Path) -> Record:
        """Read a build directory. MismatchError for another schema; OSError for a missing file."""
        folder = Path(folder)
        data = json.loads((folder / "build.json").read_text())
        record = cls(data.get("driver") or {})
        record.memory_image = (folder / record.memory["file"]).read_bytes()
        return record

    def check_memory_image(self) -> bytes:
        """The memory image; MismatchError where it is not the one that was compiled."""
        image = self.memory_image
        if image is None:
            raise MismatchError("memory image: missing")
        if len(image) != self.memory["bytes"]:
            raise MismatchError(f"memory image: must have {self.memory['bytes']} bytes, not {len(image)}")
        for word, name in enumerate(("magic", "config_hash", "build_hash")):
            found = int.from_bytes(image[4 * word : 4 * word + 4], "little")
            if found != self.hardware[name]:
                raise MismatchError(f"memory image: {name} must be {self.hardware[name]:#010x}, not {found:#010x}")
        if hashlib.sha256(image).hexdigest() != self.memory["sha256"]:
            raise MismatchError(f"memory image: SHA-256 must be {self.memory['sha256'][:16]}..., is another")
        return image
