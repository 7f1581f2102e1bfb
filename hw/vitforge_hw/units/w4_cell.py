"""Multiplier cell for weights of 8 and of 4 bits: a multiplier gives two 8 x 8 or four 8 x 4 products.

Weights of 8 bits: ``pe_cell``. Weights of 4 bits, two tokens a0, a1 by two output lanes w0, w1:

    p = ((a1 << 18) + a0) * ((w1 << 9) + w0) = S00 + (S01 << 9) + (S10 << 18) + (S11 << 27),   Stn = at * wn

Two multipliers are a chain then, and each S, a sum of two products, has 12 bits: three more than its distance from the
next. With m = S mod 8 of the next one, from the operands' low bits in LUTs, the three bits above a field are
h = floor(field / 512) = (p's bits there - m) mod 8, which is also what the field borrows from the next one:

    h0 = p[9:12] - m01,  h1 = p[18:21] - m10,  h2 = p[27:30] - m11          (mod 8, signed)
    S00 = p[0:9] + 512 h0,  S01 = p[9:18] + 512 h1 - h0,  S10 = p[18:27] + 512 h2 - h1,  S11 = p[27:39] - h2

so that fields and h are added apart, over all chains, and put together once. Exact for |w| <= 7.
"""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..emit import block
from .dsp import Source, dsp
from .packed import (
    CHAIN_LATENCY,
    FIELD,
    PACKED_BITS,
    SUM_BITS,
    TREE,
    accumulate,
    add_carry,
    reg,
    skewed_bytes,
    stages,
)

HALF = 9  #: distance of the two weights of a multiplier
WEIGHT_BITS = 13  #: (w1 << HALF) + w0
LOW = 3  #: bits of an operand that the overlap of two fields needs
LOW_DELAY = 4  #: cycles from a byte to its low bits at the cell, beyond the skew of its pair
LATENCY = CHAIN_LATENCY + 5  #: operands of position 0 -> accumulators of output lane 0; those of lane 1: one more


def low_bits(m: Module, pairs: list, name: str) -> Signal:
    """Low bits of two operands of every position, (first, second) each, as the cells want them: element ``2 * i`` and
    ``2 * i + 1``; given a cycle before the operands of position 0."""
    late = []
    for i, operands in enumerate(pairs):
        value = Cat(x[:LOW] for x in operands)
        late += stages(m, value, i % TREE // 2 * 2 + LOW_DELAY, f"{name}_low{i}_", reset_less=True)[-1:]
    return Cat(late)


def weight_registers(m: Module, w, four: list, name: str) -> tuple[list[Signal], Signal]:
    """One lane's weights of a step, skewed: WEIGHT_BITS bits each, and the low bits of their nibbles.

    four: element i: the bytes of position i modulo TREE, as late as they are, hold two weights.
    """
    late = skewed_bytes(m, w, f"{name}_")
    registers = []
    for i in range(len(w) // 8):
        byte, two = late.word_select(i, 8), four[i % TREE]
        sign = byte[3]
        upper = (byte[4:].as_signed() - sign)[:4]  # the lower weight borrows from the upper one
        b = Signal(signed(WEIGHT_BITS), name=f"{name}_packed{i}", reset_less=True)
        lower = Mux(two, Cat(byte[:4], sign.replicate(HALF - 4)), Cat(byte, byte[7]))
        m.d.sync += b.eq(Cat(lower, Mux(two, upper, byte[7].replicate(4))))
        registers.append(b)
    raw = [w.word_select(i, 8) for i in range(len(w) // 8)]
    return registers, low_bits(m, [(byte[:4], byte[4:]) for byte in raw], name)


class W4Cell(wiring.Component):
    """``width`` multipliers for two tokens: one output lane of 8-bit weights, or two of 4-bit weights.

    Parameters
    ----------
    width : inputs a cycle, 8 or 16

    Members
    -------
    a : the packed inputs of both tokens (``pack``), input i i modulo 8 cycles late
    a_low : their low bits, element ``2 * i + token``, LOW bits; those of inputs 2 j and 2 j + 1 come 2 j + 3 cycles
        after the operands of position 0 (j modulo 4)
    w : weights (``weight_registers``), as late as the inputs; w_low : low bits of their nibbles, element
        ``2 * i + lane``, as late as a_low
    valid, first, four : with the operands of position 0: they count; they begin a new sum; weights of 4 bits
    acc : accumulators, element ``token`` of the only (four: the lower) lane, ``2 + token`` of the upper lane

    Latency/throughput
    ------------------
    Operands of cycle t are in acc[0] and acc[1] in cycle t + LATENCY (15), in acc[2] and acc[3] a cycle later. One step
    a cycle, of either kind.

    Reference
    ---------
    sum(a * w) modulo 2^27
    """

    def __init__(self, width: int):
        if width % TREE:
            raise ValueError(f"W4 cell: width must be a multiple of {TREE}, not {width}")
        self._width = width
        super().__init__(
            {
                "a": In(signed(PACKED_BITS)).array(width),
                "a_low": In(2 * LOW * width),
                "w": In(signed(WEIGHT_BITS)).array(width),
                "w_low": In(2 * LOW * width),
                "valid": In(1),
                "first": In(1),
                "four": In(1),
                "acc": Out(signed(ACC_BITS)).array(4),
            }
        )

    def elaborate(self, platform):
        m = Module()
        four = stages(m, self.four, LATENCY, "four")
        valid = stages(m, self.valid, LATENCY, "valid")
        first = stages(m, self.first, LATENCY, "first", reset_less=True)
        parts = []
        for i in range(self._width):
            place = i % TREE
            below = parts[-1] if place else None
            cut = four[place] if place % 2 == 0 else 0  # a chain of two
            source = Source.ZERO if below is None else Mux(cut, Source.ZERO, Source.BELOW)
            parts.append(dsp(m, f"dsp{i}", self.a[i], self.w[i], source, Const(1), below, b_bits=WEIGHT_BITS))
        fields, above = self._split(m, parts)
        # ---- two lanes of 4-bit weights, from LATENCY - 2 on
        lower, upper = (self._whole(n, fields, above) for n in range(2))
        # ---- one lane of 8-bit weights, in time for the same registers
        mode = four[LATENCY - 3]
        for token, eight in enumerate(self._eight(m, parts)):
            total = Signal(signed(ACC_BITS), name=f"total{token}", reset_less=True)
            m.d.sync += total.eq(Mux(mode, lower[token], eight))
            m.d.comb += self.acc[token].eq(accumulate(m, total, valid[-2], first[-2], ACC_BITS, f"acc{token}"))
            late = reg(m, reg(m, upper[token], f"upper{token}"), f"late{token}")
            count = valid[-1] & four[-1]
            m.d.comb += self.acc[2 + token].eq(accumulate(m, late, count, first[-1], ACC_BITS, f"acc{2 + token}"))
        return m

    def _split(self, m, parts):
        """Sums of the fields (unsigned below, signed in the uppermost one) and of what lies above them, over all pairs:
        4 and 3 signals, LATENCY - 2 cycles after the operands."""
        chains = []
        for chain in range(self._width // TREE):
            pairs = [self._pair(m, parts, chain * TREE // 2 + j) for j in range(TREE // 2)]
            fields = [self._along(m, [p[0][f] for p in pairs], f"field{chain}_{f}") for f in range(4)]
            above = [self._along(m, [p[1][f] for p in pairs], f"above{chain}_{f}") for f in range(3)]
            chains.append((fields, above))
        total = lambda values, name: reg(m, sum(values[1:], values[0]), name)  # noqa: E731
        fields = [reg(m, total([c[0][f] for c in chains], f"fields{f}"), f"fields{f}_late") for f in range(4)]
        above = [total([c[1][f] for c in chains], f"above{f}") for f in range(3)]
        return fields, above

    def _pair(self, m, parts, n):
        """A pair's fields, in the cycle of its sum, and the bits above them, a cycle later."""
        p = parts[2 * n + 1].p
        low = lambda bus, side: [bus.word_select(2 * i + side, LOW) for i in (2 * n, 2 * n + 1)]  # noqa: E731
        above = []
        for f, (token, lane) in enumerate(((0, 1), (1, 0), (1, 1))):  # of the next field
            products = [(x * y)[:LOW] for x, y in zip(low(self.a_low, token), low(self.w_low, lane))]
            both = Signal(LOW, name=f"low{n}_{f}", reset_less=True)
            m.d.sync += both.eq(products[0] + products[1])
            at = HALF * (f + 1)
            above.append(reg(m, (p[at : at + LOW] - both)[:LOW].as_signed(), f"above_pair{n}_{f}"))
        fields = [Cat(p[HALF * f : HALF * (f + 1)], Const(0, 1)).as_signed() for f in range(3)]
        return [*fields, p[3 * HALF : 3 * HALF + 12].as_signed()], above

    @staticmethod
    def _along(m, values, name):
        """Sum of values that come two cycles after one another, a cycle after the last one."""
        total = reg(m, values[0], f"{name}_0")
        for n, value in enumerate(values[1:], 1):
            late = reg(m, total, f"{name}_{n}_late")
            total = reg(m, late + value, f"{name}_{n}")
        return total

    @staticmethod
    def _whole(lane, fields, above):
        """Sums of token 0 and 1 for a lane (combinational): field + 512 above - what the field below borrowed."""
        return [
            fields[f] + ((above[f] << HALF) if f < 3 else 0) - (above[f - 1] if f else 0)
            for f in (lane, 2 + lane)
        ]

    @staticmethod
    def _eight(m, parts):
        """The two sums of chains of TREE products of 8-bit weights, LATENCY - 2 cycles after the operands."""
        ends = [part.p[:SUM_BITS] for part in parts[TREE - 1 :: TREE]]
        bits = SUM_BITS - FIELD + 2
        low = reg(m, sum((p[:FIELD].as_signed() for p in ends[1:]), ends[0][:FIELD].as_signed()), "eight0")
        # what the lower field borrowed from the upper one comes back
        upper = [add_carry(p[FIELD:].as_signed(), Const(0, bits), p[FIELD - 1], bits) for p in ends]
        high = reg(m, sum(upper[1:], upper[0]), "eight1")
        return [reg(m, reg(m, s, f"eight{i}_late0"), f"eight{i}_late1") for i, s in enumerate((low, high))]


def w4_lanes(m: Module, pairs: list, x, w, four, valid, first, cores: int, lanes: int) -> list[list[Signal]]:
    """The array: cells of all lanes and pairs of tokens; per output lane the accumulators of each token, the upper
    lanes' (weights in the high nibbles) behind all lower ones.

    pairs: packed inputs (``pe_cell.packed_inputs``) of the words x; w: weight row, four: what it holds, with it;
    valid, first: a cycle later.
    """
    width = len(pairs[0])
    modes = [four, *stages(m, four, TREE - 1, "four")]
    byte = lambda token, i: x.word_select(token * width + i, 8)  # noqa: E731
    lows = []
    for n in range(len(pairs)):
        both = [(byte(2 * n, i), byte(2 * n + 1, i)) for i in range(width)]
        lows.append(low_bits(m, both, f"x{n}"))
    acc: list[list[Signal]] = [[] for _ in range(2 * lanes)]
    for lane in range(lanes):
        weights, w_low = weight_registers(m, w.word_select(lane, 8 * width), modes, f"w{lane}")
        for n, packed in enumerate(pairs):
            cell = block(W4Cell(width), f"vf_w4_cell_{width}")
            m.submodules[f"cell{lane}_{n}"] = cell
            m.d.comb += [
                *(cell.a[i].eq(p) for i, p in enumerate(packed)),
                *(cell.w[i].eq(b) for i, b in enumerate(weights)),
                cell.a_low.eq(lows[n]),
                cell.w_low.eq(w_low),
                cell.valid.eq(valid),
                cell.first.eq(first),
                cell.four.eq(modes[1]),
            ]
            acc[lane] += [cell.acc[0], cell.acc[1]]
            acc[lanes + lane] += [cell.acc[2], cell.acc[3]]
    return [lane[:cores] for lane in acc]
