"""PE array: cores x lanes x width multiplications a cycle, output-stationary."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS, AcceleratorConfig
from ..emit import block
from ..units import pe_cell
from ..units.pe_cell import PACKED_BITS, PECell, pack

LATENCY = 1 + pe_cell.LATENCY  #: operands to accumulators: broadcast registers, cell


class PEArray(wiring.Component):
    """cores/2 x lanes cells; every weight row is broadcast to all tokens, every token's word to all lanes.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    x : the group's words of this step (byte ``token * word + i``)
    w : weight row (byte ``lane * width + i``)
    valid, first, last : a step; it begins a tile; it ends a tile
    tile_valid : one cycle for each finished tile
    tile_acc : its accumulators, ACC_BITS bits each, element ``token * lanes + lane``

    Latency/throughput
    ------------------
    A tile whose last step's operands are there in cycle t is valid in cycle t + LATENCY (8). One step a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "x": In(c.row_bytes * 8),
                "w": In(c.weight_row_bytes * 8),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "tile_valid": Out(1),
                "tile_acc": Out(c.cores * c.lanes * ACC_BITS),
            }
        )

    def elaborate(self, platform):
        c = self._config
        m = Module()
        valid = Signal()
        first = Signal(reset_less=True)
        m.d.sync += [valid.eq(self.valid), first.eq(self.first)]
        weights = []
        for lane in range(c.lanes):
            w = Signal(c.width * 8, name=f"w{lane}", reset_less=True)
            m.d.sync += w.eq(self.w.word_select(lane, c.width * 8))
            weights.append(w)
        acc = [[None] * c.lanes for _ in range(c.cores)]
        for pair in range(c.cores // 2):
            packed = []
            for i in range(c.width):
                a0, a1 = (self.x.word_select((2 * pair + n) * c.word + i, 8).as_signed() for n in range(2))
                p = Signal(signed(PACKED_BITS), name=f"packed{pair}_{i}", reset_less=True)
                m.d.sync += p.eq(pack(a0, a1))
                packed.append(p)
            for lane in range(c.lanes):
                cell = block(PECell(c.width), f"vf_pe_cell_{c.width}")
                m.submodules[f"cell{pair}_{lane}"] = cell
                m.d.comb += [
                    *(cell.a[i].eq(packed[i]) for i in range(c.width)),
                    cell.w.eq(weights[lane]),
                    cell.valid.eq(valid),
                    cell.first.eq(first),
                ]
                acc[2 * pair][lane], acc[2 * pair + 1][lane] = cell.acc0, cell.acc1
        ended = Signal(LATENCY)
        m.d.sync += ended.eq(Cat(self.valid & self.last, ended[:-1]))
        m.d.comb += [
            self.tile_valid.eq(ended[-1]),
            self.tile_acc.eq(Cat(a for token in acc for a in token)),
        ]
        return m
