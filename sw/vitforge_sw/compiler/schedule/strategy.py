"""What a way of scheduling must offer the compiler."""

import abc
from typing import ClassVar

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import Graph, Node
from ..options import CompileOptions
from ..program.build import Build


class Strategy(abc.ABC):
    """Layers, order, places and program of graphs that hold certain operations.

    name : for messages
    own : operations that no other strategy schedules; matmuls, LayerNorm and sums are everybody's
    """

    name: ClassVar[str]
    own: ClassVar[tuple[type[Node], ...]]

    @abc.abstractmethod
    def compile(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        """The program, its order not yet proved. ValueError names what does not fit: layer, buffer or option, rule,
        sizes."""

    def fit(self, graph: Graph, config: AcceleratorConfig, options: CompileOptions) -> Build:
        """As ``compile``, but the first program that fits may do."""
        return self.compile(graph, config, options)
