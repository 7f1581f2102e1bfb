"""Every kind of instruction with its parts: one that misses a part fails here, and random networks use each part."""

import collections

import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.enums import Kind
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import CYCLES
from vitforge_sw.compiler import compile_graph
from vitforge_sw.cycles.model import simulate
from vitforge_sw.emulator import emulate
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.kinds import KINDS, InstructionKind, Memory, readers, writers
from vitforge_sw.kinds.softmax import Softmax

PARTS = ("accesses", "output", "row_cycles", "walk", "read", "write")
ENGINE_PARTS = ("steps", "tiles")  #: also of what MAT and R-MAC run

LISTING = """
matmul        MAT RMAC    reads ACT WEIGHT PARAM KSUM  writes ACT
depthwise     RMAC        reads ACT WEIGHT PARAM       writes ACT
key_value     RMAC        reads ACT PARAM              writes WEIGHT
token_sum     RMAC        reads ACT PARAM              writes ACT KSUM
attend        SHIFTER     reads ACT                    writes ACT
layernorm     LAYERNORM   reads ACT LN_PARAM           writes ACT
softmax       SOFTMAX     reads ACT                    writes
key_load      LOADER      reads ACT                    writes WEIGHT
weight_load   WEIGHT_DMA  reads                        writes WEIGHT PARAM LN_PARAM
image_load    IMAGE_DMA   reads                        writes ACT
result_store  RESULT_DMA  reads ACT                    writes
"""


def parts_of(kind):
    engine = {Chunk.MAT, Chunk.RMAC} & set(kind.chunks)
    return PARTS + (ENGINE_PARTS if engine else ())


def missing(kinds) -> list[str]:
    """Codes of chunks without a kind or with several, and parts that a kind does not define."""
    codes = [(chunk, 0) for chunk in Chunk if chunk != Chunk.RMAC] + [(Chunk.RMAC, code) for code in Kind]
    declared = collections.Counter((c, int(k.code)) for k in kinds for c in k.chunks)
    found = [
        f"{chunk.name} {code}: {declared[chunk, code]} kinds" for chunk, code in codes if declared[chunk, code] != 1
    ]
    for kind in kinds:
        for part in parts_of(kind):
            if getattr(type(kind), part) is getattr(InstructionKind, part):
                found.append(f"{kind.name}: no {part}")
    return found


def test_listing():
    names = lambda items: " ".join(x.name for x in items)  # noqa: E731
    lines = [
        f"{k.name:13} {names(k.chunks):11} reads {names(k.reading):22} writes {names(k.writing)}".rstrip()
        for k in KINDS
    ]
    assert lines == LISTING.strip().splitlines()


def test_every_kind_has_its_parts():
    assert missing(KINDS) == []


def test_a_missing_kind_or_part_is_seen():
    class Less(Softmax):
        read = InstructionKind.read

    with pytest.raises(TypeError, match="abstract method '?read"):
        Less()
    assert missing(KINDS[1:]) == ["MAT 0: 0 kinds", "RMAC 0: 0 kinds"]
    assert missing((*KINDS, Softmax())) == ["SOFTMAX 0: 2 kinds"]

    class NoSteps(type(KINDS[0])):
        steps = InstructionKind.steps

    assert missing((NoSteps(), *KINDS[1:])) == ["matmul: no steps"]


def test_every_memory_has_writers_and_readers():
    for memory in Memory:
        assert writers(memory) and readers(memory), memory.name


def test_random_networks_use_every_part(monkeypatch):
    """Compiled, proved, estimated and emulated: which parts were asked, which memories were touched."""
    used, touched = set(), collections.defaultdict(set)

    def counted(kind, part):
        original = getattr(kind, part)

        def call(*args, **kw):
            used.add((kind.name, part))
            result = original(*args, **kw)
            if part == "accesses":
                touched[kind.name] |= {(a.memory, a.write) for a in result if a.index.size}
            return result

        return call

    for kind in KINDS:
        for part in parts_of(kind):
            monkeypatch.setattr(kind, part, counted(kind, part), raising=False)
    vit = random_graph(0, depth=1)
    trio = random_efficientvit((8, 16, 16, 16, 32), (1, 1, 1, 1, 1), 8, (32, 48), 48, 10, seed=1)
    for graph, preset in ((vit, "tiny"), (trio, "tiny_hybrid")):
        build = compile_graph(graph, PRESETS[preset])
        build.prove()
        simulate(build)
        emulate(build, list(random_images(graph, 1)))
        for chunk in Chunk:
            list(build.writes(chunk))
            for instruction in build.programs[chunk]:
                kind = next(k for k in KINDS if chunk in k.chunks and int(k.code) == instruction.op.get("kind", 0))
                op, config = instruction.op, build.config
                assert kind.row_cycles(op, config, CYCLES) > 0
                if "tiles" in parts_of(kind):
                    assert len(kind.tiles(op, config)) == kind.tile_count(op, config)
                    assert kind.steps(op, config) > 0
    assert {(k.name, part) for k in KINDS for part in parts_of(k)} <= used
    for kind in KINDS:
        declared = {(m, False) for m in kind.reading} | {(m, True) for m in kind.writing}
        assert touched[kind.name] == declared, kind.name
