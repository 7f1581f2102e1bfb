"""Reciprocal square root: leading-one normalisation, table, one Newton step."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..arch import arith
from .booth import multiply
from .leading_one import LeadingOne
from .packed import stages


class Rsqrt(wiring.Component):
    """1/sqrt(v) ~ m * 2^-e: a pipeline that takes one operand a cycle.

    v is normalised by an even power of two to f in [1, 4) with 16 fraction bits; r0 and r0^2 come from one ROM of
    96 entries; r = r0 (3 - f r0^2) / 2 takes two multipliers (18 x 24 and 12 x 18).

    Parameters
    ----------
    width : bits of v, 18 to 64

    Members
    -------
    valid, v : operand
    out_valid, m, e : mantissa (16 bits) and exponent; (0, 16) for v = 0

    Latency
    -------
    Rsqrt.LATENCY = 10 cycles; one result a cycle, no back-pressure.

    Reference
    ---------
    arch.arith.rsqrt
    """

    LATENCY = 10

    def __init__(self, width: int = 42):
        if not 18 <= width <= 64:
            raise ValueError(f"rsqrt: width must be 18 to 64, not {width}")
        self.width = width
        super().__init__({"valid": In(1), "v": In(width), "out_valid": Out(1), "m": Out(16), "e": Out(6)})

    def elaborate(self, platform):
        m = Module()
        pairs = (self.width + 1) // 2

        valid = Signal(self.LATENCY)
        m.d.sync += valid.eq(Cat(self.valid, valid))
        m.d.comb += self.out_valid.eq(valid[-1])

        # 1: leading one of pairs of bits, so that the exponent is even
        m.submodules.leading = leading = LeadingOne(pairs)
        padded = Cat(self.v, C(0, 2 * pairs - self.width))
        m.d.comb += leading.i.eq(Cat(padded.word_select(i, 2).any() for i in range(pairs)))
        v1 = Signal(2 * pairs, reset_less=True)
        k1 = Signal(len(leading.index), reset_less=True)
        some1 = Signal(reset_less=True)
        m.d.sync += [v1.eq(padded), k1.eq(leading.index), some1.eq(leading.some)]

        # 2: f = v * 2^(16 - 2k), 18 bits
        f2 = Signal(18, reset_less=True)
        m.d.sync += f2.eq(Cat(C(0, 16), v1) >> Cat(C(0, 1), k1))

        # 3: r0 and its square
        m.submodules.table = table = Memory(
            shape=36,
            depth=128,
            init=[0] * 32 + [r | (r * r) << 12 for r in arith.RSQRT_TABLE],
        )
        port = table.read_port()
        m.d.comb += port.addr.eq(f2[11:])
        f3 = Signal(18, reset_less=True)
        m.d.sync += f3.eq(f2)
        r3 = port.data[:12]

        # 4 to 6: f r0^2; a block RAM without output register (ECP5) gives its data late
        fr6 = multiply(m, port.data[12:], f3, 3, "fr", first=2)[:42]

        # 7: 3 - f r0^2 with 16 fraction bits (between 1.9 and 2.1)
        u7 = Signal(18, reset_less=True)
        m.d.sync += u7.eq(C(3 << 16, 18) - (fr6[24:] + fr6[23])[:18])

        # 8, 9: r0 (3 - f r0^2)
        r7 = stages(m, r3, 4, "r", reset_less=True)[-1]
        ru9 = multiply(m, u7, r7, 2, "ru")[:30]

        # 10: round and limit the mantissa; the exponent and the mark of v = 0 have followed
        k, some = k1, some1
        for i in range(2, 10):
            k_next = Signal(len(k1), name=f"k{i}", reset_less=True)
            some_next = Signal(name=f"some{i}", reset_less=True)
            m.d.sync += [k_next.eq(k), some_next.eq(some)]
            k, some = k_next, some_next
        rounded = Signal(17)
        m.d.comb += rounded.eq(ru9[13:] + ru9[12])
        k5 = k if len(k) == 5 else Cat(k, C(0, 5 - len(k)))
        out_m = Signal(16, reset_less=True)
        out_e = Signal(6, reset_less=True)
        m.d.sync += [
            out_m.eq(Mux(some, Mux(rounded[16], 65535, rounded[:16]), 0)),
            out_e.eq(Mux(some, Cat(k5[:4], ~k5[4], k5[4]), 16)),  # 16 + k
        ]
        m.d.comb += [self.m.eq(out_m), self.e.eq(out_e)]
        return m
