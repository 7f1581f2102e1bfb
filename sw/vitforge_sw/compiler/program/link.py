"""From a written schedule to a Build: waits, encoding, labels, memory image."""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ...graph.ir import Graph, TensorInfo
from ...graph.serialize import graph_hash
from ..layers.batch import EVERY, image_of, plain, whole_layers
from ..memory.place import Allocation
from ..options import CompileOptions
from . import image
from .build import Build, Stored
from .record import record
from .steps import Label, Step
from .waits import derive
from .writer import ProgramWriter


def link(
    graph: Graph,
    config: AcceleratorConfig,
    options: CompileOptions,
    allocation: Allocation,
    written: ProgramWriter,
) -> Build:
    """The Build of a schedule; ``graph``: of one image. ValueError: what does not fit."""
    pairs = derive(written.steps, config)
    programs = {c: [i for s, i in pairs if s.chunk == c] for c in Chunk}
    outputs = {n.name: n.out.name for n in graph.nodes}
    whole = whole_layers(graph) if options.batch > 1 or options.defer else set()

    def label(step: Step) -> Label:
        layer = plain(step.layer)
        tensor = layer if step.chunk == Chunk.IMAGE_DMA else outputs.get(layer, "")
        writes = step.chunk not in (Chunk.LOADER, Chunk.WEIGHT_DMA, Chunk.RESULT_DMA)
        every = step.chunk != Chunk.RESULT_DMA and layer.split(":")[0] in whole
        number = EVERY if every else image_of(step.layer)
        return Label(layer, tensor if writes else "", step.first, step.channel, number)

    labels = {c: [label(s) for s, _ in pairs if s.chunk == c] for c in Chunk}
    programs, logical = image.link(programs, written.pieces, config)
    start = (1 + len(pairs)) * config.instruction_beats
    build = Build(
        config=config,
        options=options,
        programs=programs,
        labels=labels,
        places=allocation.places,
        used=allocation.used,
        pieces=[Stored(p.name, p.beat + start, len(p.data) // config.beat_bytes, p.layers) for p in written.pieces],
        memory_image=image.striped(logical, config),
        tensors={n: _tensor(t) for n, t in sorted(graph.tensors.items())},
        input=graph.input,
        output=graph.output,
        model_hash=graph_hash(graph),
        macs={n.name: macs for n in graph.nodes if (macs := n.macs(graph))},
    )
    build.driver = record(build, graph)
    return build


def _tensor(t: TensorInfo) -> dict:
    """What a build says about a tensor; maps have height and width."""
    size = dict(height=t.height, width=t.width) if t.height else {}
    return dict(tokens=t.tokens, channels=t.channels, fmt=t.fmt, **size)
