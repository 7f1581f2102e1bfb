"""Attention x value for one token of the group: shifters, adder trees, accumulators, requantizer."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ATTEND_ACC_BITS, AcceleratorConfig
from ..units.booth import multiply
from ..units.row_factor import decode_code

PRODUCT_BITS = 23  #: v << 15
SHIFT_MAX = 40  #: acc * mant has 40 bits: every larger shift gives 0


def acc_latency(config: AcceleratorConfig) -> int:
    """Cycles from a block's last step at the lane to its accumulators: select, shift, add the keys, accumulate."""
    return 3 + (config.attend_keys - 1).bit_length()


def row_latency(config: AcceleratorConfig) -> int:
    """Cycles from a block's accumulators to its row of results: the channels one by one through six stages."""
    return config.word + 6


class ShifterLane(wiring.Component):
    """Sums of shifted values of one token; driven by the ShifterArray chunk, without back-pressure.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    valid, first, last, rule, codes, v, v3 : ``attend_keys`` keys: codes (4 bits), values (8) and three times the
        values (10), key by key, channel by channel; first and last step of a block. v is ignored where the code is 15;
        rule comes a cycle before the others.
    acc : accumulators of the block (32 bits each), ``acc_latency`` cycles after the last step, for one cycle.
    mant, shift : row factor's mantissa and the total shift 0..40, taken in that cycle.
    row : the block's int8 results, ``row_latency`` cycles after that cycle, for one cycle.

    Latency/throughput: one step a cycle; a block's last step at least ``word`` cycles after the previous one's.

    Reference: arith.attend
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        n, word = config.attend_keys, config.word
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "rule": In(1),
                "codes": In(4 * n),
                "v": In(8 * n * word),
                "v3": In(10 * n * word),
                "mant": In(8),
                "shift": In(6),
                "acc": Out(ATTEND_ACC_BITS * word),
                "row": Out(8 * word),
            }
        )

    def elaborate(self, platform):
        m = Module()
        accs = self._accumulate(m)
        m.d.comb += self.acc.eq(Cat(accs))
        self._requantize(m, accs)
        return m

    def _accumulate(self, m: Module):
        n, word = self.config.attend_keys, self.config.word
        products = [[] for _ in range(word)]
        rule = Signal(reset_less=True)
        m.d.sync += rule.eq(self.rule)
        for key in range(n):
            zero, three, exponent = decode_code(self.codes.word_select(key, 4), rule)
            by = Signal(4, name=f"by{key}", reset_less=True)
            m.d.sync += by.eq(exponent)
            for channel in range(word):
                at = key * word + channel
                v = self.v.word_select(at, 8).as_signed()
                v3 = self.v3.word_select(at, 10).as_signed()
                # 1: once or three times the value, nothing for code 15
                term = Signal(signed(10), name=f"term{key}_{channel}", reset_less=True)
                m.d.sync += term.eq(Mux(zero, 0, Mux(three, v3, v)))
                # 2: shift
                product = Signal(signed(PRODUCT_BITS), name=f"product{key}_{channel}", reset_less=True)
                m.d.sync += product.eq((term << by)[:PRODUCT_BITS].as_signed())
                products[channel].append(product)
        # 3 ..: add the keys
        sums = [self._tree(m, p, channel) for channel, p in enumerate(products)]
        # last: accumulate; only the first step's mark has to follow, steps that are not valid add nothing
        valid, first = self.valid, self.first
        for i in range(acc_latency(self.config) - 1):
            valid_next, first_next = Signal(name=f"valid{i}"), Signal(name=f"first{i}", reset_less=True)
            m.d.sync += [valid_next.eq(valid), first_next.eq(first)]
            valid, first = valid_next, first_next
        accs = [Signal(signed(ATTEND_ACC_BITS), name=f"acc{i}", reset_less=True) for i in range(word)]
        with m.If(valid):
            m.d.sync += [
                a.eq((Mux(first, 0, a) + s)[:ATTEND_ACC_BITS].as_signed()) for a, s in zip(accs, sums, strict=True)
            ]
        done = self.last & self.valid
        for i in range(acc_latency(self.config)):
            done_next = Signal(name=f"last{i}")
            m.d.sync += done_next.eq(done)
            done = done_next
        self._done = done
        return accs

    def _tree(self, m: Module, values, channel: int):
        level = 0
        while len(values) > 1:
            level += 1
            pairs = []
            for i in range(0, len(values), 2):
                total = Signal(signed(PRODUCT_BITS + level), name=f"sum{channel}_{level}_{i // 2}", reset_less=True)
                m.d.sync += total.eq(values[i] + values[i + 1])
                pairs.append(total)
            values = pairs
        return values[0]

    def _requantize(self, m: Module, accs):
        """One channel a cycle: y = sat8(round_shift(acc * mant, shift))."""
        word = self.config.word
        # 0: take the block
        queue = [Signal(signed(ATTEND_ACC_BITS), name=f"queue{i}", reset_less=True) for i in range(word)]
        mant = Signal(8, reset_less=True)
        shifts = [Signal(6, name=f"shift{i}", reset_less=True) for i in range(4)]
        with m.If(self._done):
            m.d.sync += [mant.eq(self.mant), shifts[0].eq(self.shift)]
            m.d.sync += [q.eq(a) for q, a in zip(queue, accs, strict=True)]
        with m.Else():
            m.d.sync += [q.eq(a) for q, a in zip(queue, queue[1:], strict=False)]
        m.d.sync += [b.eq(a) for a, b in zip(shifts, shifts[1:], strict=False)]
        # 1, 2: multiply, in LUTs: 32 x 8 bits would take two DSP blocks
        product2 = multiply(m, queue[0], mant, 2, "product")[:40].as_signed()
        # 3, 4: 2 x >> n, coarse and fine; one more shift to the right follows the addition of the last place
        coarse = Signal(signed(41), reset_less=True)
        m.d.sync += coarse.eq(Cat(Const(0, 1), product2).as_signed() >> Cat(Const(0, 3), shifts[2][3:]))
        shifted = Signal(signed(41))
        m.d.comb += shifted.eq(coarse >> shifts[3][:3])
        twice = Signal(signed(9), reset_less=True)  # beyond -256..255 the result is saturated anyway
        fits = shifted[8:].all() | ~shifted[8:].any()
        m.d.sync += twice.eq(Mux(fits, shifted[:9], Cat((~shifted[-1]).replicate(8), shifted[-1])))
        # 5: round and saturate (only +128 can occur)
        rounded = Signal(signed(9))
        m.d.comb += rounded.eq((twice + 1) >> 1)
        y = Signal(8, reset_less=True)
        m.d.sync += y.eq(Mux(~rounded[8] & rounded[7], 127, rounded[:8]))
        # 6: collect
        row = [Signal(8, name=f"row{i}", reset_less=True) for i in range(word)]
        m.d.sync += [r.eq(n) for r, n in zip(row, [*row[1:], y], strict=True)]
        m.d.comb += self.row.eq(Cat(row))
