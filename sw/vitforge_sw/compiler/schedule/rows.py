"""The row schedule: EfficientViTs, whose map rows an event model gives to the engines, all layers of a job at once."""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import Graph
from ...ops import Depthwise, KeyValue, LinearAttention
from ..layers.batch import unroll
from ..layers.efficientvit import analyse_maps
from ..memory.lifetimes import SpaceError, allocate_lifetimes
from ..memory.rings import RingError
from ..options import CompileOptions
from ..program.build import Build
from ..program.image import ProgramError
from ..program.link import link
from .row_plan import plan_rows, ring_rows
from .row_schedule import Scheduler
from .strategy import Strategy


class Rows(Strategy):
    """See the module."""

    name = "EfficientViT"
    own = (Depthwise, KeyValue, LinearAttention)

    def compile(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        """With the longest weight pieces with which the ring holds what is in use at the same time; fewer layers at a
        time where the activation buffer is too small; by a shorter program where the first one does not fit its
        memory."""
        if options.pipelining not in ("both", "none"):
            raise ValueError(f"pipelining of EfficientViT must be both or none, not {options.pipelining!r}")
        if options.blocks is not None:
            raise ValueError("blocks must be None for an EfficientViT: a block schedule is a ViT's")
        tuning = options.tuning
        tried = [options] + [
            dataclasses.replace(options, tuning=dataclasses.replace(tuning, hold=hold)) for hold in tuning.shorter
        ]
        error: ProgramError | None = None
        for each in tried:
            try:
                return self._compile(graph, config, each)
            except ProgramError as e:
                error = error or e
        assert error
        raise error

    def _compile(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        """With these constants."""
        net = analyse_maps(graph, config)
        if options.batch > 1 or options.defer:
            net = analyse_maps(unroll(graph, options.batch, config, options.defer), config, options.defer)
        tuning = options.tuning
        ring = ring_rows(net, config, tuning)
        error: RingError | None = None
        small: SpaceError | None = None
        for rows in [options.piece_rows] if options.piece_rows else [ring // n for n in tuning.pieces]:
            for window, ahead in tuning.windows if options.batch > 1 else tuning.windows[1:]:
                try:
                    runs = Scheduler(net, config, options, rows, window, ahead).run()
                    allocation = allocate_lifetimes(net, config, runs, tuning)
                    written = plan_rows(net, config, allocation, runs, options, rows)
                    return link(graph, config, options, allocation, written)
                except SpaceError as e:
                    small = e
                except RingError as e:
                    error = error or e
                    break
            if small and not error:
                break
        raise error or small or ValueError("tuning: pieces and windows must not be empty")

