"""The instructions of a ViT's layers: their weights and parameters in the rings, their parts on the engines."""

from collections.abc import Sequence

import numpy as np

from vitforge_hw.arch import memmap
from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.enums import CodeRule
from vitforge_hw.arch.isa import DEST_LN_PARAMS, DEST_PARAMS, DEST_WEIGHTS, PARAM_BYTES, Chunk

from ...ops import Attend, LayerNorm, Matmul, Scores, Softmax
from ..layers.vit import Network, cdiv
from ..memory.place import Place
from ..program.parameters import layernorm_params, paired, paired_rows, post_params, row_count, weight_rows
from ..program.writer import ProgramWriter
from .shares import engines, shares


class BlockSteps:
    """Writes instructions of a ViT's layers.

    Parameters
    ----------
    net, config, places : network, machine, tensor -> Place
    out : the writer that gets steps and pieces
    piece_rows : longest weight piece
    allowed : engines of CompileOptions

    ``cycles``: of the engines so far, all busy all the time; the uses of the rings' pieces are counted in it.
    """

    def __init__(
        self,
        net: Network,
        config: AcceleratorConfig,
        places: dict[str, Place],
        out: ProgramWriter,
        piece_rows: int,
        allowed: str,
    ):
        self.net, self.config, self.places, self.out = net, config, places, out
        self.piece_rows, self.allowed = piece_rows, allowed
        self.cycles = 0
        #: (layer, first tile) -> (address, params, tiles)
        self.weights: dict[tuple[str, int], tuple[int, int, int]] = {}
        #: (layer, first tile) -> its weight piece; (layer, -1) -> its parameters
        self.piece_of: dict[tuple[str, int], str] = {}

    # ------------------------------------------------------------ weights

    def load_layers(self, name: str, nodes: Sequence[Matmul | Scores], weights: bool = True) -> None:
        """One piece of parameters, and one of weights unless they are too long, for layers that are used together."""
        c = self.config
        entries = [post_params(n, self.net.tensor(n.out.name).channels if isinstance(n, Scores) else len(n.weight), c)
                   for n in nodes]  # fmt: skip
        sizes = {n.name: len(e) for n, e in zip(nodes, entries)}
        at = self.out.load(f"{name}:params", DEST_PARAMS, lambda: np.concatenate(entries), sizes)
        for node, entry in zip(nodes, entries):
            self.weights[(node.name, -1)] = (0, at, 0)
            self.piece_of[(node.name, -1)] = f"{name}:params"
            at += len(entry) // c.beat_bytes
        linears = [n for n in nodes if isinstance(n, Matmul)]
        if weights:
            rows = [self.weight_rows(n) for n in linears]
            sizes = {n.name: r.size for n, r in zip(linears, rows)}
            at = self.out.load(f"{name}:weights", DEST_WEIGHTS, lambda: np.concatenate(rows), sizes)
            for node in linears:
                tiles = cdiv(node.weight.shape[0], c.lanes)
                self.weights[(node.name, 0)] = (at, self.weights[(node.name, -1)][1], tiles)
                self.piece_of[(node.name, 0)] = f"{name}:weights"
                at += self.row_count(node, tiles)

    def weight_rows(self, node: Matmul, t0: int = 0, t1: int | None = None) -> np.ndarray:
        """Rows of tiles t0..t1-1 (all)."""
        weight = node.weight[t0 * self.config.lanes : None if t1 is None else t1 * self.config.lanes]
        return (paired_rows if paired(node, self.config) else weight_rows)(weight, self.config)

    def row_count(self, node: Matmul, tiles: int) -> int:
        """Weight rows of a layer's first ``tiles`` tiles."""
        return row_count(tiles, cdiv(node.weight.shape[1], self.config.width), paired(node, self.config))

    def tile_ranges(self, node: Matmul) -> list[tuple[int, int]]:
        """Ranges of output tiles whose weights make one piece each."""
        tiles, steps = cdiv(node.weight.shape[0], self.config.lanes), cdiv(node.weight.shape[1], self.config.width)
        unit = 1 + paired(node, self.config)
        units = cdiv(tiles, unit)
        n = cdiv(units * steps, self.piece_rows)
        if n > units:
            raise ValueError(f"layer {node.name}: a tile has {steps} weight rows, a piece at most {self.piece_rows}")
        return [(unit * (units * i // n), min(tiles, unit * (units * (i + 1) // n))) for i in range(n)]

    def load_tiles(self, node: Matmul, t0: int, t1: int) -> None:
        """One piece: the weights of a range of output tiles."""
        c = self.config
        name = f"{node.name}:weights" if t1 - t0 == cdiv(node.weight.shape[0], c.lanes) else f"{node.name}:weights.{t0}"
        at = self.out.load(name, DEST_WEIGHTS, lambda: self.weight_rows(node, t0, t1))
        params = self.weights[(node.name, -1)][1] + self.param_beats(t0)
        self.weights[(node.name, t0)] = (at, params, t1 - t0)
        self.piece_of[(node.name, t0)] = name

    def load_norm(self, node: LayerNorm) -> int:
        return self.out.load(f"{node.name}:params", DEST_LN_PARAMS, lambda: layernorm_params(node))

    def param_beats(self, tiles: int) -> int:
        """Beats of the parameters of some tiles."""
        return tiles * self.config.lanes * PARAM_BYTES // self.config.beat_bytes

    # ------------------------------------------------------------ matmuls

    def engines(self, node: Matmul | Scores) -> tuple[Chunk, ...]:
        return engines(node, self.config, self.allowed)

    def work(self, node: Matmul | Scores, rows: int, tiles: int, steps: int) -> tuple[int, int]:
        """Begin and end of ``rows`` of tiles of ``steps`` each in the engines' time, which goes on."""
        begin, post = self.cycles, self.config.word // self.config.post_channels
        cycles = tiles * max(steps, post)
        if isinstance(node, Matmul) and paired(node, self.config):
            cycles = cdiv(tiles, 2) * max(steps, 2 * post)
        self.cycles += rows * cycles // len(self.engines(node))
        return begin, self.cycles

    def matmul(
        self, node: Matmul, first: int, rows: int, t0: int = 0, tiles: int | None = None, alone: int = 0
    ) -> None:
        """Groups first..first+rows-1, output tiles t0..t0+tiles-1, on the engines that can take them; the last
        ``alone`` groups on the second one alone."""
        if 0 < alone < rows:
            self.matmul(node, first, rows - alone, t0, tiles)
            first, rows = first + rows - alone, alone
        c = self.config
        address, params, count = self.weights[(node.name, t0)]
        tiles, steps = tiles or count, cdiv(node.weight.shape[1], c.width)
        span = self.work(node, rows, tiles, steps)
        self.out.rings[DEST_WEIGHTS].use(address, self.piece_of[(node.name, t0)], node.name, *span)
        self.out.rings[DEST_PARAMS].use(params, self.piece_of[(node.name, -1)], node.name, *span)
        x, out = self.places[node.x.name], self.places[node.out.name]
        chunks = self.engines(node)[-1:] if alone else self.engines(node)
        # keys begin on the second engine: see BlockPlan.keys
        for share in shares(chunks, first, rows, tiles, swapped=node.role.part == "k"):
            at, tile = share.first - first, t0 + share.tile
            op = dict(
                tiles=share.tiles, ksteps=steps, skip=share.skip, in_addr=x.row(first) + at * x.stride,
                in_stride=x.stride, in_offset=node.token_offset, in_first=share.first,
                in_tokens=self.net.tensor(x.name).tokens, weight_addr=address + share.tile * steps,
                param_addr=params + self.param_beats(share.tile),
                out_addr=out.row(first) + at * out.stride + self.block(node) + tile * out.planes,
                out_stride=out.stride, out_wide=out.planes - 1, **node.post_fields(),
            )  # fmt: skip
            if paired(node, c):
                op["w4"] = 1
            if node.residual is not None:
                r = self.places[node.residual.name]
                residual = r.row(first) + at * r.stride + tile * r.planes
                op |= dict(res_mode=r.planes, res_addr=residual, res_stride=r.stride)
            self.out.add(share.chunk, node.name, share.first, share.rows, node.out.start + tile * c.lanes, **op)

    def block(self, node: Matmul | Attend) -> int:
        """Row offset of a node's slice in its output tensor."""
        if node.out.start % self.config.word:
            raise ValueError(f"layer {node.name}: slice must start at a multiple of word, not {node.out.start}")
        return node.out.start // self.config.word * self.places[node.out.name].planes

    def scores(self, node: Scores, slot: int, first: int, rows: int) -> None:
        """Scores of the query groups first..first+rows-1 against the keys in ``slot``."""
        c, q, out = self.config, self.places[node.q.name], self.places[node.out.name]
        params = self.weights[(node.name, -1)][1]
        tiles = cdiv(self.net.tokens, c.lanes)
        span = self.work(node, rows, tiles, q.stride)
        self.out.rings[DEST_PARAMS].use(params, self.piece_of[(node.name, -1)], node.name, *span)
        for share in shares(self.engines(node), first, rows, tiles):
            self.out.add(
                share.chunk, node.name, share.first, share.rows, share.tile * c.lanes, tiles=share.tiles,
                ksteps=q.stride, skip=share.skip, in_addr=q.row(share.first), in_stride=q.stride, in_first=share.first,
                in_tokens=self.net.tokens, weight_addr=slot + share.tile * q.stride,
                param_addr=params + self.param_beats(share.tile), out_addr=out.row(share.first) + share.tile,
                out_stride=out.stride,
            )  # fmt: skip

    # ------------------------------------------------------------ the other units

    def key_loader(self, k: Matmul | LayerNorm, groups: int, slot: int) -> int:
        """A head's keys into the weight buffer."""
        place = self.places[k.out.name]
        return self.out.add(Chunk.LOADER, k.name, 0, groups, in_addr=place.address, in_stride=place.stride,
                            blocks=place.stride, weight_addr=slot)  # fmt: skip

    def attend(self, m: Softmax, a: Attend, first: int, rows: int) -> None:
        """Softmax and attention x value of some groups of a head, or of the average over tokens."""
        net, c = self.net, self.config
        x, values, out = (self.places[n] for n in (m.x.name, a.v.name, a.out.name))
        v_addr = values.address + a.v.start // c.word * values.planes
        blocks = net.graph.channels(a.v) // c.word
        self.out.add(Chunk.SOFTMAX, m.name, first, rows, in_addr=x.row(first), in_stride=x.stride, keys=net.tokens,
                     rule=CodeRule.of(m.rule), c=m.c, sc=m.sc)  # fmt: skip
        self.out.add(Chunk.SHIFTER, a.name, first, rows, a.out.start, v_addr=v_addr, v_stride=values.stride,
                     keys=net.tokens, blocks=blocks, rule=CodeRule.of(a.rule), factor=int(a.factor), shift=a.shift,
                     out_addr=out.row(first) + self.block(a), out_stride=out.stride)  # fmt: skip

    def layernorm(self, node: LayerNorm, first: int, rows: int, params: int) -> None:
        x, out = self.places[node.x.name], self.places[node.out.name]
        self.out.rings[DEST_LN_PARAMS].use(params, f"{node.name}:params", node.name, self.cycles, self.cycles)
        self.out.add(
            Chunk.LAYERNORM, node.name, first, rows, in_addr=x.row(first), in_stride=x.stride, in_wide=x.planes - 1,
            blocks=len(node.gamma) // self.config.word, param_addr=params, out_addr=out.row(first),
            out_stride=out.stride,
        )  # fmt: skip

    # ------------------------------------------------------------ DMA

    def image(self) -> None:
        """The job's image."""
        x, c = self.places[self.net.graph.input], self.config
        self.out.add(Chunk.IMAGE_DMA, x.name, 0, x.groups, job=1, source=0, beats=x.stride * c.beats_per_row,
                     out_addr=x.address)  # fmt: skip

    def constant(self, name: str) -> None:
        """A constant tensor from the memory image."""
        place, c = self.places[name], self.config
        rows = memmap.to_rows(self.net.graph.constants[name], c.cores, c.word, place.planes == 2)
        piece = self.out.data(name, rows)
        self.out.add(Chunk.IMAGE_DMA, name, 0, place.groups, source=piece.beat, beats=place.stride * c.beats_per_row,
                     out_addr=place.address)  # fmt: skip

    def result(self) -> None:
        out = self.places[self.net.graph.output]
        self.out.add(Chunk.RESULT_DMA, out.name, 0, 1, in_addr=out.address, count=out.stride)
