"""Every operation with its parts: a missing part fails, and the random networks of the families exercise each."""

import inspect

import numpy as np
import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import Chunk
from vitforge_sim.compare.verify import saturation
from vitforge_sw.compiler import compile_graph
from vitforge_sw.families.efficientvit.random import random_efficientvit
from vitforge_sw.families.vit.random import random_graph, random_images
from vitforge_sw.golden import Golden
from vitforge_sw.graph.ir import Node
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.graph.serialize import load_graph, save_graph
from vitforge_sw.ops import OPERATIONS

ENGINES = {Chunk.MAT, Chunk.RMAC}
EVERY = ("check", "golden")  #: what each operation has to say itself
ON_ENGINES = ("columns", "acc_bound")  #: accumulators and parameter entries
MULTIPLY = ("macs",)
NO_PRODUCTS = {"token_sum"}  #: on an engine's adders


def parts_of(cls: type[Node]) -> set[str]:
    """Parts that a class, or a base between it and Node, declares itself."""
    own = [c for c in cls.__mro__[: cls.__mro__.index(Node)]]
    return {name for c in own for name, f in vars(c).items() if inspect.isfunction(f) and not name.startswith("_")}


def wanted(name: str, cls: type[Node]) -> set[str]:
    on_engine = bool(ENGINES & set(cls.CHUNKS))
    more = (ON_ENGINES if on_engine else ()) + (MULTIPLY if on_engine and name not in NO_PRODUCTS else ())
    return {*EVERY, *more}


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_part_is_missing(name):
    cls = OPERATIONS[name]
    assert cls.CHUNKS, f"{name} runs nowhere"
    assert not wanted(name, cls) - parts_of(cls)
    assert cls.__doc__ and cls.__module__ == f"vitforge_sw.ops.{name}", "one file an operation, named like it"
    with pytest.raises(AttributeError):  # frozen
        cls.__new__(cls).name = "other"


def test_a_missing_part_is_found():
    class Bare(Node):
        """Says nothing."""

        CHUNKS = (Chunk.MAT,)

    assert wanted("bare", Bare) - parts_of(Bare) == {"check", "golden", "columns", "acc_bound", "macs"}


def test_nine_operations():
    assert sorted(OPERATIONS) == [
        "attend", "depthwise", "key_value", "layernorm", "linear_attention", "matmul", "scores", "softmax", "token_sum",
    ]  # fmt: skip


def test_random_networks_exercise_every_part(monkeypatch, tmp_path):
    called: set[tuple[str, str]] = set()

    def watched(name, part, f):
        def call(self, *args, **kw):
            called.add((name, part))
            return f(self, *args, **kw)

        return call

    expected = set()
    for name, cls in OPERATIONS.items():
        for part in parts_of(cls):
            monkeypatch.setattr(cls, part, watched(name, part, getattr(cls, part)))
            expected.add((name, part))
    small = ((8, 16, 16, 16, 32), (1, 1, 1, 1, 1), 8, (32, 48), 48, 10)
    networks = [random_graph(depth=1), random_efficientvit(*small), random_efficientvit(*small, rule="log2")]
    for graph in networks:
        check_graph(graph)
        save_graph(graph, tmp_path / "m.safetensors")
        again = load_graph(tmp_path / "m.safetensors")
        images = random_images(graph, 1)
        got, want = Golden(again).run(images), Golden(graph).run(images)
        assert all(np.array_equal(got[n], want[n]) for n in want)
        build = compile_graph(graph, PRESETS["tiny_hybrid"])
        assert set(build.macs) <= {n.name for n in graph.nodes} and saturation(graph)
    assert not expected - called
