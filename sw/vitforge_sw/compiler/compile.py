"""compile_graph: from an integer graph to a Build."""

from vitforge_hw.arch.config import AcceleratorConfig

from ..graph.ir import Graph
from ..graph.rules import check_graph
from .options import CompileOptions
from .program.build import Build
from .schedule.blocks import Blocks
from .schedule.rows import Rows
from .schedule.strategy import Strategy

ROWS, BLOCKS = Rows(), Blocks()
STRATEGIES: tuple[Strategy, ...] = (ROWS, BLOCKS)


def compile_graph(graph: Graph, config: AcceleratorConfig, options: CompileOptions | None = None) -> Build:
    """Check, schedule, allocate, encode, prove; by the strategy that the graph's operations ask for.

    ValueError names what does not fit: layer, buffer or option, rule, sizes.
    """
    check_graph(graph)
    build = strategy_of(graph).compile(graph, config, options or CompileOptions())
    build.prove()
    return build


def fit_graph(graph: Graph, config: AcceleratorConfig, options: CompileOptions | None = None) -> Build:
    """The first program that fits, not the fastest, its order not proved: the verdict of compile_graph on a graph that
    has passed ``check_graph``, sooner.

    ValueError as there.
    """
    return strategy_of(graph).fit(graph, config, options or CompileOptions())


def strategy_of(graph: Graph) -> Strategy:
    """The first strategy whose own operations the graph holds (it refuses layers that it does not know); without any, a
    graph of maps goes by rows, one of tokens by blocks."""
    for strategy in STRATEGIES:
        if any(isinstance(node, strategy.own) for node in graph.nodes):
            return strategy
    return ROWS if graph.tensors[graph.input].height else BLOCKS
