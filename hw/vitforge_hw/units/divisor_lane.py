"""Divisors of linear attention: relu(q) Ksum of every token beside an engine's lanes."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.config import ACC_BITS
from ..emit import block
from ..interfaces import FACTOR_BITS
from . import pe_cell
from .booth import multiply
from .divisor_factor import LO_BITS, DivisorFactor
from .packed import accumulate, stages

#: cycles from a tile's last operands to its factors: as long as the PE array takes for its sums, then the factor
LATENCY = 1 + pe_cell.LATENCY + DivisorFactor.LATENCY
DIVISOR_BITS = ACC_BITS - 1  #: relu(q) and Ksum are not negative


class DivisorLane(wiring.Component):
    """One more output lane, whose weights are the Ksum word; its sums become mantissa and exponent of each token.

    Its products of 7 x 7 bits are in LUTs.

    Parameters
    ----------
    cores, word, width : tokens, channels of a word and those taken a cycle

    Members
    -------
    x : the group's words of this step, negative bytes read as 0 before (byte ``token * word + i``)
    ksum : Ksum word of this step, 0..127 (byte i = channel i)
    half : which ``width`` channels of the words
    valid, first, last : a step of a division; it begins a tile; it ends a tile
    rule, lo : with ``valid``: how the tile divides
    factor_valid, factor : one cycle for each finished tile: per token mantissa (8 bits) and above it p (5), token 0 low

    Latency/throughput
    ------------------
    A tile whose last step's operands are there in cycle t has its factors in cycle t + LATENCY (17). One step a cycle.

    Reference
    ---------
    arith.divisor_factor of arith.query_product
    """

    def __init__(self, cores: int, word: int, width: int):
        self._cores, self._word, self._width = cores, word, width
        super().__init__(
            {
                "x": In(cores * word * 8),
                "ksum": In(word * 8),
                "half": In(1),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "rule": In(1),
                "lo": In(LO_BITS),
                "factor_valid": Out(1),
                "factor": Out(cores * FACTOR_BITS),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        return f"vf_divisor_lane_{self._cores}x{self._word}x{self._width}"

    def elaborate(self, platform):
        cores, word, width = self._cores, self._word, self._width
        m = Module()

        def operands(source, name):
            """The step's bytes of a word, 7 bits each, in registers."""
            parts = [source.word_select(h, 8 * width) for h in range(word // width)]
            late = Signal(8 * width, name=name, reset_less=True)
            m.d.sync += late.eq(parts[0] if len(parts) == 1 else Mux(self.half, parts[1], parts[0]))
            return [late.word_select(i, 8)[:7] for i in range(width)]

        sums_at = LATENCY - DivisorFactor.LATENCY
        valid = stages(m, self.valid, sums_at - 1, "valid")[-1]
        first = stages(m, self.first, sums_at - 1, "first", reset_less=True)[-1]
        w = operands(self.ksum, "w")
        divisors = []
        for token in range(cores):
            x = operands(self.x.word_select(token, 8 * word), f"x{token}")
            sums = [multiply(m, a, b, 1, f"product{token}_{i}_")[:14] for i, (a, b) in enumerate(zip(x, w))]
            level = 0
            while len(sums) > 1:
                level += 1
                pairs = [a + b for a, b in zip(sums[::2], sums[1::2])]
                sums = [Signal(len(p), name=f"sum{token}_{level}_{i}", reset_less=True) for i, p in enumerate(pairs)]
                m.d.sync += [s.eq(p) for s, p in zip(sums, pairs)]
            # the sums wait here, where they have the fewest bits
            late = stages(m, sums[0], sums_at - 3 - level, f"late{token}_", reset_less=True)[-1]
            divisors.append(accumulate(m, Cat(late, C(0, 1)).as_signed(), valid, first, ACC_BITS, f"divisor{token}"))

        ended = Signal(LATENCY)
        m.d.sync += ended.eq(Cat(self.valid & self.last, ended[:-1]))
        # rule and lo of the tile whose divisors are in the factor units
        rule, lo = self.rule, self.lo
        for i in range(LATENCY - DivisorFactor.LATENCY + DivisorFactor.RULE_AT):
            late = Signal(name=f"rule{i}", reset_less=True), Signal(LO_BITS, name=f"lo{i}", reset_less=True)
            m.d.sync += [late[0].eq(rule), late[1].eq(lo)]
            rule, lo = late
        factors = []
        for token, d in enumerate(divisors):
            m.submodules[f"factor{token}"] = factor = block(
                DivisorFactor(DIVISOR_BITS), f"vf_divisor_factor_{DIVISOR_BITS}"
            )
            m.d.comb += [factor.d.eq(d[:DIVISOR_BITS]), factor.rule.eq(rule), factor.lo.eq(lo)]
            factors += [factor.mant, factor.p]
        m.d.comb += [self.factor_valid.eq(ended[-1]), self.factor.eq(Cat(factors))]
        return m
