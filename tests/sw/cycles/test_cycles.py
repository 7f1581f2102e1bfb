"""The cycle model: its goal, its sums, its latencies against those that the RTL states."""

import dataclasses
import itertools
from types import SimpleNamespace
from unittest import mock

import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import DEPTHWISE, Chunk
from vitforge_hw.arch.latency import CYCLES
from vitforge_sw.compiler import BlockSchedule, CompileOptions, compile_graph
from vitforge_sw.cycles.dram import Dram, ReadQueue
from vitforge_sw.cycles.estimate import estimate
from vitforge_sw.cycles.model import Shared, Simulator, simulate
from vitforge_sw.families.efficientvit.frontend import import_efficientvit
from vitforge_sw.families.efficientvit.shapes import efficientvit_shapes
from vitforge_sw.families.vit.random import random_graph
from vitforge_sw.families.vit.shapes import SHAPES, shape_graph
from vitforge_sw.kinds import kind_of
from vitforge_sw.kinds.attend import Attend as AttendKind
from vitforge_sw.kinds.depthwise import PREPARED, Depthwise
from vitforge_sw.kinds.layernorm import LayerNorm
from vitforge_sw.kinds.result_store import ResultStore
from vitforge_sw.models.resolve import ModelSpec, build_model
from vitforge_sw.ops import Attend, Softmax

P2VIT, TINY, HYBRID = PRESETS["p2vit"], PRESETS["tiny"], PRESETS["tiny_hybrid"]


def mat_row(op, c):
    return kind_of(Chunk.MAT, op).row_cycles(op, c, CYCLES)


def rmac_row(op, c):
    return kind_of(Chunk.RMAC, op).row_cycles(op, c, CYCLES)


def steps(op, c):
    return kind_of(Chunk.MAT, op).steps(op, c)


@pytest.fixture(scope="module")
def deit_tiny():
    return compile_graph(shape_graph(*SHAPES["deit_tiny_patch16_224"]), P2VIT)


@pytest.mark.parametrize(("bandwidth", "least"), [(64, 0.975), (32, 0.97), (16, 0.96)])
def test_deit_tiny_reaches_the_goal(deit_tiny, bandwidth, least):
    result = estimate(deit_tiny, bytes_per_cycle=bandwidth)
    assert result["macs"] == 1_164_267_264
    assert least <= result["utilization"] <= 0.98
    assert result["utilization"] == result["macs"] / (2048 * result["cycles"])


def test_a_vit_keeps_both_engines_busy():
    """Three blocks of DeiT-Tiny: attention is hidden behind the matmuls of both engines, the embedding, which MAT alone
    can take, behind R-MAC's last rows of the image before."""
    shape = SHAPES["deit_tiny_patch16_224"]
    result = estimate(compile_graph(shape_graph(3, *shape[1:]), PRESETS["hybrid"]))
    assert 0.965 <= result["utilization"] <= 0.98
    mat, rmac = (result["chunks"][e] for e in ("mat", "rmac"))
    assert abs(mat["busy"] - rmac["busy"]) < 0.01 * mat["busy"]


def test_two_pass_softmax_is_hidden_too():
    graph = shape_graph(*SHAPES["deit_tiny_patch16_224"])
    graph.nodes[:] = [
        dataclasses.replace(n, rule="log2") if isinstance(n, Softmax | Attend) else n for n in graph.nodes
    ]
    assert estimate(compile_graph(graph, P2VIT))["utilization"] > 0.95


def test_layers_add_up(deit_tiny):
    result = estimate(deit_tiny, images=5)
    layers = [x for x in result["layers"] if x["chunk"] == "mat"]
    assert sum(x["cycles"] for x in layers) == pytest.approx(result["cycles"], rel=1e-3)
    assert sum(x["macs"] for x in layers) == result["macs"]
    weights = 12 * (192 * 576 + 192 * 192 + 2 * 192 * 768) + 768 * 192 + 1008 * 192
    assert weights < result["dram_bytes"] < 1.2 * weights
    assert {x["bound_by"] for x in layers} == {"compute"}


def test_starved_memory_is_named():
    result = estimate(compile_graph(random_graph(), TINY), bytes_per_cycle=1)
    mat = result["chunks"]["mat"]
    assert mat["waiting_weights"] > mat["busy"]
    assert any(x["bound_by"] == "weights" for x in result["layers"])


def test_refusals():
    build = compile_graph(random_graph(), TINY)
    with pytest.raises(ValueError, match="estimate: images must be at least 1, not 0"):
        estimate(build, images=0)
    with pytest.raises(ValueError, match="estimate: bytes_per_cycle must be positive, not 0"):
        estimate(build, bytes_per_cycle=0)


def test_deit_small_compiles():
    result = estimate(compile_graph(shape_graph(*SHAPES["deit_small_patch16_224"]), P2VIT))
    assert result["utilization"] > 0.95


def test_deit_base_is_refused_with_its_sizes():
    message = r"activation buffer: \d+ rows of 128 bytes needed .*hidden.0 4800.* 2 pools of 4096 rows available"
    with pytest.raises(ValueError, match=message):
        compile_graph(shape_graph(*SHAPES["deit_base_patch16_224"]), P2VIT)


def test_ablation_orders():
    graph = shape_graph(2, 192, 3, 768, 197, 768, 1000)
    cycles = {}
    for mode in ("both", "inter", "intra", "none"):
        build = compile_graph(graph, P2VIT, CompileOptions(pipelining=mode))
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
    queue = ReadQueue(Dram(1.0), 100, 64, TINY, CYCLES)
    start, end = queue.read(0, 0, 6400)
    assert (end - start) / 100 == pytest.approx(120, abs=3)
    assert ReadQueue(Dram(1.0), 100, 256, P2VIT, CYCLES).read(0, 0, 6400)[1] < 6400 + 120


def test_latencies_are_those_of_the_rtl():
    mat = pytest.importorskip("vitforge_hw.engines.mat")
    post = pytest.importorskip("vitforge_hw.post.post")
    layernorm = pytest.importorskip("vitforge_hw.layernorm.layernorm")
    softmax = pytest.importorskip("vitforge_hw.attention.softmax")
    shifter = pytest.importorskip("vitforge_hw.attention.shifter")
    loader = pytest.importorskip("vitforge_hw.attention.key_loader")
    for c in (TINY, P2VIT):
        for tiles, ksteps, wide in ((1, 1, 0), (4, 12, 0), (12, 48, 1), (3, 2, 1)):
            op = dict(tiles=tiles, ksteps=ksteps, out_wide=wide)
            assert mat_row(op, c) >= mat.row_steps(c, tiles, ksteps) == steps(op, c)
            if ksteps >= c.word // c.post_channels:
                assert mat_row(op, c) == steps(op, c)
        for blocks, wide in ((6, 0), (12, 1)):
            op = dict(blocks=blocks, in_wide=wide)
            assert LayerNorm().latency(op, c, CYCLES) == layernorm.LayerNorm.latency(c, blocks, bool(wide)) + 1
        assert shifter.ShifterArray(c).LATENCY == AttendKind().latency(c, CYCLES)
    for c in (TINY, P2VIT, HYBRID, PRESETS["trio"]):
        to_write = post.latency(c) + 2  # row_writer: push to wr.valid
        assert to_write == CYCLES.mat_phase_to_write + CYCLES.trio_lanes * c.trio
    assert mat.GO_TO_READ + mat.READ_TO_STEP == CYCLES.mat_go_to_step
    assert mat.STEP_TO_RESULT == CYCLES.mat_step_to_result
    assert shifter.ShifterArray.START == CYCLES.sh_start and shifter.VALUE_ROWS == CYCLES.sh_values
    s = softmax.Softmax
    assert (s.GAP, s.LOAD, s.LATENCY) == (CYCLES.sm_gap, CYCLES.sm_load, CYCLES.sm_latency)
    assert loader.Loader.LATENCY + 1 == CYCLES.ld_latency


def test_options_reach_the_program():
    build = compile_graph(random_graph(), TINY, CompileOptions(blocks=BlockSchedule(row_blocks=(1, 1, 1, 1, 1))))
    rows = [i.rows for i, x in zip(build.programs[Chunk.MAT], build.labels[Chunk.MAT]) if x.layer.endswith("fc1")]
    assert rows == [1] * 10


@pytest.fixture(scope="module")
def small_trio():
    """An EfficientViT of 32 x 32 windows on both engines."""
    args = dict(widths=(8, 16, 16, 24, 32), depths=(1, 1, 1, 1, 1), head_dim=8, head_widths=(64, 64), num_classes=10)
    net = import_efficientvit(build_model(ModelSpec("small", "efficientvit_b0", args)))
    return compile_graph(efficientvit_shapes(net, 32), HYBRID)


def test_both_engines_add_up(small_trio):
    result = estimate(small_trio, images=5)
    worked = dict.fromkeys((Chunk.MAT, Chunk.RMAC), 0)
    for chunk in worked:
        mine = [x for x in result["layers"] if x["chunk"] == chunk.name.lower()]
        assert sum(x["cycles"] for x in mine) == pytest.approx(result["cycles"], rel=0.02)
        worked[chunk] = sum(i.rows * kind_of(chunk, i.op).steps(i.op, HYBRID) for i in small_trio.programs[chunk])
        assert worked[chunk] <= result["chunks"][chunk.name.lower()]["busy"] < result["cycles"]
    both = [x for x in result["layers"] if x["chunk"] in ("mat", "rmac")]
    assert sum(x["macs"] for x in both) == pytest.approx(result["macs"]) == sum(small_trio.macs.values())
    assert all(0 <= x["utilization"] <= 1 for x in both)
    assert result["utilization"] == result["macs"] / (512 * result["cycles"])
    backbone = result["backbone"]
    assert 0 < backbone["macs"] < result["macs"]
    assert backbone["first_image_cycles"] < result["first_image_cycles"]


def test_gaps_of_depthwise_instructions(small_trio):
    """None between rows of an instruction whose map rows are there, PREPARED cycles at least between instructions."""
    trace, gaps = simulate(small_trio, images=1), {True: [], False: []}
    start, end = trace.start[Chunk.RMAC], trace.end[Chunk.RMAC]
    places = trace.events.rows[Chunk.RMAC]
    depthwise = [small_trio.programs[Chunk.RMAC][n].op["kind"] == DEPTHWISE for n, _ in places]
    for k in range(1, len(places)):
        if depthwise[k] and depthwise[k - 1]:
            gaps[places[k][1] == 0].append(int(start[k] - end[k - 1]))
    assert min(gaps[True]) >= PREPARED and min(gaps[False]) == 0


def test_rows_of_the_window_engine():
    """docs/hybrid.md: sets of `width` slots, with even cores two cycles a tap at stride 2, tiles drained one by one."""
    c = PRESETS["trio"]  # 16 lanes, 8 slots, one tile a cycle
    depthwise = dict(kind=1, blocks=16, out_groups=4, kernel=3, stride=0, in_groups=4, height=28)
    assert rmac_row(depthwise, c) == 4 * 2 * 9
    even = dataclasses.replace(c, cores=8)
    assert rmac_row(depthwise | dict(stride=1), c) == 4 * 2 * 9
    assert rmac_row(depthwise | dict(stride=1), even) == 4 * 2 * 18
    assert rmac_row(depthwise | dict(blocks=17), c) == 4 * 3 * 9
    assert rmac_row(depthwise | dict(blocks=1, out_groups=16), c) == 2 * 9  # narrow: 16 groups in 8 slots
    assert rmac_row(depthwise | dict(blocks=1, stride=1), even) == 4 * 18
    attention = dict(kind=2, blocks=2, in_groups=2, height=14)
    assert rmac_row(attention, c) == max(2 * 28 * 2, 4 * 2 * 28)
    assert rmac_row(dict(kind=3, blocks=5, in_groups=2, height=14), c) == 140
    pointwise = dict(kind=0, tiles=3, ksteps=4, groups=6, out_wide=0)
    assert rmac_row(pointwise, c) == mat_row(pointwise, c) == 7 * 3 * 4 * 2


def test_shared_lanes():
    """One user alone is not delayed; two that want more than there is are, by what is missing."""
    lanes = Shared()
    assert lanes.take(10, 650, 640) == 650
    alone = Shared()
    assert [alone.take(0, 640, 320), alone.take(0, 640, 320)] == [640, 640]
    assert alone.take(0, 640, 320) == 960


def test_reads_of_pairs():
    """pool_words 2: requests of a map row, as a walk over its words counts them."""
    c = dataclasses.replace(PRESETS["trio"], pool_words=2)
    for blocks, stride, base, y in itertools.product((1, 2, 3, 7, 8, 9, 16, 17), (0, 1), (100, 101), (0, 1, 2)):
        op = dict(blocks=blocks, in_stride=blocks + stride, in_groups=3, in_addr=base)
        count = 0
        for group in range(3):
            first, word = base + (y * 3 + group) * op["in_stride"], 0
            while word < blocks:
                pair = (first + word) % 2 == 0 and word + 1 < blocks and word % c.width != c.width - 1
                word, count = word + 1 + pair, count + 1
        assert Depthwise().requests(op, y, c) == count, op


def test_result_in_bursts():
    """Of the result's time: its words' reads up to the first burst's last, beats, and a response for each burst; RTL:
    115 cycles for the 4 words of digits_vit on tiny, 970 for the 126 of 1000 classes on trio."""
    for preset, words, rtl in (("tiny", 4, 115), ("trio", 126, 970)):
        reads = lambda address, time, count: time + count  # noqa: E731
        clock = SimpleNamespace(c=PRESETS[preset], t=CYCLES, latency=100, set=mock.Mock(), last_reads=reads)
        ResultStore().walk(clock, Chunk.RESULT_DMA, 0, dict(in_addr=0, count=words, offset=0), 0, 0)
        assert abs(clock.set.call_args.args[-1] - rtl) <= 2


def test_reads_behind_all_others():
    """MAT's reads hold up all others', these the result's; each pool has a port of its own."""
    build = compile_graph(random_graph(1), PRESETS["tiny"])
    clock = Simulator(build, 64, 100, 1)
    clock.fetch(Chunk.MAT, 0, 10, 4, 4)  # 10..13
    assert clock.reads(0, 0, 20) == 24  # 0..9, 14..23
    assert clock.reads(0, 30, 5) == 35
    assert clock.last_reads(0, 8, 3) == 27  # 24..26
    assert clock.last_reads(0, 22, 8) == 37  # 24..29, 35, 36
    other = PRESETS["tiny"].pool_rows
    assert clock.last_reads(other, 8, 3) == 11
