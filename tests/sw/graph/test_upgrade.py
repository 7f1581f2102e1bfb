"""Files of older schemas: what was saved before the operations were merged loads as the same network says it now.

``schema1/*.safetensors`` were written by the code of schema vitforge-graph-1: the random networks below, and the
shipped models quantized.
"""

from pathlib import Path

import pytest

from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.graph.serialize import SCHEMA, graph_hash, load_graph, save_graph

OLD = Path(__file__).parent / "schema1"


def vit():
    return random_graph(seed=5, depth=1, dim=16, heads=2, mlp=16, tokens=5, patch_k=8, classes=3, residual="int8")


def efficientvit():
    return random_efficientvit((8, 8, 8, 8, 8), (1, 1, 1, 1, 1), 8, (8, 8), 32, 3, seed=5)


@pytest.mark.parametrize("make", [vit, efficientvit])
def test_schema_1(make, tmp_path):
    path = OLD / f"{make.__name__}.safetensors"
    assert b"vitforge-graph-1" in path.read_bytes()
    old, new = load_graph(path), make()
    assert [n.role for n in old.nodes] == [n.role for n in new.nodes]
    assert graph_hash(old) == graph_hash(new)  # every constant, field and role
    save_graph(old, tmp_path / "new.safetensors")
    assert SCHEMA.encode() in (tmp_path / "new.safetensors").read_bytes()
    assert graph_hash(load_graph(tmp_path / "new.safetensors")) == graph_hash(new)


def test_a_changed_old_file_is_refused(tmp_path):
    blob = bytearray((OLD / "vit.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(blob)
    with pytest.raises(ValueError, match="content hash must be"):
        load_graph(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "name,digest", [("digits_vit", "5cc4dee454d2574a"), ("digits_efficientvit", "a2a898f2ad4d1972")]
)
def test_shipped_models_keep_their_hashes(name, digest):
    """The shipped networks, quantized once: every weight, constant, field and role."""
    assert graph_hash(load_graph(OLD / f"{name}.safetensors"))[:16] == digest
