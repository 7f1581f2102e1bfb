"""compile_graph: from an integer graph to a Build."""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ..cycles.model import simulate
from ..graph.ir import Graph, TensorInfo
from ..graph.rules import check_graph
from ..graph.serialize import graph_hash
from ..kinds.access import cdiv
from .layers.batch import EVERY, image_of, plain, unroll, whole_layers
from .layers.efficientvit import analyse_trio, is_trio
from .layers.vit import Network, analyse
from .memory.lifetimes import SpaceError, allocate_trio
from .memory.rings import RingError
from .memory.vit import Allocation, allocate
from .options import CompileOptions, candidates
from .program import image
from .program.build import Build, Stored
from .program.waits import derive
from .schedule.row_plan import plan_trio, ring_rows
from .schedule.row_schedule import WINDOWS, Scheduler
from .schedule.steps import Label, Step
from .schedule.vit_plan import Planner, plan

GOOD = 1.01  #: cycles over busy cycles of an engine at which no other schedule is tried


def compile_graph(
    graph: Graph,
    config: AcceleratorConfig,
    options: CompileOptions | None = None,
    pipelining: str = "both",
    batch: int = 1,
    engines: str = "both",
    defer: bool = False,
) -> Build:
    """Schedule, allocate, encode, prove.

    Without ``options``, the row blocks are chosen with the cycle model (the first family that keeps the PE array busy
    is taken), and of the buffer layouts the first that fits. ``pipelining``: P2-ViT's ablation, ``batch``: images of a
    job, ``engines``: Trio-ViT's ablation, ``defer``: the classifier runs beside the next job (all: CompileOptions).
    ValueError names what does not fit: layer or buffer, rule, sizes.
    """
    if options is None and (batch != 1 or engines != "both" or defer):
        options = CompileOptions(pipelining=pipelining, batch=batch, engines=engines, defer=defer)
    check_graph(graph)
    if is_trio(graph):
        build = _trio(graph, config, options or CompileOptions(pipelining=pipelining))
        build.prove()
        return build
    net = analyse(graph, config)
    if options is not None and options.batch > 1:
        raise ValueError(f"batch must be 1 for a ViT, whose head is one of many layers, not {options.batch}")
    if options is not None and options.defer:
        raise ValueError("defer must be off for a ViT, whose head is one of many layers")
    if options is not None and options.engines == "rmac":
        raise ValueError("engines must be both or mat for a ViT, whose embedding R-MAC cannot read, not 'rmac'")
    if options is not None:
        build = _compile(graph, net, config, options)
    else:
        build = _best(graph, net, config, candidates(cdiv(net.tokens, config.cores), pipelining, config.engines))
    build.prove()
    return build


def _best(graph: Graph, net: Network, config: AcceleratorConfig, families: list[list[CompileOptions]]) -> Build:
    """The fastest of the families' first fits."""
    best, cycles, errors = None, 0.0, []
    for family in families:
        if best is not None and not family[0].weights_resident:
            continue  # the same schedule with more traffic
        build = None
        for option in family:
            try:
                build = _compile(graph, net, config, option)
                trace = simulate(build, config.beat_bytes, 100, 3)
                break
            except RingError as error:
                last = str(error)
                break  # no layout of the activation buffer helps
            except ValueError as error:
                build, last = None, str(error)
        if build is None:
            errors.append(last)
            continue
        done = trace.done[Chunk.RESULT_DMA]
        each = int(done[-1] - done[0]) / 2
        if best is None or each < cycles:
            best, cycles = build, each
        busy = sum(int((trace.end[c] - trace.start[c]).sum()) for c in (Chunk.MAT, Chunk.RMAC))
        if cycles < GOOD * busy / config.engines / 3:
            break
    if best is None:
        raise ValueError("; or: ".join(dict.fromkeys(errors)))
    return best


def _compile(graph: Graph, net: Network, config: AcceleratorConfig, options: CompileOptions) -> Build:
    allocation = allocate(net, config, options)
    return _link(graph, config, options, allocation, plan(net, config, allocation, options))


PIECES = (3, 4, 6, 8, 12, 16)  #: longest weight pieces of an EfficientViT that are tried, in parts of the ring


def _trio(graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
    """The first length of weight pieces with which the ring holds what is in use at the same time; fewer layers at a
    time where the activation buffer is too small."""
    if options.pipelining not in ("both", "none"):
        raise ValueError(f"pipelining of EfficientViT must be both or none, not {options.pipelining!r}")
    net = analyse_trio(graph, config)
    if options.batch > 1 or options.defer:
        net = analyse_trio(unroll(graph, options.batch, config, options.defer), config, options.defer)
    ring = ring_rows(net, config)
    error, small = None, None
    for rows in [options.piece_rows] if options.piece_rows else [ring // n for n in PIECES]:
        for window, ahead in WINDOWS if options.batch > 1 else WINDOWS[1:]:
            try:
                runs = Scheduler(net, config, options, rows, window, ahead).run()
                allocation = allocate_trio(net, config, runs)
                planner = plan_trio(net, config, allocation, runs, options, rows)
                return _link(graph, config, options, allocation, planner)
            except SpaceError as e:
                small = e
            except RingError as e:
                error = error or e
                break
        if small and not error:
            break
    raise error or small


def _link(
    graph: Graph,
    config: AcceleratorConfig,
    options: CompileOptions,
    allocation: Allocation,
    planner: Planner,
) -> Build:
    """Waits, encoding, maps."""
    pairs = derive(planner.steps, config)
    programs = {c: [i for s, i in pairs if s.chunk == c] for c in Chunk}
    outputs = {n.name: n.out.name for n in graph.nodes}
    whole = whole_layers(graph) if options.batch > 1 or options.defer else set()

    def label(step: Step) -> Label:
        layer = plain(step.layer)
        tensor = layer if step.chunk == Chunk.IMAGE_DMA else outputs.get(layer, "")
        written = step.chunk not in (Chunk.LOADER, Chunk.WEIGHT_DMA, Chunk.RESULT_DMA)
        every = step.chunk != Chunk.RESULT_DMA and layer.split(":")[0] in whole
        image = EVERY if every else image_of(step.layer)
        return Label(layer, tensor if written else "", step.first, step.channel, image)

    labels = {c: [label(s) for s, _ in pairs if s.chunk == c] for c in Chunk}
    programs, logical = image.link(programs, planner.pieces, config)
    start = (1 + len(pairs)) * config.instruction_beats
    return Build(
        config=config,
        options=options,
        programs=programs,
        labels=labels,
        places=allocation.places,
        used=allocation.used,
        pieces=[Stored(p.name, p.beat + start, len(p.data) // config.beat_bytes, p.layers) for p in planner.pieces],
        memory_image=image.striped(logical, config),
        tensors={n: _tensor(t) for n, t in sorted(graph.tensors.items())},
        input=graph.input,
        output=graph.output,
        model_hash=graph_hash(graph),
        macs={n.name: macs for n in graph.nodes if (macs := n.macs(graph))},
    )


def _tensor(t: TensorInfo) -> dict:
    """What a build says about a tensor; maps have height and width."""
    size = dict(height=t.height, width=t.width) if t.height else {}
    return dict(tokens=t.tokens, channels=t.channels, fmt=t.fmt, **size)
