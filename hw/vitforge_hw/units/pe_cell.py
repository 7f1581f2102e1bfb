"""Multiplier cell of the PE array: two tokens share each multiplier."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..emit import block

FIELD = 18  #: distance of the two tokens' fields: eight products of |w| <= 127 stay within FIELD bits
PACKED_BITS = 27  #: (a1 << FIELD) + a0 for int8 a0, a1
PRODUCT_BITS = 33  #: |packed * w| < 2^32 for |w| <= 127
TREE = 8  #: products added before the fields are split
LATENCY = 7  #: cycles from an operand to the accumulator that holds it


def add(a, b, bits: int):
    """Signed sum in ``bits`` bits (the caller knows that it fits)."""
    return (a + b)[:bits].as_signed()


def pack(a0, a1):
    """(a1 << FIELD) + a0 as a signed number of PACKED_BITS bits: the upper field borrows one where a0 is negative."""
    low = Cat(a0, a0[-1].replicate(FIELD - len(a0)))
    return Cat(low, add(a1, a0[-1:].as_signed(), PACKED_BITS - FIELD)).as_signed()


def packed_inputs(m: Module, x, half, cores: int, word: int, width: int) -> list[list[Signal]]:
    """Registers with the packed inputs of one step: per pair of tokens ``width`` of them.

    x: a group's words (byte ``token * word + i``); half: which ``width`` bytes of each word. The last of an odd number
    of tokens is token 0 of a pair by itself: the other one is 0.
    """

    def byte(token, i):
        if token == cores:
            return C(0, signed(8))
        parts = [x.word_select(token * word + first + i, 8).as_signed() for first in range(0, word, width)]
        return parts[0] if len(parts) == 1 else Mux(half, parts[1], parts[0]).as_signed()

    pairs = []
    for pair in range((cores + 1) // 2):
        packed = []
        for i in range(width):
            p = Signal(signed(PACKED_BITS), name=f"packed{pair}_{i}", reset_less=True)
            m.d.sync += p.eq(pack(byte(2 * pair, i), byte(2 * pair + 1, i)))
            packed.append(p)
        pairs.append(packed)
    return pairs


def cells(m: Module, pairs: list[list[Signal]], w, valid, first, cores: int, name: str) -> list[Signal]:
    """One output lane: a cell for each pair of tokens, all with the weights ``w``; the accumulator of each token."""
    width, acc = len(pairs[0]), []
    for n, packed in enumerate(pairs):
        cell = block(PECell(width), f"vf_pe_cell_{width}")
        m.submodules[f"{name}{n}"] = cell
        m.d.comb += [
            *(cell.a[i].eq(p) for i, p in enumerate(packed)),
            cell.w.eq(w),
            cell.valid.eq(valid),
            cell.first.eq(first),
        ]
        acc += [cell.acc0, cell.acc1]
    return acc[:cores]


class PECell(wiring.Component):
    """``width`` packed multipliers for two tokens and one output lane, with their accumulators.

    Per tree of 8: p = sum_i ((a1[i] << 18) + a0[i]) * w[i]; token 0 gets p[:18], token 1 gets p[18:] + p[17].

    Parameters
    ----------
    width : inputs a cycle, 8 or 16

    Members
    -------
    a : the packed inputs of both tokens (``pack``)
    w : ``width`` int8 weights, -127..127, element 0 in the low byte
    valid, first : the operands count; they begin a new sum
    acc0, acc1 : accumulators of token 0 and token 1

    Latency/throughput
    ------------------
    Operands of cycle t are in acc0/acc1 in cycle t + LATENCY (7): operand, product, three tree, split, accumulator
    registers. One step a cycle.

    Reference
    ---------
    sum(a * w) modulo 2^27
    """

    def __init__(self, width: int):
        if width % TREE:
            raise ValueError(f"PE cell: width must be a multiple of {TREE}, not {width}")
        self._width = width
        super().__init__(
            {
                "a": In(signed(PACKED_BITS)).array(width),
                "w": In(8 * width),
                "valid": In(1),
                "first": In(1),
                "acc0": Out(signed(ACC_BITS)),
                "acc1": Out(signed(ACC_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        def reg(value, name):
            r = Signal(signed(len(value)), name=name, reset_less=True)
            m.d.sync += r.eq(value)
            return r

        low, high, carries = [], [], []
        for tree in range(self._width // TREE):
            nodes = []
            for i in range(tree * TREE, (tree + 1) * TREE):
                a = reg(self.a[i], f"a_r{i}")
                w = reg(self.w.word_select(i, 8).as_signed(), f"w_r{i}")
                nodes.append(reg((a * w)[:PRODUCT_BITS].as_signed(), f"product{i}"))
            bits = PRODUCT_BITS
            while len(nodes) > 1:
                bits += 1
                nodes = [
                    reg(add(x, y, bits), f"tree{tree}_{bits - PRODUCT_BITS}_{i}")
                    for i, (x, y) in enumerate(zip(nodes[::2], nodes[1::2], strict=True))
                ]
            low.append(nodes[0][:FIELD].as_signed())
            high.append(nodes[0][FIELD:])
            carries.append(nodes[0][FIELD - 1])
        # as wide as the accumulators, so that the Verilog needs no implicit extension
        sum0 = Signal(signed(ACC_BITS), reset_less=True)
        sum1 = Signal(signed(ACC_BITS), reset_less=True)
        rounded = [(hi + carry)[:FIELD].as_signed() for hi, carry in zip(high, carries, strict=True)]
        m.d.sync += [sum0.eq(sum(low[1:], low[0])), sum1.eq(sum(rounded[1:], rounded[0]))]

        valid, first = self.valid, self.first
        for i in range(LATENCY - 1):
            v = Signal(name=f"valid{i}")
            f = Signal(name=f"first{i}", reset_less=True)
            m.d.sync += [v.eq(valid), f.eq(first)]
            valid, first = v, f
        acc0, acc1 = Signal.like(self.acc0, reset_less=True), Signal.like(self.acc1, reset_less=True)
        with m.If(valid):
            m.d.sync += [
                acc.eq(add(Mux(first, C(0, signed(ACC_BITS)), acc), total, ACC_BITS))
                for acc, total in ((acc0, sum0), (acc1, sum1))
            ]
        m.d.comb += [self.acc0.eq(acc0), self.acc1.eq(acc1)]
        return m
