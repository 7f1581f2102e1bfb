"""Compiled programs: memory image, build directories, expected writes, refusals."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import PRESETS, AcceleratorConfig
from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import (
    BlockSchedule,
    CompileOptions,
    Tuning,
    compile_graph,
    disassemble,
    load_build,
    save_build,
)
from vitforge_sw.compiler.program.image import decode
from vitforge_sw.compiler.program.report import report
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.families.vit.shapes import shape_graph

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def build():
    return compile_graph(random_graph(), TINY)


def test_image_decodes_to_the_programs(build):
    programs, _ = decode(build.memory_image, TINY)
    assert programs == build.programs
    assert len(build.memory_image) % (256 * TINY.masters) == 0
    assert build.program_beats == (1 + sum(map(len, programs.values()))) * TINY.instruction_beats


def test_same_bytes_every_time(build):
    assert compile_graph(random_graph(), TINY).memory_image == build.memory_image


def test_weight_pieces_lie_where_the_map_says(build):
    _, logical = decode(build.memory_image, TINY)
    piece = next(p for p in build.pieces if p.name == "pos_embed")
    rows = memmap.to_rows(random_graph().constants["pos_embed"], TINY.cores, TINY.word, True)
    at = piece.beat * TINY.beat_bytes
    assert logical[at : at + rows.size] == rows.tobytes()


def test_expected_writes_cover_every_row_once(build):
    seen = set()
    for chunk in (Chunk.MAT, Chunk.SHIFTER, Chunk.LAYERNORM, Chunk.IMAGE_DMA):
        for w in build.writes(chunk):
            key = (w.tensor, w.group, w.block, w.plane)
            assert key not in seen
            seen.add(key)
            place = build.places[w.tensor]
            assert w.address == place.address + w.group * place.stride + w.block * place.planes + w.plane
    expected = sum(p.groups * p.stride for p in build.places.values())
    assert len(seen) == expected


def test_image_and_result_bytes(build):
    x = random_images(random_graph(), 1)[0]
    data = build.pack_image(x)
    assert len(data) == build.image_bytes
    with pytest.raises(ValueError, match=r"image: must have shape \(16, 16\), not \(3, 3\)"):
        build.pack_image(np.zeros((3, 3)))


def test_build_directory_round_trip(build, tmp_path):
    save_build(build, tmp_path / "b", "a test")
    again = load_build(tmp_path / "b", TINY, build.model_hash)
    assert dataclasses.asdict(again) == dataclasses.asdict(build)
    assert "residual" not in report(build) and "x.0: embed" in (tmp_path / "b" / "schedule.txt").read_text()
    assert not list((tmp_path / "b").glob(".*"))


def test_build_directory_mismatches(build, tmp_path):
    save_build(build, tmp_path)
    with pytest.raises(ValueError, match="configuration hash must be [0-9a-f]{8}, is [0-9a-f]{8}"):
        load_build(tmp_path, PRESETS["p2vit"])
    with pytest.raises(ValueError, match="model hash must be feed, is "):
        load_build(tmp_path, TINY, "feed")
    memory = bytearray(build.memory_image)
    memory[-1] ^= 1
    (tmp_path / "memory.bin").write_bytes(memory)
    was, is_ = (hashlib.sha256(m).hexdigest() for m in (build.memory_image, memory))
    with pytest.raises(ValueError, match=f"memory.bin hash must be {was}, is {is_}"):
        load_build(tmp_path)
    data = json.loads((tmp_path / "build.json").read_text())
    (tmp_path / "build.json").write_text(json.dumps(data | {"schema": "other"}))
    with pytest.raises(ValueError, match="schema must be vitforge-build-2, not 'other'"):
        load_build(tmp_path)
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(ValueError, match="build.json is not JSON"):
        load_build(tmp_path)
    with pytest.raises(ValueError, match="build.json: No such file"):
        load_build(tmp_path / "none")


def test_disassembly_names_every_wait(build):
    text = disassemble(build.memory_image, TINY)
    assert text.count("wait ") == sum(len(i.waits) for p in build.programs.values() for i in p)
    with pytest.raises(ValueError, match="memory image: made for configuration"):
        disassemble(build.memory_image, AcceleratorConfig(**(dataclasses.asdict(TINY) | {"job_depth": 8})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(dim=36), "model: embedding must be a multiple of word = 8, not 36"),
        (dict(tokens=100), "model: at most max_tokens = 64 tokens, not 100"),
        (dict(dim=24, heads=2), "model: head dimension must be a multiple of word = 8, not 12"),
        (dict(mlp=512), "layer blocks.0.mlp.fc2: K must be at most max_k = 256, not 512"),
        (dict(depth=40), "program memory: .* instructions of 64 bytes need .* beats, program_rows = 2048"),
    ],
)
def test_refusals(change, message):
    shape = dict(depth=1, dim=32, heads=2, mlp=64, tokens=17, patch_k=16, classes=10) | change
    with pytest.raises(ValueError, match=message):
        compile_graph(shape_graph(**shape), TINY)


def test_activation_buffer_too_small():
    config = AcceleratorConfig(**(dataclasses.asdict(TINY) | {"pool_rows": 64, "name": "small"}))
    with pytest.raises(ValueError, match=r"activation buffer: \d+ rows of 32 bytes needed .* 2 pools of 64 rows"):
        compile_graph(random_graph(), config)


def test_rules_run_before_compiling():
    graph = random_graph()
    at, node = next((i, n) for i, n in enumerate(graph.nodes) if n.name == "blocks.0.mlp.fc1")
    graph.nodes[at] = dataclasses.replace(node, bias=node.bias + 40_000_000)
    with pytest.raises(ValueError, match=r"blocks.0.mlp.fc1: bias must be in .*isa.POST_PARAM_FIELDS, 26 bits"):
        compile_graph(graph, TINY)


def test_options_are_kept_with_the_build(tmp_path):
    blocks = BlockSchedule(row_blocks=(2, 3), out_in_place=True)
    options = CompileOptions(blocks=blocks, piece_rows=30, tuning=Tuning(hold=300, windows=((12, 1), (2, 0))))
    build = compile_graph(random_graph(), TINY, options)
    save_build(build, tmp_path)
    assert load_build(tmp_path).options == build.options == options


def test_options_checked():
    with pytest.raises(ValueError, match="pipelining must be one of both, inter, intra, none, not 'all'"):
        CompileOptions(pipelining="all")
    with pytest.raises(ValueError, match="row_blocks must be positive and sum to 5 groups"):
        compile_graph(random_graph(), TINY, CompileOptions(blocks=BlockSchedule(row_blocks=(1, 2))))
