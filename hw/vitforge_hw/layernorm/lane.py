"""One token's slice of the LayerNorm chunk: sums, local store, second pass."""

from types import SimpleNamespace

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arch.config import AcceleratorConfig
from ..units import hardswish
from ..units.booth import multiply
from ..units.packed import reg, stages
from ..units.requantize import P_BITS, round_shift, saturate
from .stats import X_BITS, LayerNormStats, s1_bits, s2_bits

P_STAGE = 12  #: stage of the re-quantized value: y, or p in front of Hardswish
Q6_STAGE = P_STAGE + hardswish.CLIP_STAGE
H_STAGE = P_STAGE + hardswish.LATENCY  #: y_shift2 is taken here, the offset a stage later, y follows


def lane_name(config: AcceleratorConfig) -> str:
    """Name of the emitted block."""
    return f"vf_layernorm_lane_{config.word}x{config.max_channels}" + ("_hardswish" if config.trio else "")


def store_bits(config: AcceleratorConfig) -> int:
    """Address bits of the local store: a ring with room for two of the longest rows."""
    return (2 * config.max_channels - 1).bit_length()


def round_saturate(m, value, bits: int, name: str):
    """(value + 1) >> 1 of a signed value, clipped to ``bits`` bits; value + 1 must not overflow its bits."""
    rounded = Signal(len(value) - 1, name=name)
    m.d.comb += rounded.eq(value[1:] + value[0])
    sign, rest = rounded[-1], rounded[bits - 1 : -1]
    overflow = Mux(sign, ~rest.all(), rest.any())
    return Mux(overflow, Cat(~sign.replicate(bits - 1), sign), rounded[:bits])


class LayerNormLane(wiring.Component):
    """The arithmetic of one token; all lanes run in lockstep under the chunk's control.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load, wide, low, high : the next block of channels: low bytes, and the upper nibbles where ``wide``
    shift, first, a, store_addr : sum and store one channel, x = q << a; ``first`` starts new sums
    s1, s2 : sums of the row, valid SUM_LATENCY cycles after its last ``shift``
    fetch_addr : address of a channel in the local store (stage 0 of the second pass)
    take_c, take_s1, take_m, take_shift : latch this row's constants (a row's first channel is in stage 1, 2, 3, 5)
    blocks, row_s1, row_m, row_shift : the constants: C / word, S1, mantissa and shift of the reciprocal square root
    gamma, beta, y_shift : parameters of the channel in stage 8, 9, 10
    q3, q6, y_shift2, offset : with ``trio`` only: constants of Hardswish for the channel in stage P_STAGE, Q6_STAGE,
        H_STAGE, H_STAGE + 1; without activation 4095, 1, 0, 0, which leave y = sat8(p)
    y_valid : the channel in stage out_latency(config) - 1 counts
    y : finished block, complete out_latency(config) cycles after its last channel was in stage 0

    Latency
    -------
    SUM_LATENCY = 5, out_latency(config) = 12, with ``trio`` 19; one channel a cycle.

    Reference
    ---------
    arch.arith.layernorm; arch.arith.layernorm_hardswish
    """

    SUM_LATENCY = 5

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.s1_bits, self.s2_bits = s1_bits(config), s2_bits(config)
        word = config.word
        super().__init__(
            {
                "load": In(1),
                "wide": In(1),
                "low": In(8 * word),
                "high": In(4 * word),
                "shift": In(1),
                "first": In(1),
                "a": In(2),
                "store_addr": In(store_bits(config)),
                "s1": Out(self.s1_bits),
                "s2": Out(self.s2_bits),
                "fetch_addr": In(store_bits(config)),
                "take_c": In(1),
                "take_s1": In(1),
                "take_m": In(1),
                "take_shift": In(1),
                "blocks": In(8),
                "row_s1": In(self.s1_bits),
                "row_m": In(16),
                "row_shift": In(LayerNormStats.SHIFT_BITS),
                "gamma": In(signed(16)),
                "beta": In(signed(32)),
                "y_shift": In(6),
                "y_valid": In(1),
                "y": Out(8 * word),
            }
            | ({"q3": In(P_BITS), "q6": In(P_BITS), "y_shift2": In(5), "offset": In(signed(8))} if config.trio else {})
        )

    @staticmethod
    def out_latency(config: AcceleratorConfig) -> int:
        return H_STAGE + 3 if config.trio else P_STAGE

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = Memory(shape=X_BITS, depth=1 << store_bits(self.config), init=[])
        self._first_pass(m, store)
        self._second_pass(m, store)
        return m

    def _first_pass(self, m, store):
        word, s1_bits, s2_bits = self.config.word, self.s1_bits, self.s2_bits
        # what all lanes share is in a register of each lane's own: hundreds of loads
        names = ("load", "wide", "low", "high", "shift", "first", "a", "store_addr")
        given = {}
        for name in names:
            port = getattr(self, name)
            given[name] = Signal(len(port), name=f"{name}_r", reset_less=name not in ("load", "shift"))
            m.d.sync += given[name].eq(port)
        given = SimpleNamespace(**given)

        # 1: the present block, one channel leaves at the bottom
        channels = Signal(X_BITS * word, reset_less=True)
        values = []
        for i in range(word):
            low, high = given.low.word_select(i, 8), given.high.word_select(i, 4)
            values.append(Cat(low, Mux(given.wide, high, low[7].replicate(4))))
        with m.If(given.load):
            m.d.sync += channels.eq(Cat(values))
        with m.Elif(given.shift):
            m.d.sync += channels.eq(channels[X_BITS:])

        # 2: PTF exponent; 3, 4: square; 5: sums
        q = channels[:X_BITS]
        q = Mux(given.a[0], Cat(C(0, 1), q[:-1]), q)
        q = Mux(given.a[1], Cat(C(0, 2), q[:-2]), q)
        x = reg(m, q.as_signed(), "first_x")
        square = multiply(m, x, x, 2, "square")[: 2 * X_BITS - 1]  # in LUTs, as C x below
        x4 = reg(m, reg(m, x, "first_x3"), "first_x4")
        addr = stages(m, given.store_addr, 1, "addr", reset_less=True)[0]
        valid = stages(m, given.shift, 3, "first_valid")
        first = stages(m, given.first, 3, "first_first", reset_less=True)[-1]
        s1 = Signal(signed(s1_bits), name="sum", reset_less=True)
        s2 = Signal(s2_bits, name="sum_squares", reset_less=True)
        with m.If(valid[-1]):
            m.d.sync += [
                s1.eq((Mux(first, C(0, signed(s1_bits)), s1) + x4)[:s1_bits]),
                s2.eq((Mux(first, C(0, s2_bits), s2) + square)[:s2_bits]),
            ]
        m.d.comb += [self.s1.eq(s1), self.s2.eq(s2)]

        write = store.write_port()
        m.d.comb += [write.addr.eq(addr), write.data.eq(x), write.en.eq(valid[0])]

    def _second_pass(self, m, store):
        log_word, s1_bits = exact_log2(self.config.word), self.s1_bits

        def register(name, value, bits, sign=True):
            out = Signal(signed(bits) if sign else bits, name=name, reset_less=True)
            m.d.sync += out.eq(value)
            return out

        def held(name, take, value, bits):
            out = Signal(bits, name=name, reset_less=True)
            with m.If(take):
                m.d.sync += out.eq(value)
            return out

        blocks = held("blocks_row", self.take_c, self.blocks, 8)
        s1 = held("s1_row", self.take_s1, self.row_s1.as_signed(), s1_bits + 1)
        mantissa = held("m_row", self.take_m, self.row_m, 16)
        z_shift = held("shift_row", self.take_shift, self.row_shift, LayerNormStats.SHIFT_BITS)

        # 1, 2: local store; 3: C x / word; 4: d = C x - S1
        read = store.read_port()
        m.d.comb += read.addr.eq(self.fetch_addr)
        x = register("x2", read.data, X_BITS)
        bits = s1_bits + 1
        cx = multiply(m, x.as_signed(), blocks, 1, "cx")[: bits - log_word].as_signed()
        d = register("d4", (Cat(C(0, log_word), cx).as_signed() - s1.as_signed())[:bits], bits)

        # 5, 6: d m; 7, 8: z = sat16(round_shift(d m, shift + 1))
        product_bits = bits + 16
        dm = register("dm5", (d * mantissa)[:product_bits], product_bits)
        dm = register("dm6", dm, product_bits)
        dropped = register("dm7", dm >> z_shift, product_bits)
        z = register("z8", round_saturate(m, dropped, 16, "z_rounded"), 16)

        # 9: z gamma; 10: + beta; 11, 12: y = sat8(round_shift(z gamma + beta, shift)), twice the value is shifted;
        # with Hardswish p has 12 bits and y follows
        zg = register("zg9", z * self.gamma, 32)
        t = register("t10", zg + self.beta, 33)
        u = register("u11", Cat(C(0, 1), t).as_signed() >> self.y_shift, 34)
        result = self._hardswish(m, u) if self.config.trio else round_saturate(m, u, 8, "y_rounded")
        y = Signal(8 * self.config.word, reset_less=True)
        with m.If(self.y_valid):
            m.d.sync += y.eq(Cat(y[8:], result))
        m.d.comb += self.y.eq(y)

    def _hardswish(self, m, u):
        """y of a channel in stage H_STAGE + 2 out of twice the shifted value in stage 11."""
        p = Signal(signed(P_BITS), name="p12", reset_less=True)
        m.d.sync += p.eq(round_saturate(m, u, P_BITS, "p_rounded"))
        m.submodules.hardswish = unit = hardswish.Hardswish()
        m.d.comb += [unit.p.eq(p), unit.q3.eq(self.q3), unit.q6.eq(self.q6)]
        floor, half = round_shift(m, unit.h, self.y_shift2, "h_shifted")
        total = Signal(signed(hardswish.H_BITS + 1), reset_less=True)
        m.d.sync += total.eq((floor.as_signed() + half + self.offset)[: len(total)])
        return saturate(total, 8)
