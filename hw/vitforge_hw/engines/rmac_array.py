"""Multipliers of R-MAC: one set of cells for every kind of instruction."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arch.config import ACC_BITS, AcceleratorConfig
from ..arch.isa import DEPTHWISE, KEY_VALUE, POINTWISE, TOKEN_SUM
from ..emit import block
from ..units import rmac_cell
from ..units.adder_tree import AdderTree
from ..units.copies import copies
from ..units.own_sums import OwnSums
from ..units.packed import skewed_bytes
from ..units.rmac_cell import RMacCell, own_widths

SUM_LATENCY = rmac_cell.LATENCY  #: operands to down-forward accumulators
OWN_LATENCY = rmac_cell.OWN_LATENCY  #: operands to the sums of their own


def longest_sum(config: AcceleratorConfig) -> int:
    """Steps of the longest self-accumulation: the taps of a 7 x 7 kernel, or one group of K^T V a window row."""
    return max(49, config.window_rows)


def tree_inputs(config: AcceleratorConfig) -> int:
    """Inputs of a lane's adder tree: a number of every core."""
    return 1 << ceil_log2(config.cores + 1 & ~1)


class RMacArray(wiring.Component):
    """cores / 2 x lanes cells, their operands by ``kind``, and a tree per lane that adds over the cores.

    - POINTWISE: two tokens x[token][i], weight w[lane * width + i]; a tile is the down-forward sum of its steps.
    - DEPTHWISE: slots[token][slot i][lane], weight w[i * lanes + lane]; slot i's own accumulators are a tile.
    - KEY_VALUE: two elements v[token][2 e], v[token][2 e + 1] and relu(k[token][i]): the lower half of a pair's lanes
      serves its first token, the upper half the second; own accumulators, added over the cores: tile i has Z[lane][i].
    - TOKEN_SUM: words of ``sum_x``, added over the cores and accumulated.

    The last of an odd number of tokens has lanes / 2 cells of its own, in which two lanes share a multiplier: POINTWISE
    weights of both, KEY_VALUE as above. DEPTHWISE has nothing to share there: the cell takes the even lane, the odd
    lane's products are in LUTs (units.own_sums).

    The own sums are copied to the shadow copy with a step's last operands; its tiles leave one a cycle. Operands of
    POINTWISE are skewed here, once for all cells (units.packed).

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    kind : from the cycle before a step's operands on; all steps on their way are of one kind
    x : byte ``token * width + i``; w : weight row; slots, k, v : as WindowBuffer has them
    valid, first, last : a step of the first three kinds; it begins, ends a sum
    tiles : with ``last``: tiles that leave the shadow copy, at most ``width``; at least as many cycles lie between two
        ``last``
    sum_x, sum_valid, sum_first, sum_last : words (int8, byte ``token * word + channel``) to be added
    tile_valid, tile_acc : a tile, element ``token * lanes + lane`` of ACC_BITS; of a sum over the cores token 0

    Latency/throughput
    ------------------
    Last operands -> tile_valid: POINTWISE 14, DEPTHWISE 7, KEY_VALUE 7 + tree (4 at 7 cores), TOKEN_SUM 2 + tree.
    One step a cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        super().__init__(
            {
                "kind": In(2),
                "x": In(c.cores * c.width * 8),
                "slots": In(c.cores * c.width * c.word * 8),
                "k": In(c.cores * c.width * 8),
                "v": In(c.row_bytes * 8),
                "w": In(c.weight_row_bytes * 8),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "tiles": In(range(c.width + 1)),
                "sum_x": In(c.row_bytes * 8),
                "sum_valid": In(1),
                "sum_first": In(1),
                "sum_last": In(1),
                "tile_valid": Out(1),
                "tile_acc": Out(c.cores * c.lanes * ACC_BITS),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        c = self._config
        return f"vf_rmac_array_{c.cores}x{c.word}x{c.width}"

    def elaborate(self, platform):
        c = self._config
        m = Module()
        pairs = c.cores // 2

        # ---- cells: operands of two tokens
        kind = self.kind
        outer = kind == KEY_VALUE
        depthwise = kind == DEPTHWISE
        load = Signal()
        shift = Signal()

        late = Signal(len(self.x))
        m.d.comb += late.eq(Cat(
            skewed_bytes(m, self.x.word_select(core, c.width * 8), f"x{core}_") for core in range(c.cores)
        ))  # fmt: skip
        late_w = [skewed_bytes(m, self.w.word_select(lane, c.width * 8), f"w{lane}_") for lane in range(c.lanes)]

        acc = [[None] * c.lanes for _ in range(c.cores)]
        shadow = [[None] * c.lanes for _ in range(c.cores)]
        outer_sum = [[None] * c.lanes for _ in range(c.cores)]  # K^T V: what the core gives a lane's tree

        def of_lane(source, lane):
            return Cat(source.word_select(i * c.lanes + lane, 8) for i in range(c.width))

        def cell_of(name, operands):
            cell = RMacCell(c.width, longest_sum(c))
            cell = block(cell, cell.module_name)
            m.submodules[name] = cell
            m.d.comb += [getattr(cell, port).eq(value) for port, value in operands.items()]
            m.d.comb += [
                cell.depthwise.eq(depthwise),
                cell.outer.eq(outer),
                cell.valid.eq(self.valid & (kind == POINTWISE)),
                cell.own.eq(self.valid & (depthwise | outer)),
                cell.first.eq(self.first),
                cell.load.eq(load),
                cell.shift.eq(shift),
            ]
            return cell

        for pair in range(pairs):
            x, slots, k, v = (
                [source.word_select(2 * pair + n, bits) for n in range(2)]
                for source, bits in (
                    (late, c.width * 8),
                    (self.slots, c.width * c.word * 8),
                    (self.k, c.width * 8),
                    (self.v, c.word * 8),
                )
            )
            for lane in range(c.lanes):
                upper, e = divmod(lane, c.lanes // 2)
                cell = cell_of(f"cell{pair}_{lane}", dict(
                    x0=x[0], x1=x[1], wx=late_w[lane],
                    slots0=of_lane(slots[0], lane), slots1=of_lane(slots[1], lane), ws=of_lane(self.w, lane),
                    k=k[upper], v0=v[upper].word_select(2 * e, 8), v1=v[upper].word_select(2 * e + 1, 8),
                ))  # fmt: skip
                acc[2 * pair][lane], acc[2 * pair + 1][lane] = cell.acc0, cell.acc1
                shadow[2 * pair][lane], shadow[2 * pair + 1][lane] = cell.shadow0, cell.shadow1
                outer_sum[2 * pair + upper][2 * e] = cell.shadow0
                outer_sum[2 * pair + upper][2 * e + 1] = cell.shadow1

        # ---- the last of an odd number of tokens
        if c.cores % 2:
            last = c.cores - 1
            slots = self.slots.word_select(last, c.width * c.word * 8)
            v = self.v.word_select(last, c.word * 8)
            for e in range(c.lanes // 2):
                even, odd = 2 * e, 2 * e + 1
                cell = cell_of(f"cell{pairs}_{e}", dict(
                    x0=late_w[even], x1=late_w[odd], wx=late.word_select(last, c.width * 8),
                    slots0=of_lane(slots, even), slots1=C(0, 8 * c.width), ws=of_lane(self.w, even),
                    k=self.k.word_select(last, c.width * 8), v0=v.word_select(even, 8), v1=v.word_select(odd, 8),
                ))  # fmt: skip
                own = OwnSums(c.width, longest_sum(c))
                own = block(own, own.module_name)
                m.submodules[f"own{e}"] = own
                m.d.comb += [
                    own.slots.eq(of_lane(slots, odd)),
                    own.ws.eq(of_lane(self.w, odd)),
                    own.own.eq(self.valid & depthwise),
                    own.first.eq(self.first),
                    own.load.eq(load),
                    own.shift.eq(shift),
                ]
                acc[last][even], acc[last][odd] = cell.acc0, cell.acc1
                shadow[last][even], shadow[last][odd] = cell.shadow0, own.shadow
                outer_sum[last][even], outer_sum[last][odd] = cell.shadow0, cell.shadow1

        shadow = [[Cat(v, v[-1].replicate(ACC_BITS - len(v))) for v in row] for row in shadow]

        # ---- shadow copy: the cells act a cycle later
        ended = [self.valid & self.last & (depthwise | outer)]
        count = [self.tiles]
        for i in range(OWN_LATENCY - 1):
            e = Signal(name=f"own_ended{i}")
            n = Signal.like(self.tiles, name=f"own_tiles{i}", reset_less=True)
            m.d.sync += [e.eq(ended[-1]), n.eq(count[-1])]
            ended.append(e)
            count.append(n)
        left = Signal.like(self.tiles)
        shifted = Signal()
        leaving = Signal()  # the cells' shadow outputs, a cycle behind
        m.d.comb += [load.eq(ended[-1]), shift.eq(left.any())]
        m.d.sync += [shifted.eq(shift), leaving.eq(shifted)]
        m.d.sync += left.eq(Mux(load, count[-1], (left - shift)[: len(left)]))

        # ---- sums over the cores
        of_core = [kind for (kind,) in copies(m, c.cores, "kind", kind)]  # each core's multiplexers
        inputs, bits = tree_inputs(c), own_widths(longest_sum(c))[1]
        tree_valid = Signal()
        tree_first = Signal(reset_less=True)
        tree_last = Signal()
        from_shadow = outer & leaving
        m.d.sync += [
            tree_valid.eq(from_shadow | self.sum_valid),
            tree_first.eq(from_shadow | self.sum_first),
            tree_last.eq(from_shadow | (self.sum_valid & self.sum_last)),
        ]
        totals = []
        for lane in range(c.lanes):
            tree = block(AdderTree(inputs, bits, ACC_BITS), f"vf_adder_tree_{inputs}x{bits}")
            m.submodules[f"tree{lane}"] = tree
            for n in range(c.cores):
                word = self.sum_x.word_select(n * c.word + lane, 8).as_signed()
                leaf = Signal(signed(ACC_BITS), name=f"leaf{lane}_{n}", reset_less=True)
                m.d.sync += leaf.eq(Mux(of_core[n] == KEY_VALUE, outer_sum[n][lane], word))
                m.d.comb += tree.x[n].eq(leaf)
            m.d.comb += [tree.valid.eq(tree_valid), tree.first.eq(tree_first)]
            totals.append(tree.total)
        summed = Signal(AdderTree.latency(inputs))
        m.d.sync += summed.eq(Cat(tree_last, summed[:-1]))

        # ---- tiles
        forward = Signal(SUM_LATENCY)
        m.d.sync += forward.eq(Cat(self.valid & self.last & (kind == POINTWISE), forward[:-1]))
        tile_valid = Signal()
        tile_acc = Signal(c.cores * c.lanes * ACC_BITS, reset_less=True)
        m.d.sync += tile_valid.eq(forward[-1] | summed[-1] | (depthwise & leaving))
        for n in range(c.cores):
            out = tile_acc.word_select(n, c.lanes * ACC_BITS)
            with m.Switch(of_core[n]):
                with m.Case(POINTWISE):
                    m.d.sync += out.eq(Cat(acc[n]))
                with m.Case(DEPTHWISE):
                    m.d.sync += out.eq(Cat(shadow[n]))
                with m.Case(KEY_VALUE, TOKEN_SUM):
                    m.d.sync += out.eq(0 if n else Cat(totals))
        m.d.comb += [self.tile_valid.eq(tile_valid), self.tile_acc.eq(tile_acc)]
        return m
