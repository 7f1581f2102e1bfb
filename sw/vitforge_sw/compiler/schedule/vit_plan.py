"""The schedule: every instruction of an image in one sequential order that would be right if run one by one.

The order inside each chunk is its program; how the chunks overlap follows later from the waits. Per block: k, v, q and
scores of each head (q last, so that the key loader is done; the first head's q and scores alternate by row blocks, so
that softmax begins early), softmax and attention x value beside them; then proj, fc1, fc2 per row block, so that the
last head's softmax is hidden behind the first row block; LayerNorm takes each row block twice, before fc1 and after
fc2. The classifier stands before the last row block of the last block.
"""

import dataclasses
import math

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import DEST_LN_PARAMS, DEST_PARAMS, DEST_WEIGHTS, INSTRUCTION_BYTES, PARAM_BYTES, Chunk
from vitforge_hw.arch.latency import LATENCY

from ...kinds.softmax import Softmax
from ...ops import LayerNorm, Matmul, Scores
from ..layers.vit import Network, cdiv
from ..memory.rings import Ring
from ..memory.vit import Allocation
from ..options import CompileOptions, blocks_of
from ..program.parameters import layernorm_params, post_params, weight_rows
from .barriers import add_barriers
from .steps import Piece, Step

QUERY_LATENCY = 64  #: cycles of the PE array, at least the latency from a step to the written row


def plan(net: Network, config: AcceleratorConfig, places: Allocation, options: CompileOptions) -> "Planner":
    """The schedule with the best ring positions."""
    first = Planner(net, config, places, options)
    first.run()
    count = 1 + len(first.steps)
    if count * config.instruction_beats > config.program_rows:
        raise ValueError(
            f"program memory: at least {count} instructions of {INSTRUCTION_BYTES} bytes need "
            f"{count * config.instruction_beats} beats, program_rows = {config.program_rows} (preset {config.name})"
        )
    loading = {DEST_WEIGHTS: config.beats_per_weight_row, DEST_PARAMS: 1, DEST_LN_PARAMS: 1}
    units = {DEST_PARAMS: config.param_read_bytes // config.beat_bytes}
    starts = {d: r.best(first.cycles, loading[d], units.get(d, 1)) for d, r in first.rings.items()}
    planner = Planner(net, config, places, options, starts)
    planner.run()
    return planner


@dataclasses.dataclass(frozen=True)
class Share:
    """An engine's part of a matmul: groups first, first + 1 + skip, ...; tiles tile..tile+tiles-1."""

    chunk: Chunk
    first: int
    rows: int
    skip: int
    tile: int
    tiles: int


class Planner:
    """Builds ``steps`` and ``pieces`` of one image."""

    def __init__(
        self,
        net: Network,
        config: AcceleratorConfig,
        places: Allocation,
        options: CompileOptions,
        starts: dict[int, tuple[int, int]] | None = None,
    ):
        self.net, self.config, self.options = net, config, options
        self.places = places.places
        self.steps: list[Step] = []
        self.pieces: list[Piece] = []
        self.beats = 0
        self.cycles = 0  #: of the PE array so far
        self.groups = cdiv(net.tokens, config.cores)
        self.key_rows = cdiv(net.tokens, config.lanes) * (net.head_dim // config.word)
        self.key_slots = net.heads if options.heads_together else options.key_slots
        ring = config.weight_rows - self.key_slots * self.key_rows
        if ring <= 0:
            slots = f"{self.key_slots} slots of {self.key_rows} rows of keys"
            raise ValueError(f"weight buffer: {slots} exceed {config.weight_rows} rows")
        sizes = {
            DEST_WEIGHTS: (ring, "weight buffer"),
            DEST_PARAMS: (config.param_rows, "parameter memory"),
            DEST_LN_PARAMS: (config.ln_param_rows, "LayerNorm parameter memory"),
        }
        self.rings = {dest: Ring(*size, *(starts or {}).get(dest, ())) for dest, size in sizes.items()}
        self.piece_rows = options.piece_rows or max(1, ring // 3)
        #: (layer, first tile) -> (address, params, tiles)
        self.weights: dict[tuple[str, int], tuple[int, int, int]] = {}
        #: (layer, first tile) -> its weight piece; (layer, -1) -> its parameters
        self.piece_of: dict[tuple[str, int], str] = {}
        self.last: dict[str, list[int]] = {}  #: layer -> its steps

    # ------------------------------------------------------------ steps

    def add(self, chunk: Chunk, layer: str, first: int, rows: int, channel: int = 0, /, **op: int) -> int:
        self.steps.append(Step(chunk, layer, first, rows, op, channel))
        self.last.setdefault(layer, []).append(len(self.steps) - 1)
        return len(self.steps) - 1

    def data(self, name: str, content: np.ndarray, layers: dict[str, int] | None = None) -> Piece:
        """Bytes placed on a beat of the memory image; ``layers`` if they belong to several."""
        flat = np.ascontiguousarray(content).view(np.uint8).ravel()
        beats = cdiv(len(flat), self.config.beat_bytes)
        layers = layers or {name.split(":")[0]: len(flat)}
        piece = Piece(name, self.beats, np.pad(flat, (0, beats * self.config.beat_bytes - len(flat))), layers)
        self.pieces.append(piece)
        self.beats += beats
        return piece

    def load(self, name: str, dest: int, content: np.ndarray, layers: dict[str, int] | None = None) -> int:
        """WEIGHT_DMA of a piece (each distinct piece is stored once); the address it gets."""
        piece = next((p for p in self.pieces if p.name == name), None) or self.data(name, content, layers)
        beats = len(piece.data) // self.config.beat_bytes
        rows = beats // self.config.beats_per_weight_row if dest == DEST_WEIGHTS else beats
        at = self.rings[dest].take(rows, name)
        self.add(Chunk.WEIGHT_DMA, name, 0, 1, source=piece.beat, beats=beats, dest=dest, dest_addr=at)
        return at

    # ------------------------------------------------------------ weights

    def load_layers(self, name: str, nodes: list[Matmul | Scores], weights: bool = True):
        """One piece of parameters, and one of weights unless they are too long, for layers that are used together."""
        c = self.config
        entries = [post_params(n, self.net.tensor(n.out.name).channels if isinstance(n, Scores) else len(n.weight), c)
                   for n in nodes]  # fmt: skip
        shares = {n.name: len(e) for n, e in zip(nodes, entries)}
        at = self.load(f"{name}:params", DEST_PARAMS, np.concatenate(entries), shares)
        for node, entry in zip(nodes, entries):
            self.weights[(node.name, -1)] = (0, at, 0)
            self.piece_of[(node.name, -1)] = f"{name}:params"
            at += len(entry) // c.beat_bytes
        linears = [n for n in nodes if isinstance(n, Matmul)]
        if weights:
            rows = [weight_rows(n.weight, c) for n in linears]
            shares = {n.name: r.size for n, r in zip(linears, rows)}
            at = self.load(f"{name}:weights", DEST_WEIGHTS, np.concatenate(rows), shares)
            for node in linears:
                tiles = cdiv(node.weight.shape[0], c.lanes)
                self.weights[(node.name, 0)] = (at, self.weights[(node.name, -1)][1], tiles)
                self.piece_of[(node.name, 0)] = f"{name}:weights"
                at += tiles * cdiv(node.weight.shape[1], c.width)

    def tile_ranges(self, node: Matmul) -> list[tuple[int, int]]:
        """Ranges of output tiles whose weights make one piece each."""
        tiles, steps = cdiv(node.weight.shape[0], self.config.lanes), cdiv(node.weight.shape[1], self.config.width)
        n = cdiv(tiles * steps, self.piece_rows)
        if n > tiles:
            raise ValueError(f"layer {node.name}: a tile has {steps} weight rows, a piece at most {self.piece_rows}")
        return [(tiles * i // n, tiles * (i + 1) // n) for i in range(n)]

    def load_tiles(self, node: Matmul, t0: int, t1: int):
        """One piece: the weights of a range of output tiles."""
        c, steps = self.config, cdiv(node.weight.shape[1], self.config.width)
        name = f"{node.name}:weights" if t1 - t0 == cdiv(node.weight.shape[0], c.lanes) else f"{node.name}:weights.{t0}"
        rows = weight_rows(node.weight, c)[t0 * steps : t1 * steps]
        at = self.load(name, DEST_WEIGHTS, rows)
        params = self.weights[(node.name, -1)][1] + t0 * c.lanes * PARAM_BYTES // c.beat_bytes
        self.weights[(node.name, t0)] = (at, params, t1 - t0)
        self.piece_of[(node.name, t0)] = name

    # ------------------------------------------------------------ instructions

    def matmul(self, node: Matmul, first: int, rows: int, t0: int = 0, tiles: int | None = None, alone: int = 0):
        """Groups first..first+rows-1, output tiles t0..t0+tiles-1, on the engines that can take them; the last
        ``alone`` groups on the second one alone."""
        if 0 < alone < rows:
            self.matmul(node, first, rows - alone, t0, tiles)
            first, rows = first + rows - alone, alone
        c = self.config
        address, params, count = self.weights[(node.name, t0)]
        tiles, steps = tiles or count, cdiv(node.weight.shape[1], c.width)
        span = self.work(node, first, rows, tiles, max(steps, c.word // c.post_channels))
        self.rings[DEST_WEIGHTS].use(address, self.piece_of[(node.name, t0)], node.name, *span)
        self.rings[DEST_PARAMS].use(params, self.piece_of[(node.name, -1)], node.name, *span)
        x, out = self.places[node.x.name], self.places[node.out.name]
        for share in self.shares(node, first, rows, tiles, alone > 0):
            at, tile = share.first, t0 + share.tile
            op = dict(
                tiles=share.tiles, ksteps=steps, skip=share.skip, in_addr=x.row(first) + (at - first) * x.stride,
                in_stride=x.stride, in_offset=node.token_offset, in_first=at, in_tokens=self.net.tensor(x.name).tokens,
                weight_addr=address + share.tile * steps,
                param_addr=params + share.tile * c.lanes * PARAM_BYTES // c.beat_bytes,
                out_addr=out.row(first) + (at - first) * out.stride + self.block(node) + tile * out.planes,
                out_stride=out.stride, out_wide=out.planes - 1, **node.post_fields(),
            )  # fmt: skip
            if node.residual is not None:
                r = self.places[node.residual.name]
                res = r.row(first) + (at - first) * r.stride + tile * r.planes
                op |= dict(res_mode=r.planes, res_addr=res, res_stride=r.stride)
            self.add(share.chunk, node.name, at, share.rows, node.out.start + tile * c.lanes, **op)

    def work(self, node: Matmul | Scores, first: int, rows: int, tiles: int, cycles: int) -> tuple[int, int]:
        """Begin and end of an instruction of ``cycles`` a tile in the engines' time, which goes on."""
        begin = self.cycles
        self.cycles += rows * tiles * cycles // len(self.engines(node))
        return begin, self.cycles

    def engines(self, node: Matmul | Scores) -> tuple[Chunk, ...]:
        """Engines that can take a matmul: R-MAC reads whole groups, MAT's input port rotates tokens."""
        both = self.config.trio and self.options.engines == "both" and not getattr(node, "token_offset", 0)
        return (Chunk.MAT, Chunk.RMAC) if both else (Chunk.MAT,)

    def shares(self, node: Matmul | Scores, first: int, rows: int, tiles: int, alone: bool = False) -> list[Share]:
        """What each engine does of some groups: two engines take the groups in turn, of a single one half of the
        tiles each."""
        engines = self.engines(node)
        if len(engines) == 1 or alone:
            return [Share(engines[-1], first, rows, 0, 0, tiles)]
        if rows == 1:
            half = cdiv(tiles, 2)
            parts = [Share(engines[0], first, 1, 0, 0, half), Share(engines[1], first, 1, 0, half, tiles - half)]
            return [p for p in parts if p.tiles]
        odd = isinstance(node, Matmul) and node.narrow  # keys begin on the second engine, see ``keys``
        start = [first + (first + n + odd) % 2 for n in (0, 1)]
        return [Share(c, at, cdiv(first + rows - at, 2), 1, 0, tiles) for c, at in zip(engines, start)]

    def block(self, node) -> int:
        """Row offset of a node's slice in its output tensor."""
        if node.out.start % self.config.word:
            raise ValueError(f"layer {node.name}: slice must start at a multiple of word, not {node.out.start}")
        return node.out.start // self.config.word * self.places[node.out.name].planes

    def scores(self, node: Scores, slot: int, first: int, rows: int):
        """Scores of the query groups first..first+rows-1 against the keys in ``slot``."""
        c, q, out = self.config, self.places[node.q.name], self.places[node.out.name]
        params = self.weights[(node.name, -1)][1]
        tiles = cdiv(self.net.tokens, c.lanes)
        span = self.work(node, first, rows, tiles, max(q.stride, c.word // c.post_channels))
        self.rings[DEST_PARAMS].use(params, self.piece_of[(node.name, -1)], node.name, *span)
        for share in self.shares(node, first, rows, tiles):
            self.add(
                share.chunk, node.name, share.first, share.rows, share.tile * c.lanes, tiles=share.tiles,
                ksteps=q.stride, skip=share.skip, in_addr=q.row(share.first), in_stride=q.stride, in_first=share.first,
                in_tokens=self.net.tokens, weight_addr=slot + share.tile * q.stride,
                param_addr=params + share.tile * c.lanes * PARAM_BYTES // c.beat_bytes,
                out_addr=out.row(share.first) + share.tile, out_stride=out.stride,
            )  # fmt: skip

    def layernorm(self, node: LayerNorm, first: int, rows: int, params: int) -> int:
        x, out = self.places[node.x.name], self.places[node.out.name]
        self.rings[DEST_LN_PARAMS].use(params, f"{node.name}:params", node.name, self.cycles, self.cycles)
        return self.add(
            Chunk.LAYERNORM, node.name, first, rows, in_addr=x.row(first), in_stride=x.stride, in_wide=x.planes - 1,
            blocks=self.net.dim // self.config.word, param_addr=params, out_addr=out.row(first), out_stride=out.stride,
        )  # fmt: skip

    def load_norm(self, node: LayerNorm) -> int:
        return self.load(f"{node.name}:params", DEST_LN_PARAMS, layernorm_params(node))

    # ------------------------------------------------------------ the image

    def run(self) -> list[Step]:
        net, node = self.net, self.net.node
        self.begin()
        embed = node("embed")
        self.load_layers("embed", [embed], weights=False)
        for t0, t1 in self.tile_ranges(embed):
            self.load_tiles(embed, t0, t1)
            self.matmul(embed, 0, self.groups, t0, t1 - t0)
        if net.blocks:
            first = node("norm1", 0)
            self.layernorm(first, 0, self.groups, self.load_norm(first))
        else:
            self.final_norm()
            self.classify()
        for b in range(net.blocks):
            if self.options.heads_together:
                self.attention_by_blocks(b)
            else:
                for h in range(net.heads):
                    self.attention(b, h)
            self.feed_forward(b)
        add_barriers(self.steps, self.options.pipelining, {n.name: n.role for n in net.graph.nodes})
        return self.steps

    def begin(self):
        """Constants and image into the activation buffer."""
        net, c = self.net, self.config
        x = self.places[net.graph.input]
        residual = net.node("embed").residual

        def image():
            self.add(Chunk.IMAGE_DMA, net.graph.input, 0, x.groups, job=1, source=0, beats=x.stride * c.beats_per_row,
                     out_addr=x.address)  # fmt: skip

        if residual is None:
            return image()
        place = self.places[residual.name]
        wide = place.planes == 2
        rows = memmap.to_rows(net.graph.constants[residual.name], c.cores, c.word, wide)
        early = place.klass in ("x", "embed")  # the image's buffer is free long before the residual stream's
        if early:
            image()
        piece = self.data(residual.name, rows)
        self.add(Chunk.IMAGE_DMA, residual.name, 0, place.groups, source=piece.beat,
                 beats=place.stride * c.beats_per_row, out_addr=place.address)  # fmt: skip
        if not early:
            image()

    def attention(self, b: int, h: int):
        """One head: k, v, q, scores on the PE array, key loader, softmax, attention x value."""
        net, c = self.net, self.config
        v, q, s = (net.node(r, b, h) for r in ("v", "q", "scores"))
        slot = self.keys(b, h)
        self.matmul(v, 0, self.groups)
        first = 0
        for rows in self.query_blocks(h, q):
            self.matmul(q, first, rows)
            self.scores(s, slot, first, rows)
            first += rows
        part = self.groups
        if self.options.pipelining in ("none", "inter"):  # in turn: as many rows as the code ring holds
            part = min(part, c.code_rows // cdiv(net.tokens, c.attend_keys))
        lead = self.lead_rows(b)
        alone = min(max(lead - h * self.groups, 0), self.groups)
        for g in range(0, alone, part):
            self.attend(b, h, g, min(part, alone - g))
        if h == net.heads - 1 and lead < net.heads * self.groups:
            # what is left of the last heads, row block by row block: proj needs all heads of a row
            start = 0
            for rows in self.options.row_blocks or blocks_of(self.groups, 3):
                for head in range(lead // self.groups, net.heads):
                    first = max(start, lead - head * self.groups)
                    if first < start + rows:
                        self.attend(b, head, first, start + rows - first)
                start += rows

    def keys(self, b: int, h: int) -> int:
        """Loads a head's weights, computes its keys, copies them to the weight buffer; their slot's address there."""
        net, c = self.net, self.config
        k, v, q, s = (net.node(r, b, h) for r in ("k", "v", "q", "scores"))
        self.load_layers(f"blocks.{b}.attn.h{h}", [k, v, q, s])
        # the loader's instructions cannot be cut behind their first row, MAT's keys begin with the second: the first
        # one waits for what MAT has to do before
        before = [n for n, step in enumerate(self.steps) if step.chunk == Chunk.MAT][-1:]
        self.matmul(k, 0, self.groups)
        place = self.places[k.out.name]
        slot = c.weight_rows - (1 + (b * net.heads + h) % self.key_slots) * self.key_rows
        self.add(Chunk.LOADER, k.name, 0, self.groups, in_addr=place.address, in_stride=place.stride,
                 blocks=place.stride, weight_addr=slot)  # fmt: skip
        if len(self.engines(k)) > 1:
            self.steps[-1].barriers = tuple(before)
        return slot

    def attention_by_blocks(self, b: int):
        """All heads together, row block by row block, so that proj, fc1 and fc2 of the first row blocks run beside
        softmax and attention x value of the others."""
        net = self.net
        slots, first = {}, 0
        for rows in self.options.row_blocks or (self.groups,):
            for h in range(net.heads):
                q, s = (net.node(r, b, h) for r in ("q", "scores"))
                if h not in slots:
                    slots[h] = self.keys(b, h)
                self.matmul(q, first, rows)
                self.scores(s, slots[h], first, rows)
                if first == 0:
                    self.matmul(net.node("v", b, h), 0, self.groups)
                self.attend(b, h, first, rows)
            first += rows

    def attend(self, b: int, h: int, first: int, rows: int):
        """Softmax and attention x value of some groups of a head."""
        net, c = self.net, self.config
        m, a = net.node("softmax", b, h), net.node("attend", b, h)
        x, values, out = (self.places[n] for n in (m.x.name, a.v.name, a.out.name))
        self.add(Chunk.SOFTMAX, m.name, first, rows, in_addr=x.row(first), in_stride=x.stride, keys=net.tokens,
                 rule=CodeRule.of(m.rule), c=m.c, sc=m.sc)  # fmt: skip
        self.add(Chunk.SHIFTER, a.name, first, rows, a.out.start, v_addr=values.address, v_stride=values.stride,
                 keys=net.tokens, blocks=net.head_dim // c.word, rule=CodeRule.of(a.rule), factor=int(a.factor),
                 shift=a.shift, out_addr=out.row(first) + self.block(a), out_stride=out.stride)  # fmt: skip

    def lead_rows(self, b: int) -> int:
        """Rows of a block's heads that softmax and shifter array take head by head, the rest goes by row blocks.

        All, or (``attend_lead``) a part of those that they finish while the PE array is at k, v, q and scores: softmax
        by the log2 rule takes two passes, which gave 79 % of DeiT-Tiny's peak head by head and gives 97 % so.
        """
        net, c = self.net, self.config
        everything = net.heads * self.groups
        slots = min(self.options.v_slots, self.options.score_slots)
        if self.options.attend_lead is None or self.options.pipelining != "both":
            return everything
        m, q = net.node("softmax", b, 0), net.node("q", b, 0)
        row = max(Softmax().row_cycles(dict(keys=net.tokens, rule=CodeRule.of(m.rule)), self.config, LATENCY),
                  net.head_dim // c.word * max(cdiv(net.tokens, c.attend_keys), c.word))  # fmt: skip
        head = cdiv(len(q.weight), c.lanes) * cdiv(q.weight.shape[1], c.width)
        scores = cdiv(net.tokens, c.lanes) * (net.head_dim // c.word)
        time = self.groups * (net.heads * (3 * head + scores) - 3 * head)
        return max(int(self.options.attend_lead * time) // row, everything - slots * self.groups)

    def query_blocks(self, h: int, q: Matmul) -> tuple[int, ...]:
        """Groups of each row block of q and scores of a head.

        The first head's scores start early, so that softmax and attention x value, which keep pace with the PE array
        over the heads, end before proj needs them. Not where a block is over before its first queries are written.
        """
        blocks = self.options.row_blocks
        if h or not blocks or self.options.pipelining != "both":
            return (self.groups,)
        row = cdiv(len(q.weight), self.config.lanes) * cdiv(q.weight.shape[1], self.config.width)
        return blocks if min(blocks) * row > QUERY_LATENCY else (self.groups,)

    def feed_forward(self, b: int):
        """proj, LayerNorm 2, fc1, fc2 and the next LayerNorm 1, per row block."""
        net, node = self.net, self.net.node
        layers = [node(r, b) for r in ("attn.proj", "mlp.fc1", "mlp.fc2")]
        norm2 = node("norm2", b)
        after = node("norm1", b + 1) if b + 1 < net.blocks else None
        blocks = self.options.row_blocks or (self.groups,)
        if sum(blocks) != self.groups or min(blocks) < 1:
            raise ValueError(f"row_blocks must be positive and sum to {self.groups} groups, not {blocks}")
        self.load_layers(f"blocks.{b}.mlp", layers, weights=False)
        loaded, norm_params = set(), {}
        last = dict.fromkeys((layers[1].name, layers[2].name), self.embed_beside()) if after is None else {}
        starts = [sum(blocks[:i]) for i in range(len(blocks))]
        for i, layer in self.layer_order(layers, len(blocks)):
            start, rows = starts[i], blocks[i]
            for t0, t1 in self.tile_ranges(layer):
                if (layer.name, t0) not in loaded or not self.options.weights_resident:
                    self.load_tiles(layer, t0, t1)
                    loaded.add((layer.name, t0))
                self.matmul(layer, start, rows, t0, t1 - t0, self.beyond(start, rows, last.get(layer.name)))
            ln = {layers[0].name: norm2, layers[2].name: after}.get(layer.name)
            if ln is not None:
                if ln.name not in norm_params:
                    norm_params[ln.name] = self.load_norm(ln)
                self.layernorm(ln, start, rows, norm_params[ln.name])
            if after is None and layer is layers[2]:
                if start == 0:
                    self.final_norm()
                if i == max(0, len(blocks) - 2):
                    self.classify()

    def embed_beside(self) -> int | None:
        """First group whose fc1 and fc2 in the last block are R-MAC's alone, as long as MAT is at the embedding of the
        next image, which R-MAC cannot take."""
        if not self.options.embed_beside:
            return None
        cycles = [math.prod(cdiv(n, self.config.word) for n in self.net.node(r, b).weight.shape)
                  for r, b in (("embed", None), ("mlp.fc1", 0), ("mlp.fc2", 0))]  # fmt: skip
        return max(0, self.groups - round(self.groups * cycles[0] / (cycles[1] + cycles[2])))

    @staticmethod
    def beyond(start: int, rows: int, limit: int | None) -> int:
        """Of groups start..start+rows-1 those from ``limit`` on."""
        return 0 if limit is None else min(rows, max(0, start + rows - limit))

    def layer_order(self, layers: list[Matmul], blocks: int) -> list[tuple[int, Matmul]]:
        """(row block, layer) of proj, fc1, fc2 in turn; ``proj_ahead``: proj of the next row block before fc2, so that
        its LayerNorm is over when fc1 begins."""
        proj, fc1, fc2 = layers
        if not self.options.proj_ahead:
            return [(i, layer) for i in range(blocks) for layer in layers]
        out = [(0, proj)]
        for i in range(blocks):
            out += [(i, fc1), *([(i + 1, proj)] if i + 1 < blocks else []), (i, fc2)]
        return out

    def final_norm(self):
        norm = self.net.node("norm")
        self.layernorm(norm, 0, cdiv(self.net.tensor(norm.out.name).tokens, self.config.cores), self.load_norm(norm))

    def classify(self):
        """Classifier and result."""
        head = self.net.node("head")
        self.load_layers("head", [head], weights=False)
        for t0, t1 in self.tile_ranges(head):
            self.load_tiles(head, t0, t1)
            self.matmul(head, 0, 1, t0, t1 - t0)
        out = self.places[head.out.name]
        self.add(Chunk.RESULT_DMA, head.out.name, 0, 1, in_addr=out.address, count=out.stride)
