"""The cycle model: its goal, its sums, its latencies against those that the RTL states."""

import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler import SHAPES, CompileOptions, compile_graph, estimate, shape_graph
from vitforge_sw.compiler.dram import Dram, ReadQueue
from vitforge_sw.compiler.random_graph import random_graph
from vitforge_sw.compiler.timing import TIMING, layernorm_latency, mat_row, mat_tail, shifter_latency
from vitforge_sw.graph.ir import Attend, Softmax

P2VIT, TINY = PRESETS["p2vit"], PRESETS["tiny"]


@pytest.fixture(scope="module")
def deit_tiny():
    return compile_graph(shape_graph(*SHAPES["deit_tiny_patch16_224"]), P2VIT)


@pytest.mark.parametrize(("bandwidth", "least"), [(64, 0.975), (32, 0.97), (16, 0.96)])
def test_deit_tiny_reaches_the_goal(deit_tiny, bandwidth, least):
    result = estimate(deit_tiny, bytes_per_cycle=bandwidth)
    assert result["macs"] == 1_164_267_264
    assert least <= result["utilization"] <= 0.98
    assert result["utilization"] == result["macs"] / (2048 * result["cycles"])


def test_two_pass_softmax_is_hidden_too():
    graph = shape_graph(*SHAPES["deit_tiny_patch16_224"])
    for node in graph.nodes:
        if isinstance(node, Softmax | Attend):
            node.rule = "log2"
    assert estimate(graph, P2VIT)["utilization"] > 0.95


def test_layers_add_up(deit_tiny):
    result = estimate(deit_tiny, images=5)
    layers = [x for x in result["layers"] if x["chunk"] == "mat"]
    assert sum(x["cycles"] for x in layers) == pytest.approx(result["cycles"], rel=1e-3)
    assert sum(x["macs"] for x in layers) == result["macs"]
    weights = 12 * (192 * 576 + 192 * 192 + 2 * 192 * 768) + 768 * 192 + 1008 * 192
    assert weights < result["dram_bytes"] < 1.2 * weights
    assert {x["bound_by"] for x in layers} == {"compute"}


def test_starved_memory_is_named():
    result = estimate(random_graph(), TINY, bytes_per_cycle=1)
    mat = result["chunks"]["mat"]
    assert mat["waiting_weights"] > mat["busy"]
    assert any(x["bound_by"] == "weights" for x in result["layers"])


def test_refusals():
    with pytest.raises(ValueError, match="estimate: a graph needs a configuration"):
        estimate(random_graph())
    with pytest.raises(ValueError, match="estimate: images must be at least 1, not 0"):
        estimate(random_graph(), TINY, images=0)
    with pytest.raises(ValueError, match="estimate: bytes_per_cycle must be positive, not 0"):
        estimate(random_graph(), TINY, bytes_per_cycle=0)


def test_deit_small_compiles():
    result = estimate(shape_graph(*SHAPES["deit_small_patch16_224"]), P2VIT)
    assert result["utilization"] > 0.95


def test_deit_base_is_refused_with_its_sizes():
    message = r"activation buffer: \d+ rows of 128 bytes needed .*hidden.0 4800.* 2 pools of 4096 rows available"
    with pytest.raises(ValueError, match=message):
        compile_graph(shape_graph(*SHAPES["deit_base_patch16_224"]), P2VIT)


def test_ablation_orders():
    graph = shape_graph(2, 192, 3, 768, 197, 768, 1000)
    cycles = {}
    for mode in ("both", "inter", "intra", "none"):
        build = compile_graph(graph, P2VIT, pipelining=mode)
        assert max(len(i.waits) for p in build.programs.values() for i in p) <= 6
        cycles[mode] = estimate(build, images=1)["first_image_cycles"]
    assert cycles["both"] < cycles["intra"] < cycles["inter"] < cycles["none"]


def test_dram_bandwidth_is_shared():
    dram = Dram(0.5)
    assert dram.transfer(0, 64) == 128
    assert dram.transfer(0, 64) == 256
    assert dram.transfer(1000, 1) == 1002
    assert dram.transfer(128, 16) == 288  # behind the second


def test_credits_limit_the_bandwidth():
    """64 beats in flight at a latency of 100 cycles: 64 beats each latency + burst + a few cycles."""
    queue = ReadQueue(Dram(1.0), 100, 64, TINY, TIMING)
    start, end = queue.read(0, 0, 6400)
    assert (end - start) / 100 == pytest.approx(120, abs=3)
    assert ReadQueue(Dram(1.0), 100, 256, P2VIT, TIMING).read(0, 0, 6400)[1] < 6400 + 120


def test_latencies_are_those_of_the_rtl():
    mat = pytest.importorskip("vitforge_hw.chunks.mat")
    layernorm = pytest.importorskip("vitforge_hw.chunks.layernorm")
    softmax = pytest.importorskip("vitforge_hw.chunks.softmax")
    shifter = pytest.importorskip("vitforge_hw.chunks.shifter")
    loader = pytest.importorskip("vitforge_hw.chunks.loader")
    for c in (TINY, P2VIT):
        for tiles, ksteps, wide in ((1, 1, 0), (4, 12, 0), (12, 48, 1), (3, 2, 1)):
            op = dict(tiles=tiles, ksteps=ksteps, out_wide=wide)
            assert mat_row(op, c) == mat.row_cycles(c, tiles, ksteps, wide)
            if ksteps >= c.word // c.post_channels:
                latency = TIMING.mat_go_to_step + mat_row(op, c) - 1 + mat_tail(op, c)
                assert latency == mat.row_latency(c, tiles, ksteps, wide)
        for blocks, wide in ((6, 0), (12, 1)):
            op = dict(blocks=blocks, in_wide=wide)
            assert layernorm_latency(op, c) == layernorm.LayerNorm.latency(c, blocks, bool(wide)) + 1
        assert shifter.ShifterArray(c).LATENCY == shifter_latency(c)
    assert shifter.ShifterArray.START == TIMING.sh_start and shifter.VALUE_ROWS == TIMING.sh_values
    s = softmax.Softmax
    assert (s.GAP, s.LOAD, s.LATENCY) == (TIMING.sm_gap, TIMING.sm_load, TIMING.sm_latency)
    assert loader.Loader.LATENCY + 1 == TIMING.ld_latency


def test_options_reach_the_program():
    build = compile_graph(random_graph(), TINY, CompileOptions(row_blocks=(1, 1, 1, 1, 1)))
    rows = [i.rows for i, x in zip(build.programs[Chunk.MAT], build.labels[Chunk.MAT]) if x.layer.endswith("fc1")]
    assert rows == [1] * 10
