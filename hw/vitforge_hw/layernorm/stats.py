"""LayerNorm statistics: variance and reciprocal square root of the tokens of one group, one after the other."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from ..arch import arith
from ..arch.config import AcceleratorConfig
from ..units.booth import multiply
from ..units.rsqrt import Rsqrt

X_BITS = 12  #: values, PTF exponents applied
MIN_CHANNELS = 1024  #: widths are made for rows of at least so many channels


def _longest(config: AcceleratorConfig) -> int:
    return max(MIN_CHANNELS, config.max_channels)


def s1_bits(config: AcceleratorConfig) -> int:
    """Bits of a sum of ``max_channels`` values, signed: 22 for 1024 channels, 24 for 2560."""
    return X_BITS + ceil_log2(_longest(config))


def s2_bits(config: AcceleratorConfig) -> int:
    """Bits of a sum of their squares, each at most 2^22: 33 for 1024 channels, 34 for 2560."""
    return (_longest(config) << 2 * (X_BITS - 1)).bit_length()


def v_bits(config: AcceleratorConfig) -> int:
    """Bits of V = C*S2 - S1^2, at most (C * 4095 / 2)^2: 42 for 1024 channels, 45 for 2560. C*S2 and S1^2 have at most
    one more."""
    return (((_longest(config) * ((1 << X_BITS) - 1)) ** 2) >> 2).bit_length()


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
    latency(config) = cores + Rsqrt.LATENCY + 5 cycles from load to done.

    Reference
    ---------
    arch.arith.layernorm_stats, arch.arith.rsqrt
    """

    SHIFT_BITS = 5

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.s1_bits, self.s2_bits, self.v_bits = s1_bits(config), s2_bits(config), v_bits(config)
        super().__init__(
            {
                "load": In(1),
                "s1": In(self.s1_bits * config.cores),
                "s2": In(self.s2_bits * config.cores),
                "blocks": In(8),
                "done": Out(1),
                "sums": Out(self.s1_bits * config.cores),
                "m": Out(16 * config.cores),
                "shift": Out(self.SHIFT_BITS * config.cores),
            }
        )

    @staticmethod
    def latency(config: AcceleratorConfig) -> int:
        return config.cores + Rsqrt.LATENCY + 5

    def elaborate(self, platform):
        m = Module()
        cores, s1_bits, s2_bits, v_bits = self.config.cores, self.s1_bits, self.s2_bits, self.v_bits
        log_word = exact_log2(self.config.word)

        # the sums rotate, one token a cycle, until they are back in their places
        s1 = Signal(s1_bits * cores, reset_less=True)
        s2 = Signal(s2_bits * cores, reset_less=True)
        left = Signal(range(cores + 1))
        blocks = Signal(8, reset_less=True)
        m.d.sync += blocks.eq(self.blocks)
        with m.If(self.load):
            m.d.sync += [s1.eq(self.s1), s2.eq(self.s2), left.eq(cores)]
        with m.Elif(left != 0):
            m.d.sync += [s1.eq(Cat(s1[s1_bits:], s1[:s1_bits])), s2.eq(s2[s2_bits:]), left.eq(left - 1)]

        # two products of three cycles, in LUTs: less than one in 16 cycles is needed; then the difference
        head = Signal(signed(s1_bits))
        m.d.comb += head.eq(s1[:s1_bits])
        product_bits = v_bits + 1 - log_word
        scaled = multiply(m, s2[:s2_bits], blocks, 3, "scaled")[:product_bits]
        square = multiply(m, head, head, 3, "square")
        v = Signal(v_bits, reset_less=True)
        valid = Signal(4)
        m.d.sync += [
            v.eq((scaled << log_word)[:v_bits] - square[:v_bits]),
            valid.eq(Cat(left != 0, valid)),
        ]

        m.submodules.rsqrt = rsqrt = Rsqrt(v_bits)
        m.d.comb += [rsqrt.valid.eq(valid[-1]), rsqrt.v.eq(v)]

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
