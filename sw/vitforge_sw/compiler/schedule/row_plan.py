"""The program of an EfficientViT: the runs of the schedule as instructions, with weights, parameters, Z and Ksum.

Weights and parameters are loaded in the order of first use into rings. Z of the attention branches takes turns in slots
behind the weight ring, Ksum in slots of its memory.
"""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import (
    DEPTHWISE,
    DEST_LN_PARAMS,
    DEST_PARAMS,
    DEST_WEIGHTS,
    KEY_VALUE,
    PARAM_BYTES,
    TOKEN_SUM,
    Chunk,
)

from ...graph.ir import Ref
from ...kinds import kind_of
from ...ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum
from ..layers.batch import image_of, of_image, part_of, plain
from ..layers.efficientvit import Layer, MapNetwork, Shape, window_stride
from ..layers.run import Run
from ..layers.vit import cdiv
from ..memory.place import Allocation
from ..memory.rings import RingError
from ..options import CompileOptions
from ..program.image import image_beats, result_units
from ..program.parameters import depthwise_rows, layernorm_params, post_params, weight_rows
from ..program.writer import Content, ProgramWriter, Starts
from ..tuning import Tuning
from .row_units import pieces_of


def slots_of(net: MapNetwork, config: AcceleratorConfig, tuning: Tuning) -> tuple[int, int, int]:
    """(slots, weight rows of a slot's Z, Ksum words of a slot)."""
    z = ksum = 0
    for layer in net.layers:
        if isinstance(layer.node, LinearAttention):
            z = max(z, layer.tiles * layer.steps)
            ksum = max(ksum, layer.node.heads * layer.ksteps)
    slots = min(tuning.branches, config.ksum_rows // ksum, config.weight_rows // (2 * z)) if z else 0
    if z and not slots:
        raise RingError(f"weight buffer: Z of {z} rows exceeds half of {config.weight_rows} rows")
    return slots, z, ksum


def ring_rows(net: MapNetwork, config: AcceleratorConfig, tuning: Tuning) -> int:
    """Weight rows left for the ring."""
    slots, z, _ = slots_of(net, config, tuning)
    return config.weight_rows - slots * z


def plan_rows(
    net: MapNetwork,
    config: AcceleratorConfig,
    places: Allocation,
    runs: list[Run],
    options: CompileOptions,
    piece_rows: int,
) -> ProgramWriter:
    """The program with the best ring positions. In a batch, small pieces that would be loaded more than once an image,
    because the layers of two images alternate, get places of their own where there is room, and are loaded once a job.
    """
    first = RowPlan(net, config, places, runs, options, piece_rows)
    first.run()
    kept: dict[str, tuple[int, int]] | None = first.again
    if kept:
        try:
            second = RowPlan(net, config, places, runs, options, piece_rows, kept=kept)
            second.run()
            first = second
        except RingError:  # too many: they are loaded again
            kept = None
    first.out.check_length()
    cycles = int(max(r.end for r in runs))
    best = RowPlan(net, config, places, runs, options, piece_rows, first.out.best_starts(cycles), kept)
    best.run()
    return best.out


class RowPlan:
    """Writes the runs as instructions; ``out`` gets the program. Uses of the rings' pieces are counted in the cycles of
    the schedule's model."""

    def __init__(
        self,
        net: MapNetwork,
        config: AcceleratorConfig,
        places: Allocation,
        runs: list[Run],
        options: CompileOptions,
        piece_rows: int,
        starts: Starts | None = None,
        kept: dict[str, tuple[int, int]] | None = None,
    ):
        self.net, self.config, self.options, self.runs = net, config, options, runs
        self.places, self.loads, self.piece_rows = places.places, places.loads, piece_rows
        self.slots, self.z_rows, self.ksum_words = slots_of(net, config, options.tuning)
        self.out = ProgramWriter(config, ring_rows(net, config, options.tuning), starts, kept)
        self.again: dict[str, tuple[int, int]] = {}  #: piece -> (memory, rows), where it is loaded again
        self.loaded: dict[str, int] = {}  #: piece -> its address
        self.branch: dict[str, int] = {}  #: Z or Ksum tensor -> slot
        for layer in net.layers:
            if isinstance(layer.node, LinearAttention):
                slot = len(self.branch) // 2 % self.slots
                self.branch |= {layer.node.z.name: slot, layer.node.ksum.name: slot}

    def run(self) -> None:
        """Images, runs, results."""
        of_layer: dict[int, list[int]] = {}
        for n, run in enumerate(self.runs):
            for image, at in enumerate(self.loads):
                if at == n:
                    self.image(image)
            layer = self.net.layers[run.layer]
            step = self.step(layer, run)
            if not self.options.overlap and run.layer:
                self.out.steps[step].barriers = tuple(of_layer[run.layer - 1])
            of_layer.setdefault(run.layer, []).append(step)
        for image in range(self.options.batch):
            self.result(image)

    def step(self, layer: Layer, run: Run) -> int:
        """One instruction; its number."""
        match layer.node:
            case Matmul() | LinearAttention() as node:
                return self.pointwise(node, layer, run)
            case Depthwise() as node:
                return self.depthwise(node, layer, run)
            case TokenSum() as node:
                return self.total(node, layer, run)
            case KeyValue() as node:
                return self.key_value(node, layer, run)
            case LayerNorm() as node:
                return self.norm(node, layer, run)
            case node:
                raise TypeError(f"layer {layer.name}: {type(node).__name__} has no instruction")

    def image(self, image: int) -> None:
        """IMAGE_DMA of one image of the batch; in DRAM they follow each other."""
        c, name = self.config, of_image(self.net.graph.input, image)
        x = self.net.shapes[name]
        beats = x.groups * x.stride * c.beats_per_row
        self.out.add(Chunk.IMAGE_DMA, name, 0, x.rows, job=1, source=image * image_beats(x.rows * beats), beats=beats,
                 out_addr=self.places[name].address)  # fmt: skip

    def result(self, image: int) -> None:
        """RESULT_DMA of one image's logits."""
        name = self.net.graph.output
        out = self.places[name]
        units = result_units(out.stride, self.config)
        self.out.add(Chunk.RESULT_DMA, of_image(name, image), 0, 1, in_addr=out.address, count=out.stride, bank=image,
                 offset=image * units)  # fmt: skip

    # ------------------------------------------------------------ data

    def need(self, name: str, dest: int, run: Run, layer: Layer, content: Content) -> int:
        """Address of a piece, which is loaded when it is first needed; in a batch, small ones again where the layers of
        two images alternate (see plan_rows)."""
        if (own := plain(name)) in self.out.kept:
            if own not in self.loaded:
                self.loaded[own] = self.out.load(own, dest, content, at=self.out.kept[own])
            return self.loaded[own]
        ring = self.out.rings[dest]
        again = name in self.loaded and not ring.holds(name)
        alternate = self.options.batch > 1 or self.options.defer
        if again := again and alternate and ring.size(name) * self.options.tuning.small <= ring.rows:
            self.again[own] = dest, ring.size(name)
        if name not in self.loaded or again:
            self.loaded[name] = self.out.load(name, dest, content, stored=own)
        ring.use(self.loaded[name], name, layer.name, int(run.start), int(run.end))
        return self.loaded[name]

    def params(self, layer: Layer, run: Run, channels: int) -> int:
        """First parameter beat of the run's tiles."""
        name = part_of(layer.name, ":params")
        at = self.need(name, DEST_PARAMS, run, layer, lambda: post_params(layer.node, channels, self.config))
        return at + run.tile * self.config.lanes * PARAM_BYTES // self.config.beat_bytes

    def weights(self, node: Matmul | LinearAttention, layer: Layer, run: Run) -> int:
        """First weight row of the run's tiles."""
        if isinstance(node, LinearAttention):
            return self.z_addr(node.z.name)
        pieces = pieces_of(self.net, layer, self.piece_rows, self.options.tuning)
        a, b = next((a, b) for a, b in pieces if a <= run.tile < b)
        assert run.tile + run.tiles <= b
        name = part_of(layer.name, ":weights" if len(pieces) == 1 else f":weights.{a}")
        weight, groups = node.weight, node.groups
        rows = lambda: weight_rows(weight, self.config, groups)[a * layer.steps : b * layer.steps]  # noqa: E731
        return self.need(name, DEST_WEIGHTS, run, layer, rows) + (run.tile - a) * layer.steps

    def z_addr(self, name: str) -> int:
        return self.config.weight_rows - (1 + self.branch[name]) * self.z_rows

    def ksum_addr(self, name: str) -> int:
        return self.branch[name] * self.ksum_words

    def word(self, ref: Ref) -> int:
        """Address of the first word of a reference in group 0."""
        place = self.places[ref.name]
        return place.address + ref.start // self.config.word * place.planes

    # ------------------------------------------------------------ instructions

    def pointwise(self, node: Matmul | LinearAttention, layer: Layer, run: Run) -> int:
        """Also Q Z with division."""
        c = self.config
        read = node.q if isinstance(node, LinearAttention) else node.x
        x, out, groups = self.places[read.name], self.places[node.out.name], layer.groups
        first = run.first * groups
        in_addr = self.word(read) + first * x.stride
        op = dict(
            tiles=run.tiles, ksteps=layer.ksteps, groups=groups - 1, skip=run.pitch - 1, in_addr=in_addr,
            in_stride=x.stride, weight_addr=self.weights(node, layer, run),
            param_addr=self.params(layer, run, self.net.count(node.out)),
            out_addr=self.word(node.out) + first * out.stride + run.tile * out.planes, out_stride=out.stride,
            out_wide=out.planes - 1,
        )  # fmt: skip
        if layer.gtiles:
            parts = run.tiles // layer.gtiles
            op |= dict(gtiles=layer.gtiles, in_words=parts * layer.ksteps)
            op["in_addr"] += run.tile // layer.gtiles * layer.ksteps
        if isinstance(node, LinearAttention):
            op |= node.division_fields(self.ksum_addr(node.ksum.name))
        else:
            op |= node.post_fields()
            if node.residual is not None:
                r = self.places[node.residual.name]
                address = self.word(node.residual) + first * r.stride + run.tile * r.planes
                op |= dict(res_mode=r.planes, res_addr=address, res_stride=r.stride)
        if run.chunk == Chunk.RMAC:
            op["kind"] = 0
        return self.out.add(run.chunk, layer.name, first, run.rows, node.out.start + run.tile * c.lanes, **op)

    def _map(self, x: Shape, ref: Ref) -> dict[str, int]:
        """The input map of a windowed instruction."""
        return dict(in_addr=self.word(ref), in_stride=x.stride, in_groups=x.groups, width=x.width, height=x.height)

    def depthwise(self, node: Depthwise, layer: Layer, run: Run) -> int:
        x, out = self.net.shapes[node.x.name], self.places[node.out.name]
        rows = lambda: depthwise_rows(node.weight, self.config, node.stride)  # noqa: E731
        op = self._map(x, node.x) | node.post_fields() | dict(
            kind=DEPTHWISE, blocks=x.blocks, kernel=node.kernel, stride=node.stride - 1, pad=node.pad, first=run.first,
            window_stride=window_stride(node, x, self.config),
            weight_addr=self.need(part_of(layer.name, ":weights"), DEST_WEIGHTS, run, layer, rows),
            param_addr=self.params(layer, run, len(node.weight)),
            out_addr=out.row(run.first * layer.groups), out_stride=out.stride, out_groups=layer.groups,
        )  # fmt: skip
        return self.out.add(run.chunk, layer.name, run.first * layer.groups, run.rows, **op)

    def total(self, node: TokenSum, layer: Layer, run: Run) -> int:
        """Ksum, or average pooling."""
        ksum = node.keys
        x, channels = self.net.shapes[node.x.name], self.net.count(node.x)
        op = self._map(x, node.x) | node.post_fields() | dict(
            kind=TOKEN_SUM, blocks=cdiv(channels, self.config.word), relu=int(ksum), dest=int(ksum),
            param_addr=self.params(layer, run, channels),
        )  # fmt: skip
        if ksum:
            op["weight_addr"] = self.ksum_addr(node.out.name)
        else:
            op |= dict(out_addr=self.places[node.out.name].address, out_stride=self.places[node.out.name].stride,
                       bank=image_of(layer.name))  # fmt: skip
        return self.out.add(run.chunk, layer.name, 0, 1, **op)

    def key_value(self, node: KeyValue, layer: Layer, run: Run) -> int:
        x, channels = self.net.shapes[node.k.name], self.net.count(node.k)
        blocks = channels // node.heads // self.config.word
        op = self._map(x, node.k) | node.post_fields() | dict(
            kind=KEY_VALUE, blocks=blocks, v_addr=self.word(node.v), weight_addr=self.z_addr(node.out.name),
            param_addr=self.params(layer, run, channels),
        )  # fmt: skip
        op = kind_of(run.chunk, op).advance(op, run.first, self.config)
        return self.out.add(run.chunk, layer.name, run.first, run.rows, **op)

    def norm(self, node: LayerNorm, layer: Layer, run: Run) -> int:
        x, out = self.places[node.x.name], self.places[node.out.name]
        at = self.need(part_of(layer.name, ":params"), DEST_LN_PARAMS, run, layer, lambda: layernorm_params(node))
        return self.out.add(
            Chunk.LAYERNORM, layer.name, 0, run.rows, in_addr=x.address, in_stride=x.stride, in_wide=x.planes - 1,
            blocks=cdiv(self.net.count(node.x), self.config.word), param_addr=at, out_addr=out.address,
            out_stride=out.stride, **node.post_fields(),
        )  # fmt: skip
