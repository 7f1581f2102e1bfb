"""The block schedule: ViTs, block after block; the order of heads and row blocks is chosen with the cycle model."""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ...cycles.model import simulate
from ...graph.ir import Graph
from ...ops import Attend, Scores, Softmax
from ..layers.vit import Network, analyse, cdiv
from ..memory.rings import RingError
from ..memory.slots import allocate_slots
from ..options import BlockSchedule, CompileOptions, candidates
from ..program.build import Build
from ..program.link import link
from .block_plan import plan
from .strategy import Strategy


class Blocks(Strategy):
    """See the module."""

    name = "ViT"
    own = (Scores, Softmax, Attend)

    def compile(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        return self._compile(graph, config, options, first=False)

    def fit(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        return self._compile(graph, config, options, first=True)

    def _compile(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions, first: bool) -> Build:
        net = analyse(graph, config)
        if options.batch > 1:
            raise ValueError(f"batch must be 1 for a ViT, whose head is one of many layers, not {options.batch}")
        if options.defer:
            raise ValueError("defer must be off for a ViT, whose head is one of many layers")
        if options.engines == "rmac":
            raise ValueError("engines must be both or mat for a ViT, whose embedding R-MAC cannot read, not 'rmac'")
        if options.blocks is not None:
            return _compile(net, config, options)
        families = candidates(cdiv(net.tokens, config.cores), options, config.engines)
        return _fastest(net, config, options, families, first)


def _compile(net: Network, config: AcceleratorConfig, options: CompileOptions) -> Build:
    """With the block schedule of the options."""
    assert options.blocks is not None
    allocation = allocate_slots(net, config, options.blocks)
    return link(net.graph, config, options, allocation, plan(net, config, allocation, options))


def _fastest(
    net: Network,
    config: AcceleratorConfig,
    options: CompileOptions,
    families: list[list[BlockSchedule]],
    first: bool = False,
) -> Build:
    """The fastest of the families' first fits; one that keeps the engines busy is taken at once. ``first``: any."""
    best, cycles, errors = None, 0.0, []
    for family in families:
        if best is not None and not family[0].weights_resident:
            continue  # the same schedule with more traffic
        build = None
        for blocks in family:
            try:
                build = _compile(net, config, dataclasses.replace(options, blocks=blocks))
                if first:
                    return build
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
        if cycles < options.tuning.good * busy / config.engines / 3:
            break
    if best is None:
        raise ValueError("; or: ".join(dict.fromkeys(errors)))
    return best

