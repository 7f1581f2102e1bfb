"""PE array: cores x lanes x width multiplications a cycle, output-stationary."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS, AcceleratorConfig
from ..units import w4_cell
from ..units.packed import skewed_bytes
from ..units.pe_cell import LATENCY as CELL_LATENCY
from ..units.pe_cell import packed_inputs, pair_register, pe_cell
from ..units.w4_cell import w4_lanes

LATENCY = 1 + CELL_LATENCY  #: operands to accumulators: broadcast registers, cell


def latency(config: AcceleratorConfig) -> int:
    """LATENCY, or with w4 that of its cells."""
    return 1 + w4_cell.LATENCY if config.w4 else LATENCY


class PEArray(wiring.Component):
    """cores/2 x lanes cells; every weight row is broadcast to all tokens, every token's word to all lanes.

    Operands are skewed here, once for all cells (units.packed). The last of an odd number of tokens has lanes / 2
    cells, in which the weights of two lanes share a multiplier, not the inputs of two tokens. Where the configuration
    is not ``packed`` every product has a multiplier of its own (units.plain_cell), in the same cycles.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    x : the group's words of this step (byte ``token * word + i``)
    half : which ``width`` channels of the words
    w : weight row (byte ``lane * width + i``)
    valid, first, last : a step; it begins a tile; it ends a tile
    four, both : (w4) with the step: its weight row holds nibbles of two tiles; both of them are wanted
    tile_valid : one cycle for each finished tile
    tile_acc : its accumulators, ACC_BITS bits each, element ``token * lanes + lane``

    Latency/throughput
    ------------------
    A tile whose last step's operands are there in cycle t is valid in cycle t + LATENCY (13; w4: 16), the second one
    of ``both`` a cycle later: no tile may end in the cycle behind such a step. One step a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        two = {"four": In(1), "both": In(1)} if c.w4 else {}
        super().__init__(
            {
                "x": In(c.row_bytes * 8),
                "half": In(1),
                "w": In(c.weight_row_bytes * 8),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "tile_valid": Out(1),
                "tile_acc": Out(c.cores * c.lanes * ACC_BITS),
                **two,
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_pe_array_{c.cores}x{c.word}x{c.width}" + "_w4" * c.w4

    def elaborate(self, platform):
        c = self._config
        m = Module()
        valid = Signal()
        first = Signal(reset_less=True)
        m.d.sync += [valid.eq(self.valid), first.eq(self.first)]
        pairs = packed_inputs(m, self.x, self.half, c.cores, c.word, c.width, c.packed)
        if c.w4:
            lanes = w4_lanes(m, pairs, self.x, self.w, self.four, valid, first, c.cores, c.lanes)
            return self._two_tiles(m, lanes)
        rows = [self.w.word_select(lane, c.width * 8) for lane in range(c.lanes)]
        late = [skewed_bytes(m, row, f"w{lane}_") for lane, row in enumerate(rows)]
        acc = [[None] * c.lanes for _ in range(c.cores)]
        for lane in range(c.lanes):
            w = Signal(c.width * 8, name=f"w{lane}", reset_less=True)
            m.d.sync += w.eq(late[lane])
            for n in range(c.cores // 2):
                cell = pe_cell(m, pairs[n], w, valid, first, f"cell{lane}_{n}", c.packed)
                acc[2 * n][lane], acc[2 * n + 1][lane] = cell.acc0, cell.acc1
        if c.cores % 2:
            for lane in range(0, c.lanes, 2):
                low, high = ([late[lane + n].word_select(i, 8) for i in range(c.width)] for n in range(2))
                packed = pair_register(m, low, high, f"lanes{lane}_")
                cell = pe_cell(m, packed, Cat(pairs[-1]), valid, first, f"last{lane}")
                acc[-1][lane], acc[-1][lane + 1] = cell.acc0, cell.acc1
        ended = Signal(LATENCY)
        m.d.sync += ended.eq(Cat(self.valid & self.last, ended[:-1]))
        m.d.comb += [
            self.tile_valid.eq(ended[-1]),
            self.tile_acc.eq(Cat(Cat(row) for row in acc)),
        ]
        return m

    def _two_tiles(self, m, lanes):
        """Tiles of the lower lanes, and of the upper ones a cycle behind them."""
        c = self._config
        steps = latency(c)
        ended, second = Signal(steps), Signal(steps + 1)
        m.d.sync += ended.eq(Cat(self.valid & self.last, ended[:-1]))
        m.d.sync += second.eq(Cat(self.valid & self.last & self.both, second[:-1]))
        tiles = [Cat(acc[token] for token in range(c.cores) for acc in lanes[n : n + c.lanes]) for n in (0, c.lanes)]
        m.d.comb += [
            self.tile_valid.eq(ended[-1] | second[-1]),
            self.tile_acc.eq(Mux(second[-1], tiles[1], tiles[0])),
        ]
        return m
