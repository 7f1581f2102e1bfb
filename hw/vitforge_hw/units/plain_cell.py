"""Multiplier cell of the PE array for FPGAs whose multipliers hold no packed operand: one int8 product each."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from .packed import CHAIN_LATENCY, TREE, accumulate, chains, stages

LATENCY = CHAIN_LATENCY + 2  #: as PECell
CHAIN_BITS = 18  #: sum of TREE products |a * w| <= 128 * 127


class PlainCell(wiring.Component):
    """2 x ``width`` multipliers of 8 x 8 bits for two tokens and one output lane, with their accumulators.

    ECP5 has multipliers of 18 x 18 bits, 7-series of 25 x 18: the operand of 27 bits of ``PECell`` would take two.

    Parameters
    ----------
    width : inputs of a token a cycle, 8 or 16

    Members
    -------
    a : bytes of token 0, then of token 1; input i of each i modulo 8 cycles late
    w : ``width`` int8 weights, -127..127, element 0 in the low byte, as late as the inputs
    valid, first : with the operands of position 0: they count; they begin a new sum
    acc0, acc1 : accumulators of token 0 and token 1

    Latency/throughput
    ------------------
    As PECell: operands of cycle t are in acc0/acc1 in cycle t + LATENCY (12). One step a cycle.

    Reference
    ---------
    sum(a * w) modulo 2^27
    """

    def __init__(self, width: int):
        if width % TREE:
            raise ValueError(f"plain cell: width must be a multiple of {TREE}, not {width}")
        self._width = width
        super().__init__(
            {
                "a": In(signed(8)).array(2 * width),
                "w": In(8 * width),
                "valid": In(1),
                "first": In(1),
                "acc0": Out(signed(ACC_BITS)),
                "acc1": Out(signed(ACC_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self._width
        weights = [self.w.word_select(i, 8).as_signed() for i in range(width)]
        parts = chains(m, list(self.a), [*weights, *weights], 0, 0, 1, fixed=True, a_bits=8, p_bits=CHAIN_BITS)
        valid = stages(m, self.valid, LATENCY - 1, "valid")
        first = stages(m, self.first, LATENCY - 1, "first", reset_less=True)
        for token, out in enumerate((self.acc0, self.acc1)):
            ends = [part.p for part in parts[token * width : (token + 1) * width][TREE - 1 :: TREE]]
            total = Signal(signed(ACC_BITS), name=f"sum{token}", reset_less=True)
            m.d.sync += total.eq(sum(ends[1:], ends[0]))
            m.d.comb += out.eq(accumulate(m, total, valid[-1], first[-1], ACC_BITS, f"acc{token}_r"))
        return m
