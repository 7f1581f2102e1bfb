"""The order of a ViT: every instruction of an image in one sequential order that would be right if run one by one.

The order inside each chunk is its program; how the chunks overlap follows later from the waits. Per block: k, v, q and
scores of each head (q last, so that the key loader is done; the first head's q and scores alternate by row blocks, so
that softmax begins early), softmax and attention x value beside them; then proj, fc1, fc2 per row block, so that the
last head's softmax is hidden behind the first row block; LayerNorm takes each row block twice, before fc1 and after
fc2. The classifier stands before the last row block of the last block.

Two engines take the groups of every matmul in turn and are twice as fast as softmax and shifter array: there all heads
go together, row block by row block, so that the matmuls behind attention run beside attention.
"""

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import Chunk
from vitforge_hw.arch.latency import CYCLES

from ...kinds.softmax import Softmax as SoftmaxKind
from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax
from ..layers.vit import Network, cdiv
from ..memory.place import Allocation
from ..options import CompileOptions, blocks_of
from ..program.writer import ProgramWriter, Starts
from .barriers import add_barriers
from .block_steps import BlockSteps


def plan(net: Network, config: AcceleratorConfig, places: Allocation, options: CompileOptions) -> ProgramWriter:
    """The program with the best ring positions; ``options.blocks`` must be given."""
    first = BlockPlan(net, config, places, options)
    first.run()
    first.out.check_length()
    best = BlockPlan(net, config, places, options, first.out.best_starts(first.emit.cycles))
    best.run()
    return best.out


class BlockPlan:
    """Walks through the layers of one image; ``out`` gets the program."""

    def __init__(
        self,
        net: Network,
        config: AcceleratorConfig,
        places: Allocation,
        options: CompileOptions,
        starts: Starts | None = None,
    ):
        assert options.blocks is not None
        self.net, self.config, self.options, self.blocks = net, config, options, options.blocks
        self.places = places.places
        self.groups = cdiv(net.tokens, config.cores)
        self.key_rows = cdiv(net.tokens, config.lanes) * (net.head_dim // config.word)
        self.key_slots = net.heads if self.blocks.heads_together else self.blocks.key_slots
        ring = config.weight_rows - self.key_slots * self.key_rows
        if ring <= 0:
            slots = f"{self.key_slots} slots of {self.key_rows} rows of keys"
            raise ValueError(f"weight buffer: {slots} exceed {config.weight_rows} rows")
        self.out = ProgramWriter(config, ring, starts)
        pieces = options.piece_rows or max(1, ring // 3)
        self.emit = BlockSteps(net, config, self.places, self.out, pieces, options.engines)

    # ------------------------------------------------------------ the image

    def run(self) -> None:
        net = self.net
        self.begin()
        embed = net.node(Matmul, "embed")
        self.emit.load_layers("embed", [embed], weights=False)
        for t0, t1 in self.emit.tile_ranges(embed):
            self.emit.load_tiles(embed, t0, t1)
            self.emit.matmul(embed, 0, self.groups, t0, t1 - t0)
        if net.blocks:
            first = net.node(LayerNorm, "norm1", 0)
            self.emit.layernorm(first, 0, self.groups, self.emit.load_norm(first))
        elif net.pools:
            self.pool()
        else:
            self.final_norm()
            self.classify()
        for b in range(net.blocks):
            if self.blocks.heads_together:
                self.attention_by_blocks(b)
            else:
                for h in range(net.heads):
                    self.attention(b, h)
            self.feed_forward(b)
        add_barriers(self.out.steps, self.options.pipelining, {n.name: n.role for n in net.graph.nodes})

    def begin(self) -> None:
        """Constants and image into the activation buffer."""
        if self.net.pools:
            self.emit.constant(self.net.node(Softmax, "pool.softmax", None, 0).x.name)
        residual = self.net.node(Matmul, "embed").residual
        if residual is None:
            return self.emit.image()
        # the image's buffer is free long before the embedding's
        early = self.places[residual.name].klass in ("x", "embed")
        if early:
            self.emit.image()
        self.emit.constant(residual.name)
        if not early:
            self.emit.image()

    def attention(self, b: int, h: int) -> None:
        """One head: k, v, q, scores on the PE array, key loader, softmax, attention x value."""
        net, c = self.net, self.config
        v, q, s = net.node(Matmul, "v", b, h), net.node(Matmul, "q", b, h), net.node(Scores, "scores", b, h)
        slot = self.keys(b, h)
        self.emit.matmul(v, 0, self.groups)
        first = 0
        for rows in self.query_blocks(h, q):
            self.queries(b, h, first, rows)
            self.emit.scores(s, slot, first, rows)
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
            for rows in self.blocks.row_blocks or blocks_of(self.groups, 3):
                for head in range(lead // self.groups, net.heads):
                    first = max(start, lead - head * self.groups)
                    if first < start + rows:
                        self.attend(b, head, first, start + rows - first)
                start += rows

    def keys(self, b: int, h: int) -> int:
        """Loads a head's weights, computes its keys, copies them to the weight buffer; their slot's address there."""
        net, c = self.net, self.config
        k, v, q = (net.node(Matmul, part, b, h) for part in "kvq")
        self.emit.load_layers(f"blocks.{b}.attn.h{h}", [k, v, q, net.node(Scores, "scores", b, h)])
        # the loader's instructions cannot be cut behind their first row, MAT's keys begin with the second: the first
        # one waits for what MAT has to do before
        before = [n for n, step in enumerate(self.out.steps) if step.chunk == Chunk.MAT][-1:]
        self.emit.matmul(k, 0, self.groups)
        slot = c.weight_rows - (1 + (b * net.heads + h) % self.key_slots) * self.key_rows
        if (norm := net.optional(LayerNorm, "k_norm", b, h)) is not None:
            self.emit.layernorm(norm, 0, self.groups, self.emit.load_norm(norm))
        loader = self.emit.key_loader(net.keys(b, h), self.groups, slot)
        if len(self.emit.engines(k)) > 1:
            self.out.steps[loader].barriers = tuple(before)
        return slot

    def queries(self, b: int, h: int, first: int, rows: int) -> None:
        """Queries of some groups of a head, normalised where the model does so."""
        self.emit.matmul(self.net.node(Matmul, "q", b, h), first, rows)
        if (norm := self.net.optional(LayerNorm, "q_norm", b, h)) is not None:
            self.emit.layernorm(norm, first, rows, self.emit.load_norm(norm))

    def attend(self, b: int, h: int, first: int, rows: int) -> None:
        """Softmax and attention x value of some groups of a head."""
        softmax, attend = self.net.node(Softmax, "softmax", b, h), self.net.node(Attend, "attend", b, h)
        self.emit.attend(softmax, attend, first, rows)

    def attention_by_blocks(self, b: int) -> None:
        """All heads together, row block by row block, so that proj, fc1 and fc2 of the first row blocks run beside
        softmax and attention x value of the others."""
        net = self.net
        slots, first = {}, 0
        for rows in self.blocks.row_blocks or (self.groups,):
            for h in range(net.heads):
                s = net.node(Scores, "scores", b, h)
                if h not in slots:
                    slots[h] = self.keys(b, h)
                self.queries(b, h, first, rows)
                self.emit.scores(s, slots[h], first, rows)
                if first == 0:
                    self.emit.matmul(net.node(Matmul, "v", b, h), 0, self.groups)
                self.attend(b, h, first, rows)
            first += rows

    def lead_rows(self, b: int) -> int:
        """Rows of a block's heads that softmax and shifter array take head by head, the rest goes by row blocks.

        All, or (``attend_lead``) a part of those that they finish while the PE array is at k, v, q and scores: softmax
        by the log2 rule takes two passes, which gave 79 % of DeiT-Tiny's peak head by head and gives 97 % so.
        """
        net, c = self.net, self.config
        everything = net.heads * self.groups
        slots = min(self.blocks.v_slots, self.blocks.score_slots)
        if self.blocks.attend_lead is None or self.options.pipelining != "both":
            return everything
        m, q = net.node(Softmax, "softmax", b, 0), net.node(Matmul, "q", b, 0)
        row = max(SoftmaxKind().row_cycles(dict(keys=net.tokens, rule=CodeRule.of(m.rule)), c, CYCLES),
                  net.head_dim // c.word * max(cdiv(net.tokens, c.attend_keys), c.word))  # fmt: skip
        head = self.emit.row_count(q, cdiv(len(q.weight), c.lanes))
        scores = cdiv(net.tokens, c.lanes) * (net.head_dim // c.word)
        time = self.groups * (net.heads * (3 * head + scores) - 3 * head) // len(self.emit.engines(q))
        return max(int(self.blocks.attend_lead * time) // row, everything - slots * self.groups)

    def query_blocks(self, h: int, q: Matmul) -> tuple[int, ...]:
        """Groups of each row block of q and scores of a head.

        The first head's scores start early, so that softmax and attention x value, which keep pace with the PE array
        over the heads, end before proj needs them. Not where a block is over before its first queries are written.
        """
        blocks = self.blocks.row_blocks
        if h or not blocks or self.options.pipelining != "both":
            return (self.groups,)
        row = self.emit.row_count(q, cdiv(len(q.weight), self.config.lanes))
        return blocks if min(blocks) * row > self.options.tuning.query_latency else (self.groups,)

    def feed_forward(self, b: int) -> None:
        """proj, LayerNorm 2, fc1, fc2 and the next LayerNorm 1, per row block."""
        net = self.net
        layers = [net.node(Matmul, r, b) for r in ("attn.proj", "mlp.fc1", "mlp.fc2")]
        norm2 = net.node(LayerNorm, "norm2", b)
        after = net.node(LayerNorm, "norm1", b + 1) if b + 1 < net.blocks else None
        blocks = self.blocks.row_blocks or (self.groups,)
        if sum(blocks) != self.groups or min(blocks) < 1:
            raise ValueError(f"row_blocks must be positive and sum to {self.groups} groups, not {blocks}")
        self.emit.load_layers(f"blocks.{b}.mlp", layers, weights=False)
        loaded: set[tuple[str, int]] = set()
        norm_params: dict[str, int] = {}
        last = dict.fromkeys((layers[1].name, layers[2].name), self.embed_beside()) if after is None else {}
        starts = [sum(blocks[:i]) for i in range(len(blocks))]
        for i, layer in self.layer_order(layers, len(blocks)):
            start, rows = starts[i], blocks[i]
            for t0, t1 in self.emit.tile_ranges(layer):
                if (layer.name, t0) not in loaded or not self.blocks.weights_resident:
                    self.emit.load_tiles(layer, t0, t1)
                    loaded.add((layer.name, t0))
                self.emit.matmul(layer, start, rows, t0, t1 - t0, self.beyond(start, rows, last.get(layer.name)))
            ln = {layers[0].name: norm2, layers[2].name: after}.get(layer.name)
            if ln is not None:
                if ln.name not in norm_params:
                    norm_params[ln.name] = self.emit.load_norm(ln)
                self.emit.layernorm(ln, start, rows, norm_params[ln.name])
            if after is None and layer is layers[2] and not net.pools:
                if start == 0:
                    self.final_norm()
                if i == max(0, len(blocks) - 2):
                    self.classify()
        if after is None and net.pools:
            self.pool()

    def embed_beside(self) -> int | None:
        """First group whose fc1 and fc2 in the last block are R-MAC's alone, as long as MAT is at the embedding of the
        next image, which R-MAC cannot take."""
        embed = self.net.node(Matmul, "embed")
        if not self.blocks.embed_beside or len(self.emit.engines(embed)) > 1:
            return None
        layers = embed, self.net.node(Matmul, "mlp.fc1", 0), self.net.node(Matmul, "mlp.fc2", 0)
        sizes = (layer.weight.shape for layer in layers)
        cycles = [cdiv(n, self.config.word) * cdiv(k, self.config.word) for n, k in sizes]
        return max(0, self.groups - round(self.groups * cycles[0] / (cycles[1] + cycles[2])))

    @staticmethod
    def beyond(start: int, rows: int, limit: int | None) -> int:
        """Of groups start..start+rows-1 those from ``limit`` on."""
        return 0 if limit is None else min(rows, max(0, start + rows - limit))

    def layer_order(self, layers: list[Matmul], blocks: int) -> list[tuple[int, Matmul]]:
        """(row block, layer) of proj, fc1, fc2 in turn; ``proj_ahead``: proj of the next row block before fc2, so that
        its LayerNorm is over when fc1 begins."""
        proj, fc1, fc2 = layers
        if not self.blocks.proj_ahead:
            return [(i, layer) for i in range(blocks) for layer in layers]
        out = [(0, proj)]
        for i in range(blocks):
            out += [(i, fc1), *([(i + 1, proj)] if i + 1 < blocks else []), (i, fc2)]
        return out

    def pool(self) -> None:
        """The average over tokens on the shifter array, behind the last LayerNorm or before it, and the classifier."""
        net, after = self.net, self.net.tensor(self.net.node(LayerNorm, "norm").out.name).tokens == 1
        if not after:
            self.final_norm()
        for h in range(net.pools):
            codes, average = net.node(Softmax, "pool.softmax", None, h), net.node(Attend, "pool.attend", None, h)
            self.emit.attend(codes, average, 0, 1)
        if after:
            self.final_norm()
        self.classify()

    def final_norm(self) -> None:
        norm = self.net.node(LayerNorm, "norm")
        groups = cdiv(self.net.tensor(norm.out.name).tokens, self.config.cores)
        self.emit.layernorm(norm, 0, groups, self.emit.load_norm(norm))

    def classify(self) -> None:
        """Classifier and result."""
        found = [self.net.optional(Matmul, "head_dist"), self.net.node(Matmul, "head")]
        heads = [head for head in found if head is not None]
        self.emit.load_layers("head", heads, weights=False)
        for head in heads:
            for t0, t1 in self.emit.tile_ranges(head):
                self.emit.load_tiles(head, t0, t1)
                self.emit.matmul(head, 0, 1, t0, t1 - t0)
        self.emit.result()
