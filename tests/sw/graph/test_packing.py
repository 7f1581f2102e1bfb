"""Weights of fewer than eight bits in the file: known bytes, every width, and files that lie about them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from vitforge_sw.families.vit.bits import layer_name
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.graph.packing import pack, unpack
from vitforge_sw.graph.serialize import graph_hash, load_graph, save_graph
from vitforge_sw.ops import Matmul

FOUR = ("blocks.0.attn.q", "blocks.1.mlp.fc2")


def test_known_bytes():
    assert pack(np.array([[1, -1], [-8, 7]]), 4).tolist() == [0x1F, 0x87]
    assert pack(np.array([-31, 5, 1]), 6).tolist() == [0b10000100, 0b01010000, 0b01000000]
    assert unpack(np.array([0x1F, 0x87], np.uint8), 4, (2, 2)).tolist() == [[1, -1], [-8, 7]]


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width(bits):
    rng = np.random.default_rng(bits)
    for shape in ((1, 1), (3, 5), (16, 8), (7, 3, 2)):
        values = rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(np.int8)
        packed = pack(values, bits)
        assert packed.shape == (-(-values.size * bits // 8),) and packed.dtype == np.uint8
        again = unpack(packed, bits, shape)
        assert again.dtype == np.int8 and np.array_equal(again, values)


def test_wrong_sizes():
    packed = pack(np.ones((3, 3), np.int8), 5)  # 45 bits in 6 bytes
    for wrong in (packed[:-1], np.append(packed, np.uint8(0)), packed.view(np.int8), packed[None]):
        with pytest.raises(ValueError, match=r"must be uint8 \(6,\) for 9 values of 5 bits"):
            unpack(wrong, 5, (3, 3))
    packed[-1] |= 1
    with pytest.raises(ValueError, match="must end in zeros"):
        unpack(packed, 5, (3, 3))


@pytest.fixture
def file(tmp_path):
    """A file with layers of 4 bits, and its graph."""
    graph = random_graph(1, four=FOUR)
    save_graph(graph, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors", graph


def test_file_is_smaller_and_the_model_the_same(file, tmp_path):
    path, graph = file
    few = [n for n in graph.nodes if isinstance(n, Matmul) and layer_name(n) in FOUR]
    stored = load(path.read_bytes())
    assert few and all(stored[f"{n.name}/weight"].nbytes == n.weight.size / 2 for n in few)
    again = load_graph(path)
    assert graph_hash(again) == graph_hash(graph)
    for node in few:
        other = next(n for n in again.nodes if n.name == node.name)
        assert np.array_equal(other.weight, node.weight) and other.weight_bits == 4
    save_graph(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def described(path, change):
    """The file with another header, its hash left as it is."""
    blob = path.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    data = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["vitforge"])
    change(data)
    path.write_bytes(save(load(blob), metadata={"vitforge": json.dumps(data)}))


NAME = "blocks.1.mlp.fc2/weight"


@pytest.mark.parametrize(
    "packed, rule",
    [
        ({}, "content hash must be"),
        ({NAME: [4, [32, 32]]}, rf"packed tensor {NAME} must be uint8 \(512,\) for 1024 values of 4 bits"),
        ({NAME: [4, [1 << 40, 1 << 40]]}, "must be uint8"),
        ({NAME: [4, [32, 64, 1]]}, "must be there and have 1 to 7 bits and shape N, K"),
        ({NAME: [8, [32, 32]]}, "must be there and have 1 to 7 bits and shape N, K"),
        ({NAME: [4, [-32, -64]]}, "must be there and have 1 to 7 bits and shape N, K"),
        ({NAME: [True, [32, 64]]}, "must be there and have 1 to 7 bits and shape N, K"),
        ({"nothing/weight": [4, [32, 64]]}, "must be there and have 1 to 7 bits and shape N, K"),
        ({NAME: [4, 2048]}, "malformed description"),
        ({NAME: 4}, "malformed description"),
        ([NAME], "malformed description"),
    ],
)
def test_files_that_lie(file, packed, rule):
    path, _ = file
    described(path, lambda data: data.update(packed=packed))
    with pytest.raises(ValueError, match=rule):
        load_graph(path)


def test_flipped_bit_is_noticed(file):
    path, _ = file
    blob = bytearray(path.read_bytes())
    header = json.loads(blob[8 : 8 + (size := int.from_bytes(blob[:8], "little"))])
    blob[8 + size + header[NAME]["data_offsets"][0]] ^= 0x10
    path.write_bytes(blob)
    with pytest.raises(ValueError, match="content hash must be"):
        load_graph(path)
