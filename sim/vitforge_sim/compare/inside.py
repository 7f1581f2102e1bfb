"""What the monitors of values inside the units must record: codes, accumulators, sums of LayerNorm and softmax."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from vitforge_hw.arch.isa import Chunk
from vitforge_sw.compiler.layers.batch import EVERY, image_of, of_image, plain
from vitforge_sw.compiler.program.build import Build
from vitforge_sw.graph.ir import Graph
from vitforge_sw.kinds import kind_of

from ..run.accelerator import AcceleratorRun, tap_bits
from .compare import Mismatch, TensorReport
from .taps import Due, compare_tap

ACC_ELEMENTS = 4_000_000  #: accumulators compared per engine at most (whole layers, the first ones)
TILES = {Chunk.MAT: "tile", Chunk.RMAC: "rmac_tile"}  #: monitors of finished tiles
PER_TOKEN = (
    ("stats_s1", Chunk.LAYERNORM, "S1", True),
    ("stats_s2", Chunk.LAYERNORM, "S2", False),
    ("log_sum", Chunk.SOFTMAX, "L", True),
)  #: monitor, chunk, golden tap, signed

Found = tuple[list[TensorReport], Mismatch | None]


def compare_inside(
    graph: Graph, build: Build, golden: dict, taps: dict, run: AcceleratorRun, images: int
) -> Iterator[Found]:
    """Every monitor of the chunks that the configuration has: reports and first mismatch of each. ``golden``, ``taps``,
    ``images``: of jobs (verify.by_job). A deferred classifier has no images in the first job."""
    c, monitors = build.config, run.bench.monitors
    bits = tap_bits(c)
    if Chunk.SOFTMAX in c.chunks:
        yield _codes(build, golden, run, images)
    for tap, chunk, suffix, signed in PER_TOKEN:
        due, count = _per_token(build, chunk, suffix, taps) if chunk in c.chunks else ({}, 0)
        if count:
            due = _lagging(due, build.lag)
            yield compare_tap(suffix, due, count, monitors[tap], images, bits[tap], c.cores, signed, plain)
    for chunk, tap in TILES.items():
        if chunk in c.chunks:
            due, count = tiles_due(graph, build, chunk, taps)
            due = _lagging(due, build.lag)
            yield compare_tap("acc", due, count, monitors[tap], images, bits[tap], c.cores * c.word, True, plain)
    if Chunk.SHIFTER in c.chunks:
        due, count = _attended(build, taps, images)
        yield compare_tap("acc", due, count, monitors["attend"], images, bits["attend"], c.cores * c.word, True)


def _lagging(due: dict[int, Due], lag: int) -> dict[int, Due]:
    """What the whole batch shares is due from job ``lag`` on."""
    first = {i: dataclasses.replace(d, first=lag) for i, d in due.items() if lag and image_of(d.layer) == EVERY}
    return due | first


def _codes(build: Build, golden: dict, run: AcceleratorRun, images: int) -> Found:
    """Words of the code ring: attend_keys x cores codes each."""
    c = build.config
    due, position = {}, 0
    for layer, group in build.codes():
        codes = golden[layer]
        queries, keys = codes.shape[1:]
        rows = min(c.cores, queries - group * c.cores)
        words = -(-keys // c.attend_keys)
        padded = np.full((images, c.cores, words * c.attend_keys), 15, np.int64)
        padded[:, :rows, :keys] = codes[:, group * c.cores : group * c.cores + rows]
        for w in range(words):
            block = padded[:, :, w * c.attend_keys : (w + 1) * c.attend_keys].transpose(0, 2, 1)  # key, token
            due[position] = Due(layer, (group, w), block.reshape(images, -1) if rows == c.cores else block)
            position += 1
    for i, item in list(due.items()):  # a last group with missing tokens: only the first key's valid tokens are due
        if item.values.ndim == 3:
            rows = golden[item.layer].shape[1] - item.place[0] * c.cores
            due[i] = Due(item.layer, item.place, item.values[:, 0, :rows])
    return compare_tap("codes", due, position, run.bench.monitors["codes"], images, 4, c.cores * c.attend_keys, False)


def _per_token(build: Build, chunk: Chunk, suffix: str, taps: dict) -> tuple[dict[int, Due], int]:
    """One value per token of a group."""
    cores = build.config.cores
    due, position = {}, 0
    for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
        layer = of_image(label.layer, label.image)
        values = taps.get(of_image(f"{label.layer}.{suffix}", label.image))
        for row in range(instruction.rows):
            group = label.first + row
            if values is not None:
                due[position] = Due(layer, (group, 0), values[:, group * cores : (group + 1) * cores])
                position += 1
    return due, position


def _attended(build: Build, taps: dict, images: int) -> tuple[dict[int, Due], int]:
    """The shifter array's accumulators: a record for each group and block of a head."""
    c = build.config
    due, position = {}, 0
    for value, label, row, block in _budgeted(build, Chunk.SHIFTER, taps, lambda op: op["blocks"]):
        if value is not None:
            group, channel = label.first + row, block * c.word
            part = value[:, group * c.cores : (group + 1) * c.cores, channel : channel + c.word]
            due[position] = Due(label.layer, (group, block), part.reshape(images, -1))
        position += 1
    return due, position


def _budgeted(build: Build, chunk: Chunk, taps: dict, records):
    """(accumulators or None beyond the budget, label, row, record of the row) of every record of a chunk."""
    budget, layers = ACC_ELEMENTS, set()
    for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
        values = taps[f"{label.layer}.acc"]
        if label.layer not in layers:
            budget -= values[0].size
            layers.add(label.layer)
        chosen = values if budget >= 0 or len(layers) == 1 else None
        for row in range(instruction.rows):
            for record in range(records(instruction.op)):
                yield chosen, label, row, record


class TileMap:
    """Accumulators (images, tokens, channels) of one tensor as tiles: tokens in groups, map rows padded to groups."""

    def __init__(self, values: np.ndarray, size: tuple[int, int], cores: int, word: int):
        images, tokens, channels = values.shape
        self.height, self.width = size
        rows, each = (self.height, self.width) if self.width else (1, tokens)
        self.groups = -(-each // cores)  # of a map row
        self.cores, self.word = cores, word
        padded = np.zeros((images, rows, self.groups * cores, -(-channels // word) * word), values.dtype)
        padded[:, :, :each, :channels] = values.reshape(images, rows, each, channels)
        self.values = padded.reshape(images, rows * self.groups, cores, -1)
        self.each, self.channels = each, channels

    def due(self, layer: str, row: int, group: int, first: int, tile: int) -> Due:
        """What the record of one tile must hold: ``group`` behind group ``row``, ``tile`` behind tile ``first``."""
        group, tile = row + group, first + tile
        y, g = divmod(group, self.groups)
        word, x = self.word, g * self.cores
        part = self.values[:, group, :, tile * word : (tile + 1) * word]
        inside = np.arange(x, x + self.cores)[:, None] < self.each
        valid = inside & (np.arange(tile * word, (tile + 1) * word) < self.channels)

        def index(j: int) -> tuple[int, ...]:
            pixel, channel = x + j // word, tile * word + j % word
            return (y, pixel, channel) if self.width else (pixel, channel)

        return Due(layer, (group, tile), part.reshape(len(part), -1), None if valid.all() else valid.ravel(), index)


class ProductMap:
    """Accumulators of K^T V, (images, dim, heads * dim), as tiles: lanes are the channels of a value block."""

    def __init__(self, values: np.ndarray, blocks: int, word: int):
        self.values, self.blocks, self.word = values, blocks, word

    def due(self, layer: str, row: int, group: int, first: int, tile: int) -> Due:
        """What the record of channel ``tile`` of k and value block ``group`` of head ``row`` must hold."""
        base = (row * self.blocks + group) * self.word

        def index(j: int) -> tuple[int, ...]:
            return tile, base + j

        return Due(layer, (row, group), self.values[:, tile, base : base + self.word], None, index)


def tiles_due(graph: Graph, build: Build, chunk: Chunk, taps: dict) -> tuple[dict[int, Due], int]:
    """Record number -> what an engine's finished tile must hold, and the number of records an image.

    docs/hybrid.md: (row, group, tile); K^T V: (head, value block, key block, h, i), lanes = value channels; sums:
    blocks, token 0.
    """
    c = build.config
    nodes = {n.name: n for n in graph.nodes}
    due: dict[int, Due] = {}
    maps: dict[str, TileMap | ProductMap | None] = {}
    budget, position = ACC_ELEMENTS, 0
    for instruction, label in zip(build.programs[chunk], build.labels[chunk]):
        op, layer, node = instruction.op, of_image(label.layer, label.image), nodes[label.layer]
        kind = kind_of(chunk, op)
        values = taps[of_image(f"{label.layer}.acc", label.image)]
        if layer not in maps:
            budget -= values[0].size
            info = graph.tensors[node.out.name]
            # a budget: whole layers, the first one in any case
            if budget < 0 and maps:
                maps[layer] = None
            elif kind.products:
                maps[layer] = ProductMap(values, op["blocks"], c.word)
            else:
                maps[layer] = TileMap(values, (info.height, info.width), c.cores, c.word)
        each, first = maps[layer], (label.channel - node.out.start) // c.word
        for row in range(instruction.rows):
            for group, tile in kind.tiles(op, c):
                if each is not None:
                    at = label.first + row * kind.row_groups(op)
                    due[position] = each.due(layer, at, group, first, tile)
                position += 1
    return due, position
