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
    INSTRUCTION_BYTES,
    KEY_VALUE,
    PARAM_BYTES,
    TOKEN_SUM,
    Chunk,
)

from ...graph.ir import Ref
from ...kinds import kind_of
from ...ops import Depthwise, KeyValue, LayerNorm, LinearAttention, Matmul, TokenSum
from ..layers.batch import image_of, of_image, plain
from ..layers.efficientvit import Layer, Shape, TrioNetwork, window_stride
from ..layers.vit import cdiv
from ..memory.rings import Ring, RingError
from ..memory.vit import Allocation
from ..options import CompileOptions
from ..program.image import image_beats, result_units
from ..program.parameters import depthwise_rows, layernorm_params, post_params, weight_rows
from .row_schedule import Run, pieces_of
from .steps import Piece, Step
from .vit_plan import Planner

SMALL = 8  #: pieces of at most 1 / SMALL of the ring may get places of their own
BRANCHES = 4  #: wanted slots of Z and Ksum: two branches of two blocks


def slots_of(net: TrioNetwork, config: AcceleratorConfig) -> tuple[int, int, int]:
    """(slots, weight rows of a slot's Z, Ksum words of a slot)."""
    z = ksum = 0
    for layer in net.layers:
        if isinstance(layer.node, LinearAttention):
            z = max(z, layer.tiles * layer.steps)
            ksum = max(ksum, layer.node.heads * layer.ksteps)
    slots = min(BRANCHES, config.ksum_rows // ksum, config.weight_rows // (2 * z)) if z else 0
    if z and not slots:
        raise RingError(f"weight buffer: Z of {z} rows exceeds half of {config.weight_rows} rows")
    return slots, z, ksum


def ring_rows(net: TrioNetwork, config: AcceleratorConfig) -> int:
    """Weight rows left for the ring."""
    slots, z, _ = slots_of(net, config)
    return config.weight_rows - slots * z


def plan_trio(
    net: TrioNetwork,
    config: AcceleratorConfig,
    places: Allocation,
    runs: list[Run],
    options: CompileOptions,
    piece_rows: int,
) -> "TrioPlanner":
    """The program with the best ring positions. In a batch, small pieces that would be loaded more than once an image,
    because the layers of two images alternate, get places of their own where there is room, and are loaded once a job.
    """
    first = TrioPlanner(net, config, places, runs, options, piece_rows)
    first.run()
    resident = first.again
    if resident:
        try:
            planner = TrioPlanner(net, config, places, runs, options, piece_rows, resident=resident)
            planner.run()
            first = planner
        except RingError:  # too many: they are loaded again
            resident = None
    count = 1 + len(first.steps)
    if count * config.instruction_beats > config.program_rows:
        raise ValueError(
            f"program memory: at least {count} instructions of {INSTRUCTION_BYTES} bytes need "
            f"{count * config.instruction_beats} beats, program_rows = {config.program_rows} (preset {config.name})"
        )
    loading = {DEST_WEIGHTS: config.beats_per_weight_row, DEST_PARAMS: 1, DEST_LN_PARAMS: 1}
    units = {DEST_PARAMS: config.param_read_bytes // config.beat_bytes}
    starts = {d: r.best(int(first.cycles), loading[d], units.get(d, 1)) for d, r in first.rings.items()}
    planner = TrioPlanner(net, config, places, runs, options, piece_rows, starts, resident)
    planner.run()
    return planner


class TrioPlanner(Planner):
    """Builds ``steps`` and ``pieces`` of one image; ``cycles`` by the schedule's model."""

    def __init__(
        self,
        net: TrioNetwork,
        config: AcceleratorConfig,
        places: Allocation,
        runs: list[Run],
        options: CompileOptions,
        piece_rows: int,
        starts: dict[int, tuple[int, int]] | None = None,
        resident: dict[str, tuple[int, int]] | None = None,
    ):
        self.net, self.config, self.options, self.runs = net, config, options, runs
        self.places, self.loads, self.piece_rows = places.places, places.loads, piece_rows
        self.steps: list[Step] = []
        self.pieces: list[Piece] = []
        self.beats = 0
        self.cycles = max(r.end for r in runs)
        self.last: dict[str, list[int]] = {}
        self.slots, self.z_rows, self.ksum_words = slots_of(net, config)
        sizes = {
            DEST_WEIGHTS: (ring_rows(net, config), "weight buffer"),
            DEST_PARAMS: (config.param_rows, "parameter memory"),
            DEST_LN_PARAMS: (config.ln_param_rows, "LayerNorm parameter memory"),
        }
        units = {DEST_PARAMS: config.param_read_bytes // config.beat_bytes}
        self.resident: dict[str, int] = {}  #: piece of all images of a batch -> its address behind the ring
        for name, (dest, rows) in (resident or {}).items():
            total = sizes[dest][0] - cdiv(rows, units.get(dest, 1)) * units.get(dest, 1)
            sizes[dest] = (total, sizes[dest][1])
            self.resident[name] = total
        self.again: dict[str, tuple[int, int]] = {}  #: piece -> (memory, rows), where it is loaded again
        self.rings = {dest: Ring(*size, *(starts or {}).get(dest, ())) for dest, size in sizes.items()}
        self.loaded: dict[str, int] = {}  #: piece -> its address
        self.stored: dict[str, Piece] = {}  #: piece -> its bytes
        self.branch: dict[str, int] = {}  #: Z or Ksum tensor -> slot
        for layer in net.layers:
            if isinstance(layer.node, LinearAttention):
                slot = len(self.branch) // 2 % self.slots
                self.branch |= {layer.node.z.name: slot, layer.node.ksum.name: slot}

    def run(self) -> list[Step]:
        """Images, runs, results."""
        of_layer: dict[int, list[int]] = {}
        for n, run in enumerate(self.runs):
            for image, at in enumerate(self.loads):
                if at == n:
                    self.image(image)
            layer = self.net.layers[run.layer]
            kinds = {Matmul: self.pointwise, LinearAttention: self.pointwise, Depthwise: self.depthwise,
                     TokenSum: self.total, KeyValue: self.key_value, LayerNorm: self.norm}  # fmt: skip
            step = kinds[type(layer.node)](layer, run)
            if not self.options.overlap and run.layer:
                self.steps[step].barriers = tuple(of_layer[run.layer - 1])
            of_layer.setdefault(run.layer, []).append(step)
        for image in range(self.options.batch):
            self.result(image)
        return self.steps

    def image(self, image: int):
        """IMAGE_DMA of one image of the batch; in DRAM they follow each other."""
        c, name = self.config, of_image(self.net.graph.input, image)
        x = self.net.shapes[name]
        beats = x.groups * x.stride * c.beats_per_row
        self.add(Chunk.IMAGE_DMA, name, 0, x.rows, job=1, source=image * image_beats(x.rows * beats), beats=beats,
                 out_addr=self.places[name].address)  # fmt: skip

    def result(self, image: int):
        """RESULT_DMA of one image's logits."""
        name = self.net.graph.output
        out = self.places[name]
        units = result_units(out.stride, self.config)
        self.add(Chunk.RESULT_DMA, of_image(name, image), 0, 1, in_addr=out.address, count=out.stride, bank=image,
                 offset=image * units)  # fmt: skip

    # ------------------------------------------------------------ data

    def load(self, name: str, dest: int, content, at: int | None = None) -> int:
        """WEIGHT_DMA of a piece, whose bytes lie in the memory image once for all images of the batch; to address
        ``at``, or to the ring."""
        stored = plain(name)
        if stored not in self.stored:
            self.stored[stored] = self.data(stored, content())
        piece = self.stored[stored]
        beats = len(piece.data) // self.config.beat_bytes
        rows = beats // self.config.beats_per_weight_row if dest == DEST_WEIGHTS else beats
        at = self.rings[dest].take(rows, name) if at is None else at
        self.add(Chunk.WEIGHT_DMA, name, 0, 1, source=piece.beat, beats=beats, dest=dest, dest_addr=at)
        return at

    def need(self, name: str, dest: int, run: Run, layer: Layer, content) -> int:
        """Address of a piece, which is loaded when it is first needed; in a batch, small ones again where the layers of
        two images alternate (see plan_trio)."""
        if (own := plain(name)) in self.resident:
            if own not in self.loaded:
                self.loaded[own] = self.load(own, dest, content, self.resident[own])
            return self.loaded[own]
        ring = self.rings[dest]
        again = name in self.loaded and not ring.holds(name)
        alternate = self.options.batch > 1 or self.options.defer
        if again := again and alternate and ring.size(name) * SMALL <= ring.rows:
            self.again[own] = dest, ring.size(name)
        if name not in self.loaded or again:
            self.loaded[name] = self.load(name, dest, content)
        ring.use(self.loaded[name], name, layer.name, int(run.start), int(run.end))
        return self.loaded[name]

    def params(self, layer: Layer, run: Run, channels: int) -> int:
        """First parameter beat of the run's tiles."""
        name = f"{layer.name}:params"
        at = self.need(name, DEST_PARAMS, run, layer, lambda: post_params(layer.node, channels, self.config))
        return at + run.tile * self.config.lanes * PARAM_BYTES // self.config.beat_bytes

    def weights(self, layer: Layer, run: Run) -> int:
        """First weight row of the run's tiles."""
        node = layer.node
        if isinstance(node, LinearAttention):
            return self.z_addr(node.z.name)
        pieces = pieces_of(self.net, layer, self.piece_rows)
        a, b = next((a, b) for a, b in pieces if a <= run.tile < b)
        assert run.tile + run.tiles <= b
        name = f"{layer.name}:weights" if len(pieces) == 1 else f"{layer.name}:weights.{a}"
        rows = lambda: weight_rows(node.weight, self.config, node.groups)[a * layer.steps : b * layer.steps]  # noqa: E731
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

    def pointwise(self, layer: Layer, run: Run) -> int:
        """Also Q Z with division."""
        c, node = self.config, layer.node
        attend = isinstance(node, LinearAttention)
        x, out, groups = self.places[(node.q if attend else node.x).name], self.places[node.out.name], layer.groups
        first = run.first * groups
        in_addr = self.word(node.q if attend else node.x) + first * x.stride
        op = dict(
            tiles=run.tiles, ksteps=layer.ksteps, groups=groups - 1, skip=run.pitch - 1, in_addr=in_addr,
            in_stride=x.stride, weight_addr=self.weights(layer, run),
            param_addr=self.params(layer, run, self.net.count(node.out)),
            out_addr=self.word(node.out) + first * out.stride + run.tile * out.planes, out_stride=out.stride,
            out_wide=out.planes - 1,
        )  # fmt: skip
        if layer.gtiles:
            parts = run.tiles // layer.gtiles
            op |= dict(gtiles=layer.gtiles, in_words=parts * layer.ksteps)
            op["in_addr"] += run.tile // layer.gtiles * layer.ksteps
        if attend:
            op |= node.division_fields(self.ksum_addr(node.ksum.name))
        else:
            op |= node.post_fields()
            if node.residual is not None:
                r = self.places[node.residual.name]
                address = self.word(node.residual) + first * r.stride + run.tile * r.planes
                op |= dict(res_mode=r.planes, res_addr=address, res_stride=r.stride)
        if run.chunk == Chunk.RMAC:
            op["kind"] = 0
        return self.add(run.chunk, layer.name, first, run.rows, node.out.start + run.tile * c.lanes, **op)

    def _map(self, x: Shape, ref: Ref) -> dict[str, int]:
        """The input map of a windowed instruction."""
        return dict(in_addr=self.word(ref), in_stride=x.stride, in_groups=x.groups, width=x.width, height=x.height)

    def depthwise(self, layer: Layer, run: Run) -> int:
        node = layer.node
        x, out = self.net.shapes[node.x.name], self.places[node.out.name]
        rows = lambda: depthwise_rows(node.weight, self.config, node.stride)  # noqa: E731
        op = self._map(x, node.x) | node.post_fields() | dict(
            kind=DEPTHWISE, blocks=x.blocks, kernel=node.kernel, stride=node.stride - 1, pad=node.pad, first=run.first,
            window_stride=window_stride(node, x, self.config),
            weight_addr=self.need(f"{layer.name}:weights", DEST_WEIGHTS, run, layer, rows),
            param_addr=self.params(layer, run, len(node.weight)),
            out_addr=out.row(run.first * layer.groups), out_stride=out.stride, out_groups=layer.groups,
        )  # fmt: skip
        return self.add(run.chunk, layer.name, run.first * layer.groups, run.rows, **op)

    def total(self, layer: Layer, run: Run) -> int:
        """Ksum, or average pooling."""
        node, ksum = layer.node, layer.node.keys
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
        return self.add(run.chunk, layer.name, 0, 1, **op)

    def key_value(self, layer: Layer, run: Run) -> int:
        node = layer.node
        x, channels = self.net.shapes[node.k.name], self.net.count(node.k)
        blocks = channels // node.heads // self.config.word
        op = self._map(x, node.k) | node.post_fields() | dict(
            kind=KEY_VALUE, blocks=blocks, v_addr=self.word(node.v), weight_addr=self.z_addr(node.out.name),
            param_addr=self.params(layer, run, channels),
        )  # fmt: skip
        op = kind_of(run.chunk, op).advance(op, run.first, self.config)
        return self.add(run.chunk, layer.name, run.first, run.rows, **op)

    def norm(self, layer: Layer, run: Run) -> int:
        node = layer.node
        x, out = self.places[node.x.name], self.places[node.out.name]
        at = self.need(f"{layer.name}:params", DEST_LN_PARAMS, run, layer, lambda: layernorm_params(node))
        return self.add(
            Chunk.LAYERNORM, layer.name, 0, run.rows, in_addr=x.address, in_stride=x.stride, in_wide=x.planes - 1,
            blocks=cdiv(self.net.count(node.x), self.config.word), param_addr=at, out_addr=out.address,
            out_stride=out.stride, **node.post_fields(),
        )  # fmt: skip
