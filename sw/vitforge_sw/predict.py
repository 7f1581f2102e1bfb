"""Cycles of a ViT whose layers have given weight bits, from its shapes alone: what a search over bits asks for."""

from collections import Counter
from collections.abc import Mapping

from vitforge_hw.arch.config import AcceleratorConfig

from .compiler.compile import compile_graph
from .compiler.options import CompileOptions
from .compiler.program.build import Build
from .cycles.estimate import estimate
from .families.vit.bits import layer_name, with_bits
from .families.vit.shapes import shortened
from .graph.ir import Graph
from .ops import Matmul

Bits = Mapping[str, int]  #: layer (``Scheme.bits``) -> weight bits; 8 where a layer is missing, up to 4 run as 4
SHORT = 3  #: blocks of the networks from which a block's cycles are taken


class CyclePredictor:
    """Cycles an image in the steady state, by the cycle model.

    Parameters
    ----------
    shapes : graph of a ViT's shapes (families.vit.shapes); weights and constants do not matter
    config, options : machine and what its user chooses
    bytes_per_cycle, latency : of the memory

    ``exact`` compiles and simulates the whole network; ``quick`` adds up the blocks' own cycles, each taken from
    networks of ``SHORT`` blocks, one per combination of a block's bits, kept; then it takes microseconds.
    """

    def __init__(
        self,
        shapes: Graph,
        config: AcceleratorConfig,
        options: CompileOptions | None = None,
        bytes_per_cycle: float = 64,
        latency: int = 100,
    ):
        self.shapes, self.config, self.options = shapes, config, options
        self.memory = min(bytes_per_cycle, config.beat_bytes), latency
        self._short = shortened(shapes, SHORT)
        self._exact: dict[tuple[int, frozenset[str]], float] = {}
        self._block: dict[str, int | None] = {}
        for node in shapes.nodes:
            if isinstance(node, Matmul):
                self._block[layer_name(node)] = node.role.block
        self._blocks = 1 + max((b for b in self._block.values() if b is not None), default=-1)

    def build(self, bits: Bits) -> Build:
        """The program of the shapes with these bits."""
        return compile_graph(with_bits(self.shapes, bits), self.config, self.options)

    def exact(self, bits: Bits) -> float:
        """By compiling and simulating the whole network."""
        return self._cycles(self.shapes, self._few(bits))

    def quick(self, bits: Bits) -> float:
        """As if a block's cycles did not depend on the others: the mean over its blocks of a short network all of whose
        blocks are like it; layers outside blocks count by themselves."""
        few = self._few(bits)
        kinds: Counter[frozenset[str]] = Counter()
        for b in range(self._blocks):
            prefix = f"blocks.{b}."
            kinds[frozenset(name.removeprefix(prefix) for name in few if self._block[name] == b)] += 1
        outside = frozenset(name for name in few if self._block[name] is None)
        count = min(SHORT, self._blocks)
        alike = lambda kind: frozenset(f"blocks.{b}.{name}" for b in range(count) for name in kind)  # noqa: E731
        more = lambda layers: self._cycles(self._short, layers) - self._cycles(self._short, frozenset())  # noqa: E731
        saved = sum(more(alike(kind)) * n / count for kind, n in kinds.items() if kind)
        return self.exact({}) + saved + (more(outside) if outside else 0.0)

    def _cycles(self, shapes: Graph, few: frozenset[str]) -> float:
        key = len(shapes.nodes), few
        if key not in self._exact:
            build = compile_graph(with_bits(shapes, dict.fromkeys(few, 4)), self.config, self.options)
            self._exact[key] = estimate(build, *self.memory, images=3)["cycles"]
        return self._exact[key]

    def _few(self, bits: Bits) -> frozenset[str]:
        """Layers of 4 bits. ValueError: a layer that the network has not."""
        if unknown := sorted(set(bits) - set(self._block)):
            raise ValueError(f"weight bits: layer {unknown[0]!r} is none of {', '.join(list(self._block)[:4])}, ...")
        return frozenset(name for name, count in bits.items() if count <= 4)


def predict_cycles(shapes: Graph, config: AcceleratorConfig, bits: Bits, **memory: float) -> float:
    """``CyclePredictor(...).exact(bits)`` for a single question."""
    return CyclePredictor(shapes, config, **memory).exact(bits)
