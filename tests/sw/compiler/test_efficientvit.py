"""EfficientViT's compiler: the emulator computes the golden model's tensors whatever the schedule; refusals; sizes."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from vitforge_hw.arch.config import PRESETS
from vitforge_hw.arch.isa import POINTWISE, Chunk
from vitforge_sw.compiler import BlockSchedule, CompileOptions, Tuning, compile_graph, load_build, save_build
from vitforge_sw.compiler.layers.batch import unroll
from vitforge_sw.compiler.layers.efficientvit import Checks, analyse_maps
from vitforge_sw.compiler.memory.lifetimes import allocate_lifetimes
from vitforge_sw.compiler.program.report import report
from vitforge_sw.compiler.schedule.row_schedule import Scheduler
from vitforge_sw.cycles.model import simulate
from vitforge_sw.emulator import emulate
from vitforge_sw.families.efficientvit.random import random_efficientvit, random_named
from vitforge_sw.families.vit.shapes import shape_graph
from vitforge_sw.golden.model import run
from vitforge_sw.graph.ir import Ref
from vitforge_sw.graph.rules import check_graph
from vitforge_sw.ops import Depthwise, KeyValue, LinearAttention, Matmul, Softmax

TINY = PRESETS["tiny_hybrid"]
SEVEN = dataclasses.replace(
    TINY,
    name="seven",
    cores=7,
    word=16,
    width=8,
    attention=False,
    post_channels=16,
    pool_rows=2048,
    weight_rows=512,
    param_rows=256,
)


def small(config, seed=1, depths=(1, 1, 1, 1, 1), size=37, **more):
    d = config.word
    return random_efficientvit((8, 16, 16, 2 * d, 2 * d), depths, d, (3 * d, 4 * d), size, 10, seed=seed, **more)


def random_images(graph, count, seed=2):
    t = graph.tensors[graph.input]
    return np.random.default_rng(seed).integers(-128, 128, (count, t.tokens, t.channels)).astype(np.int8)


def check(graph, build, count=2, seeds=(0, 1, 2)):
    """Every tensor of every image, and the logits, against the golden model."""
    images = random_images(graph, count)
    golden = {k: np.asarray(v) for k, v in run(graph, images).items()}
    for seed in seeds:
        for i, result in enumerate(emulate(build, list(images), seed, (3, 1, None)[seed % 3])):
            assert set(result.tensors) == set(graph.tensors)
            for name, value in result.tensors.items():
                assert np.array_equal(golden[name][i], value), (name, seed)
            assert np.array_equal(golden[graph.output][i][0], result.logits)


@pytest.mark.parametrize("config", [TINY, SEVEN], ids=lambda c: c.name)
@pytest.mark.parametrize(
    "options",
    [
        CompileOptions(),
        CompileOptions(engines="rmac"),
        CompileOptions(engines="mat"),
        CompileOptions(pipelining="none"),
        CompileOptions(piece_rows=40),
    ],
    ids=["both", "rmac", "mat", "none", "pieces"],
)
def test_every_tensor(config, options):
    graph = check_graph(small(config, rule="log2" if options.engines == "rmac" else "reciprocal"))
    build = compile_graph(graph, config, options)
    check(graph, build)
    chunks = {Chunk.MAT} if options.engines == "rmac" else set()
    assert all((not build.programs[c]) == (c in chunks) for c in (Chunk.MAT, Chunk.RMAC))


@pytest.mark.parametrize("seed", range(2))
def test_deeper_network_of_other_shapes(seed):
    graph = small(TINY, seed=10 + seed, depths=(1, 2, 2, 2, 1), size=(40, 29)[seed], norm_input=("int8", "int12")[seed])
    check(graph, compile_graph(graph, TINY), 3, (seed,))


def test_two_layers_at_a_time_in_random_places():
    """What is tried where the activation buffer is small."""
    graph = small(TINY)
    usual = compile_graph(graph, TINY)
    build = compile_graph(graph, TINY, CompileOptions(tuning=Tuning(windows=((24, 2), (2, 0)), slacks=())))
    assert build.places != usual.places
    check(graph, build, 2, (1, 2))


def test_engines_share_layers_row_by_row():
    graph = small(TINY)
    build = compile_graph(graph, TINY)
    skips = {
        label.layer: i.op["skip"]
        for c in (Chunk.MAT, Chunk.RMAC)
        for i, label in zip(build.programs[c], build.labels[c])
        if i.op.get("kind", POINTWISE) == POINTWISE and i.rows > 1
    }
    assert sum(skips.values()) >= 4
    works = {c: {label.layer for label in build.labels[c]} for c in (Chunk.MAT, Chunk.RMAC)}
    shared = [n.name for n in graph.nodes if isinstance(n, Matmul)]
    assert sum(n in works[Chunk.MAT] and n in works[Chunk.RMAC] for n in shared) > len(shared) // 2
    assert not works[Chunk.MAT] & {n.name for n in graph.nodes if isinstance(n, Depthwise)}
    assert not works[Chunk.RMAC] & {n.name for n in graph.nodes if isinstance(n, LinearAttention)}


def intervals(build):
    """Layer -> (first step begins, last row done) in the cycle model, one image alone."""
    trace, out = simulate(build, 64, 100, 1), {}
    for chunk in (Chunk.MAT, Chunk.RMAC, Chunk.LAYERNORM):
        for n, (i, _) in enumerate(trace.events.rows[chunk]):
            a, b = int(trace.start[chunk][n]), int(trace.done[chunk][n])
            name = build.labels[chunk][i].layer
            low, high = out.get(name, (a, b))
            out[name] = min(a, low), max(b, high)
    return out


def test_mat_alone_does_what_it_can_one_layer_at_a_time():
    graph = small(TINY)
    build = compile_graph(graph, TINY, CompileOptions(engines="mat"))
    works = {c: {label.layer for label in build.labels[c]} for c in (Chunk.MAT, Chunk.RMAC)}
    mat = {n.name for n in graph.nodes if isinstance(n, (Matmul, LinearAttention))}
    assert works[Chunk.MAT] == mat and not works[Chunk.RMAC] & mat and works[Chunk.RMAC]
    times = intervals(build)
    order = [times[n.name] for n in graph.nodes]
    assert all(a[1] <= b[0] for a, b in zip(order, order[1:]))
    times = intervals(compile_graph(graph, TINY))
    order = [times[n.name] for n in graph.nodes]
    assert any(a[1] > b[0] for a, b in zip(order, order[1:]))


def test_same_bytes_every_time_and_build_directory(tmp_path):
    build = compile_graph(small(TINY), TINY)
    assert compile_graph(small(TINY), TINY).memory_image == build.memory_image
    save_build(build, tmp_path / "b")
    assert dataclasses.asdict(load_build(tmp_path / "b", TINY)) == dataclasses.asdict(build)
    assert "stages.0.blocks.0.depth_conv" in report(build)


@pytest.mark.parametrize(("name", "size"), [("efficientvit_b0", 224), ("efficientvit_b1", 224)])
def test_published_networks_fit_the_preset(name, size):
    build = compile_graph(random_named(name, size), PRESETS["trio"])
    assert build.program_beats < 700 and max(build.used) <= PRESETS["trio"].pool_rows
    assert 280e6 < sum(build.macs.values()) < 560e6 or name == "efficientvit_b0"


def test_tensors_that_fit_only_by_the_order_of_the_runs():
    """B2's widest map and its input take 14,336 of the preset's 16,384 rows."""
    net = analyse_maps(random_named("efficientvit_b2", 224), PRESETS["trio"])
    runs = Scheduler(net, PRESETS["trio"], CompileOptions(), 2000).run()
    assert sum(allocate_lifetimes(net, PRESETS["trio"], runs, Tuning()).used) >= 14336


# ---------------------------------------------------------------- refusals


def refused(match, graph=None, config=TINY, **options):
    with pytest.raises(ValueError, match=match) as error:
        compile_graph(graph or small(config), config, CompileOptions(**options))
    assert "\n" not in str(error.value)


def test_refusals():
    refused("model: EfficientViT needs a preset with trio", config=PRESETS["p2vit"], graph=small(SEVEN))
    refused("must be a multiple of word = 16, not 8", small(TINY), SEVEN)
    tight = lambda **kw: dataclasses.replace(TINY, **kw)  # noqa: E731
    refused("layer stages.*: K must be at most max_k = 56, not 64", config=tight(max_k=56))
    refused("rows of the window buffer, window_rows = 16", config=tight(window_rows=16))
    refused("Ksum of 2 words must fit ksum_rows = 1", config=tight(ksum_rows=1))
    refused("at most max_channels = 16 channels, not 32", config=tight(max_channels=16))
    refused(r"activation buffer: \d+ rows of 32 bytes needed at once \(.*\), 512 rows av", config=tight(pool_rows=128))
    refused(r"program memory: at least \d+ instructions", config=tight(program_rows=256))
    refused("weight buffer|tiles have .* weight rows, a piece at most", config=tight(weight_rows=16))
    refused("pipelining of EfficientViT must be both or none, not 'inter'", pipelining="inter")
    refused("blocks must be None for an EfficientViT", blocks=BlockSchedule())
    refused("engines must be both or mat for a ViT.*not 'rmac'", shape_graph(1, 32, 2, 64, 17, 16, 10), engines="rmac")
    with pytest.raises(ValueError, match="engines must be one of both, rmac, mat, not 'none'"):
        CompileOptions(engines="none")
    graph = small(TINY)
    node = next(n for n in graph.nodes if isinstance(n, KeyValue))
    with pytest.raises(ValueError, match="at most window_rows / 2 = 2 token groups, not 3"):
        Checks(analyse_maps(graph, TINY), tight(window_rows=4)).layer(node)


def test_refused_layers():
    graph = small(TINY)
    changed(graph, LinearAttention, rule="exact")
    refused("layer .*division rule 'exact' exists in software only", graph)
    graph = small(TINY)
    node = next(n for n in graph.nodes if isinstance(n, Matmul))
    node.weight[0, 0] = -128
    refused("stem.in_conv: weight must be in -127..127, has -128", graph)
    graph = small(TINY)
    changed(graph, Matmul, bias=node.bias + 40_000_000)
    refused(r"stem.in_conv: bias must be in .*\(field bias of isa.POST_PARAM_FIELDS, 26 bits\), has", graph)
    graph = small(TINY)
    spare = dataclasses.replace(graph.nodes[-1], name="spare", out=Ref("spare"))
    graph.tensors["spare"] = dataclasses.replace(graph.tensors[graph.output], name="spare")
    graph.nodes.append(spare)
    refused("layer spare: nothing reads its output", graph)
    graph = small(TINY)
    graph.nodes.append(Softmax(name="codes", out=Ref("codes"), x=Ref("head.pool"), c=1))
    graph.tensors["codes"] = dataclasses.replace(graph.tensors["head.pool"], name="codes", fmt="code4")
    refused("layer codes: Softmax is none of the EfficientViT family", graph)


def changed(graph, kind, **fields):
    """The first node of a kind with other fields."""
    node = next(n for n in graph.nodes if isinstance(n, kind))
    graph.nodes[graph.nodes.index(node)] = dataclasses.replace(node, **fields)


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize(("config", "batch"), [(TINY, 2), (TINY, 4), (SEVEN, 3)], ids=["tiny2", "tiny4", "seven3"])
def test_batch(config, batch):
    """Every tensor of every image; the last job is not full; the classifier's weights are read once a job."""
    graph = small(config)
    build = compile_graph(graph, config, CompileOptions(batch=batch))
    check(graph, build, batch + 1, (0, 2))
    names = [label.layer for label in build.labels[Chunk.WEIGHT_DMA]]
    assert names.count("head.classifier.4:params") == 1 and names.count("head.in_conv:params") == batch
    assert len(names) > len(set(names)) and len(build.pieces) == len(set(names))
    one = compile_graph(graph, config)
    assert sum(p.beats for p in build.pieces) == sum(p.beats for p in one.pieces)
    assert [i.op["bank"] for i in build.programs[Chunk.RESULT_DMA]] == list(range(batch))
    assert build.image_bytes == batch * one.image_bytes and build.result_bytes == batch * one.result_bytes


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("config", [TINY, SEVEN], ids=lambda c: c.name)
def test_deferred_classifier(config, batch):
    """Results come one job later; the classifier's pieces lie between the first image's layers."""
    graph = small(config)
    build = compile_graph(graph, config, CompileOptions(batch=batch, defer=True))
    assert build.lag == 1 and len(build.jobs(random_images(graph, batch + 1))) == 3
    check(graph, build, batch + 1, (batch,))
    mat = [label.layer for label in build.labels[Chunk.MAT]]
    classifier = [n for n, name in enumerate(mat) if name.startswith("head.classifier")]
    assert mat.index("stem.in_conv") < classifier[-1] < mat.index("head.in_conv")
    assert "head.classifier.0" not in {label.layer for label in build.labels[Chunk.RMAC]}


def test_next_image_fills_waiting_time():
    """Rows of the next image's stem are taken before the last rows of the present one, and only as wanted."""
    graph, options = small(SEVEN), CompileOptions(batch=2)
    net = analyse_maps(unroll(graph, 2, SEVEN), SEVEN)
    second = next(layer.number for layer in net.layers if layer.name == "stem.in_conv@1")

    def early(ahead):
        runs = Scheduler(net, SEVEN, options, 128, 2, ahead).run()
        last = max(n for n, r in enumerate(runs) if r.layer < second - 3)
        return sum(r.rows for r in runs[:last] if r.layer >= second)

    assert early(2) > 0 == early(0)


@pytest.mark.parametrize("rows", [192, 512])
def test_batch_with_little_room_for_weights(rows):
    """Small pieces that two images use in turn have places of their own behind the ring, or are loaded again."""
    config = dataclasses.replace(SEVEN, cores=6, weight_rows=rows)
    graph = small(config)
    build = compile_graph(graph, config, CompileOptions(batch=3))
    loads = Counter(label.layer for label in build.labels[Chunk.WEIGHT_DMA] if not label.layer.startswith("head.cl"))
    assert min(loads.values()) == 1 or max(loads.values()) > 3
    check(graph, build, 3, (1,))


def test_batch_refusals():
    refused("batch must be at most cores = 4, not 5", batch=5)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        compile_graph(small(TINY), TINY, CompileOptions(batch=0))
    refused("batch must be 1 for a ViT", graph=shape_graph(1, 16, 2, 32, 17, 24, 10), config=PRESETS["tiny"], batch=2)
    with pytest.raises(ValueError, match="defer needs layers that overlap, not pipelining none, engines both"):
        compile_graph(small(TINY), TINY, CompileOptions(pipelining="none", defer=True))
    refused("defer must be off for a ViT", graph=shape_graph(1, 16, 2, 32, 17, 24, 10), config=PRESETS["tiny"],
            defer=True)  # fmt: skip
    graph = small(TINY)
    build = compile_graph(graph, TINY, CompileOptions(batch=2))
    x = random_images(graph, 3)
    assert [len(job) for job in build.jobs(x)] == [2, 2] and np.array_equal(build.jobs(x)[1][1], x[2])
    with pytest.raises(ValueError, match="job: must have 2 images, not 1"):
        build.pack_job(x[:1])
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        CompileOptions(batch=0)


def test_shorter_program():
    """Where the program memory is too small, the schedule is made with other constants; the first one's error."""
    graph, tuning = small(SEVEN), Tuning(hold=0, shorter=(400,))
    config = dataclasses.replace(SEVEN, program_rows=2048)
    build = compile_graph(graph, config, CompileOptions(batch=3, tuning=tuning))
    assert build.options.tuning.hold == 400 and sum(map(len, build.programs.values())) < 512
    with pytest.raises(ValueError, match="program memory: (at least )?5[0-9]* instructions"):
        compile_graph(graph, config, CompileOptions(batch=3, tuning=Tuning(hold=0, shorter=())))
