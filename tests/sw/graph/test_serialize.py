"""Quantized-model files: equal after a round trip, deterministic, and every corruption a one-line error."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitforge_sw.golden import Golden
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph


@pytest.fixture(scope="module")
def file(tmp_path_factory, digits):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    graph = digits.quantize("vitforge", images=10)
    return path, graph, save_graph(graph, path)


def one_line(path) -> str:
    with pytest.raises(ValueError) as caught:
        load_graph(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"model {path}: ")
    return str(caught.value)


def test_round_trip(file, digits):
    path, graph, digest = file
    again = load_graph(path)
    assert graph_hash(again) == digest == graph_hash(graph)
    assert again.tensors == graph.tensors and [n.name for n in again.nodes] == [n.name for n in graph.nodes]
    assert again.meta == graph.meta
    a, b = Golden(graph).logits(digits.test[:8]), Golden(again).logits(digits.test[:8])
    assert a.tolist() == b.tolist()


def test_same_bytes_every_time(file, tmp_path):
    path, graph, _ = file
    save_graph(load_graph(path), tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["b.safetensors"]  # no temporary file is left


def test_only_integers_in_the_file(file):
    blob = file[0].read_bytes()
    header = json.loads(blob[8 : 8 + struct.unpack("<Q", blob[:8])[0]])
    assert {v["dtype"] for k, v in header.items() if k != "__metadata__"} <= {"I8", "I16", "I32"}


def test_a_broken_graph_is_not_written(file, tmp_path):
    graph = load_graph(file[0])
    graph.nodes[-1].s1[0] = 63
    with pytest.raises(ValueError, match="s1 must be in"):
        save_graph(graph, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_missing_foreign_and_unwritable(tmp_path, digits, file):
    assert "no such file" in one_line(tmp_path / "none.safetensors")
    foreign = tmp_path / "float.safetensors"
    foreign.write_bytes(digits.paths.checkpoint.read_bytes())
    assert "no quantized model" in one_line(foreign)
    with pytest.raises(ValueError, match="cannot be written"):
        save_graph(file[1], tmp_path / "no" / "such" / "m.safetensors")


def test_flipped_weight_is_noticed(file, tmp_path):
    blob = bytearray(file[0].read_bytes())
    blob[-5] ^= 0x80
    path = tmp_path / "m.safetensors"
    path.write_bytes(blob)
    assert "content hash" in one_line(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corrupt_files(file, tmp_path, data):
    blob = bytearray(file[0].read_bytes())
    kind = data.draw(st.sampled_from(["cut", "header", "byte", "size"]))
    if kind == "cut":
        blob = blob[: data.draw(st.integers(0, len(blob) - 1))]
    elif kind == "size":
        blob[:8] = struct.pack("<Q", data.draw(st.integers(0, (1 << 64) - 1)))
    else:
        size = struct.unpack("<Q", blob[:8])[0]
        at = data.draw(st.integers(8, 7 + size) if kind == "header" else st.integers(8 + size, len(blob) - 1))
        old = blob[at]
        blob[at] = data.draw(st.integers(0, 255).filter(lambda v: v != old))
    path = tmp_path / "m.safetensors"
    path.write_bytes(blob)
    try:
        graph = load_graph(path)
    except ValueError as error:
        assert "\n" not in str(error)
    else:  # a change of spaces in the header changes nothing
        assert graph_hash(graph) == file[2]


def test_malformed_descriptions(file, tmp_path):
    """A well-formed safetensors file with a wrong description."""
    from safetensors.numpy import save

    for text in ("[]", "{}", '{"schema": "vitforge-graph-1"}', '{"schema": "other"}', "null", "not json"):
        path = tmp_path / "m.safetensors"
        path.write_bytes(save({"x": np.zeros(3, np.int8)}, metadata={"vitforge": text}))
        one_line(path)
