"""LayerNorm statistics: variance and reciprocal square root of the tokens of one group, one after the other."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch import arith
from ..arch.config import AcceleratorConfig
from ..units.rsqrt import Rsqrt

S1_BITS = 22  #: sum of at most 1024 values of 12 bits
S2_BITS = 33  #: sum of their squares
V_BITS = 42  #: C*S2 - S1^2 is at most (1024 * 4095 / 2)^2


class LayerNormStats(wiring.Component):
    """V = C*S2 - S1^2 and its reciprocal square root, one token a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load : one pulse per row; s1, s2 hold the sums of all tokens (concatenated, token 0 lowest), blocks is C / word
        and must be stable until done
    done : one cycle high when the results of all tokens are there; they stay until the next load
    sums : s1, kept
    m : 16 bits per token
    shift : 5 bits per token, bits to drop from d * m before the last, rounding one: e - LN_Z_FRAC - 1

    Latency
    -------
    latency(config) = cores + Rsqrt.LATENCY + 4 cycles from load to done.

    Reference
    ---------
    arch.arith.layernorm_stats, arch.arith.rsqrt
    """

    SHIFT_BITS = 5

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "load": In(1),
                "s1": In(S1_BITS * config.cores),
                "s2": In(S2_BITS * config.cores),
                "blocks": In(8),
                "done": Out(1),
                "sums": Out(S1_BITS * config.cores),
                "m": Out(16 * config.cores),
                "shift": Out(self.SHIFT_BITS * config.cores),
            }
        )

    @staticmethod
    def latency(config: AcceleratorConfig) -> int:
        return config.cores + Rsqrt.LATENCY + 4

    def elaborate(self, platform):
        m = Module()
        cores = self.config.cores
        log_word = exact_log2(self.config.word)

        # the sums rotate, one token a cycle, until they are back in their places
        s1 = Signal(S1_BITS * cores, reset_less=True)
        s2 = Signal(S2_BITS * cores, reset_less=True)
        left = Signal(range(cores + 1))
        with m.If(self.load):
            m.d.sync += [s1.eq(self.s1), s2.eq(self.s2), left.eq(cores)]
        with m.Elif(left != 0):
            m.d.sync += [s1.eq(Cat(s1[S1_BITS:], s1[:S1_BITS])), s2.eq(s2[S2_BITS:]), left.eq(left - 1)]

        # two products, a register behind each for the multiplier's pipeline, then the difference
        head = Signal(signed(S1_BITS))
        m.d.comb += head.eq(s1[:S1_BITS])
        product_bits = V_BITS + 1 - log_word
        scaled = [Signal(product_bits, name=f"scaled{i}", reset_less=True) for i in range(2)]
        square = [Signal(V_BITS + 1, name=f"square{i}", reset_less=True) for i in range(2)]
        v = Signal(V_BITS, reset_less=True)
        valid = Signal(3)
        m.d.sync += [
            scaled[0].eq(s2[:S2_BITS] * self.blocks),
            scaled[1].eq(scaled[0]),
            square[0].eq(head * head),
            square[1].eq(square[0]),
            v.eq((scaled[1] << log_word)[:V_BITS] - square[1][:V_BITS]),
            valid.eq(Cat(left != 0, valid)),
        ]

        m.submodules.rsqrt = rsqrt = Rsqrt(V_BITS)
        m.d.comb += [rsqrt.valid.eq(valid[2]), rsqrt.v.eq(v)]

        # results enter at the top and end in token order
        mantissas = Signal(16 * cores, reset_less=True)
        shifts = Signal(self.SHIFT_BITS * cores, reset_less=True)
        arrived = Signal(range(cores))
        shift = Signal(self.SHIFT_BITS)
        m.d.comb += shift.eq(rsqrt.e + (64 - (arith.LN_Z_FRAC + 1)))
        with m.If(rsqrt.out_valid):
            m.d.sync += [
                mantissas.eq(Cat(mantissas[16:], rsqrt.m)),
                shifts.eq(Cat(shifts[self.SHIFT_BITS :], shift)),
                arrived.eq(arrived + 1),
            ]
        done = Signal()
        last = arrived == cores - 1
        m.d.sync += done.eq(rsqrt.out_valid & last)
        with m.If(rsqrt.out_valid & last):
            m.d.sync += arrived.eq(0)
        m.d.comb += [self.done.eq(done), self.sums.eq(s1), self.m.eq(mantissas), self.shift.eq(shifts)]
        return m
