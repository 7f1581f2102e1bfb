"""Build directories: the description, and the memory image with its instructions, header fields and checksums."""

import contextlib
import hashlib
import json
import random
from pathlib import Path

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import get_config
from vitforge_hw.arch.isa import HEADER_FIELDS, INSTRUCTION_BYTES, pack
from vitforge_sw.compiler import load_build
from vitforge_sw.compiler.compile import compile_graph
from vitforge_sw.compiler.program import image
from vitforge_sw.compiler.program.store import save_build
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.graph.ir import Graph
from vitforge_sw.graph.serialize import save_graph

from .changes import changed

PAST = 0.9  #: of the inputs, whose hashes are made again


class Builds:
    """A build directory of a small ViT."""

    def __init__(self, folder: Path, graph: Graph | None = None) -> None:
        self.folder, self.config = folder / "b", get_config("tiny")
        small = dict(depth=1, dim=8, heads=1, mlp=8, tokens=3, patch_k=8, classes=2)
        self.graph = graph or random_graph(5, **small)
        self.build = compile_graph(self.graph, self.config)
        save_build(self.build, self.folder)
        save_graph(self.graph, self.folder / "model.safetensors")
        self.data = json.loads((self.folder / "build.json").read_text())
        self.memory = (self.folder / "memory.bin").read_bytes()

    def header(self, r: random.Random, memory: bytes) -> bytes:
        """A field of the header changed, its checksum made again."""
        logical = memmap.unstripe(memory, self.config.masters)
        fields = image._header(logical)
        name = r.choice([f.name for f in HEADER_FIELDS if f.name in fields])
        fields[name] = r.choice([0, 1, fields[name] + 1, fields[name] - 1, 0xFFFF]) & 0xFFFF
        head = pack(HEADER_FIELDS, fields, "header").to_bytes(INSTRUCTION_BYTES, "little")
        return image.striped(head + logical[INSTRUCTION_BYTES:], self.config)

    def image(self, r: random.Random) -> bytes:
        memory = bytearray(self.memory)
        for _ in range(r.randrange(1, 4)):
            memory[r.randrange(min(len(memory), r.choice([64, 4096, 1 << 20])))] = r.randrange(256)
        out = bytes(self.memory if r.random() < 0.3 else memory)
        with contextlib.suppress(ValueError, IndexError):  # an instruction that is none
            out = self.header(r, out) if r.random() < 0.3 else out
            out = image.seal(out, self.config) if r.random() < PAST else out
        return out if r.random() < 0.98 else out[: r.randrange(len(out))]

    def file(self, r: random.Random) -> Path:
        data, memory = self.data, self.memory
        if r.random() < 0.75:
            data = changed(r, data, ["tiny", "input", "head", "mat", "int8"])
        if r.random() < 0.25 or data is self.data:
            memory = self.image(r)
        if isinstance(data, dict) and r.random() < PAST:
            data = data | {"memory_sha256": hashlib.sha256(memory).hexdigest()}
        text = json.dumps(data)
        (self.folder / "build.json").write_text(text if r.random() < 0.98 else text[: r.randrange(len(text))])
        (self.folder / "memory.bin").write_bytes(memory)
        if r.random() < 0.005:
            (self.folder / r.choice(["memory.bin", "build.json"])).unlink()
        return self.folder

    def __call__(self, r: random.Random) -> None:
        if r.random() < 0.001:
            save_build(self.build, self.folder / "build.json" / "x")
        else:
            known = r.choice([(None, None)] * 8 + [(self.config, None), (get_config("tiny_hybrid"), None), (None, "x")])
            build = load_build(self.file(r), *known)
            assert build.memory_image == (self.folder / "memory.bin").read_bytes()
