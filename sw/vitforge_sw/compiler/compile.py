"""compile_graph: from an integer graph to a Build."""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ..graph.ir import Graph, Linear, Scores
from ..graph.serialize import graph_hash
from . import image
from .access import cdiv
from .allocate import allocate
from .build import Build, Stored
from .network import Network, analyse
from .options import CompileOptions, candidates
from .plan import plan
from .rings import RingError
from .simulate import simulate
from .steps import Label, Step
from .waits import derive

GOOD = 1.01  #: cycles over busy cycles of the PE array at which no other schedule is tried


def compile_graph(
    graph: Graph, config: AcceleratorConfig, options: CompileOptions | None = None, pipelining: str = "both"
) -> Build:
    """Schedule, allocate, encode, prove.

    Without ``options``, the row blocks are chosen with the cycle model (the first family that keeps the PE array busy
    is taken), and of the buffer layouts the first that fits. ``pipelining``: P2-ViT's ablation (CompileOptions).
    ValueError names what does not fit: layer or buffer, rule, sizes.
    """
    net = analyse(graph, config)
    if options is not None:
        build = _compile(graph, net, config, options)
    else:
        build = _best(graph, net, config, candidates(cdiv(net.tokens, config.cores), pipelining))
    build.prove()
    return build


def _best(graph: Graph, net: Network, config: AcceleratorConfig, families: list[list[CompileOptions]]) -> Build:
    """The fastest of the families' first fits."""
    best, cycles, errors = None, 0.0, []
    for family in families:
        if best is not None and not family[0].weights_resident:
            break  # the same schedule with more traffic
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
        if cycles < GOOD * (trace.end[Chunk.MAT] - trace.start[Chunk.MAT]).sum() / 3:
            break
    if best is None:
        raise ValueError("; or: ".join(dict.fromkeys(errors)))
    return best


def _macs(net: Network) -> dict[str, int]:
    macs = {}
    for node in net.graph.nodes:
        tokens = net.tensor(node.out.name).tokens
        if isinstance(node, Linear):
            macs[node.name] = min(tokens, net.tensor(node.x.name).tokens) * node.weight.size
        elif isinstance(node, Scores):
            macs[node.name] = tokens * tokens * net.head_dim
    return macs


def _compile(graph: Graph, net, config: AcceleratorConfig, options: CompileOptions) -> Build:
    allocation = allocate(net, config, options)
    planner = plan(net, config, allocation, options)
    pairs = derive(planner.steps, config)
    programs = {c: [i for s, i in pairs if s.chunk == c] for c in Chunk}
    outputs = {n.name: n.out.name for n in graph.nodes}

    def label(step: Step) -> Label:
        tensor = step.layer if step.chunk == Chunk.IMAGE_DMA else outputs.get(step.layer, "")
        written = step.chunk not in (Chunk.LOADER, Chunk.WEIGHT_DMA, Chunk.RESULT_DMA)
        return Label(step.layer, tensor if written else "", step.first, step.channel)

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
        tensors={n: dict(tokens=t.tokens, channels=t.channels, fmt=t.fmt) for n, t in sorted(graph.tensors.items())},
        input=graph.input,
        output=graph.output,
        model_hash=graph_hash(graph),
        macs=_macs(net),
    )
