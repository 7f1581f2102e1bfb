"""GELU of the 12-bit p at a scale chosen by the instruction, with one small ROM."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..arch.arith import ACT_GELU, GELU_ENTRIES, GELU_EXP_MIN, GELU_FRAC, GELU_OUT_FRAC, GELU_TABLE
from .requantize import P_BITS

LATENCY = 4
assert ACT_GELU == 1 and GELU_OUT_FRAC - GELU_EXP_MIN == 7  # decoded by bits below
INDEX_STAGE, OUT_STAGE = 0, 3  #: cycles after p at which exp_index, and exp_out with act, are taken


class Gelu(wiring.Component):
    """h = relu(p) - g(|p|), or p itself.

    Members
    -------
    p : 12 bits signed
    exp_index : fraction bits of p (3..10), with p
    exp_out, act : the same, and 1 for GELU, three cycles after p
    h : 12 bits signed, p's scale

    Latency/throughput: 4 cycles from p to h (magnitude, index, ROM, result); one result a cycle.

    Reference: arch.arith.activation, arch.arith.gelu
    """

    def __init__(self):
        super().__init__(
            {
                "p": In(signed(P_BITS)),
                "exp_index": In(4),
                "exp_out": In(4),
                "act": In(1),
                "h": Out(signed(P_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = memory.Memory(shape=8, depth=GELU_ENTRIES, init=GELU_TABLE)
        read = rom.read_port()

        # |p| * 2^(7 - e), rounded: one guard bit, and left by 7 - 3: only right shifts remain, the one by 4 first
        up = GELU_FRAC - GELU_EXP_MIN + 1
        amount = Signal(3)
        magnitude = Signal(P_BITS)
        above = Signal(P_BITS + up, reset_less=True)
        m.d.comb += [
            amount.eq((self.exp_index[:3] + C(8 - GELU_EXP_MIN, 3))[:3]),
            magnitude.eq(Mux(self.p[-1], -self.p, self.p)),
        ]
        m.d.sync += above.eq(Cat(C(0, up), magnitude) >> Cat(C(0, 2), amount[2]))
        scaled = Signal(P_BITS + up)
        rounded = Signal(P_BITS + up)
        index = Signal(range(GELU_ENTRIES))
        down = Signal(2, reset_less=True)  # every lane's own: the instruction's field has many loads
        m.d.sync += down.eq(amount[:2])
        beyond = Signal(reset_less=True)
        m.d.comb += [
            scaled.eq(above >> down),
            rounded.eq(scaled[1:] + scaled[0]),
            read.addr.eq(rounded[: len(index)]),
        ]
        m.d.sync += beyond.eq(rounded[len(index) :].any())

        # p follows in a delay line
        p = [self.p]
        for i in range(OUT_STAGE):
            p.append(Signal(signed(P_BITS), name=f"p{i + 1}", reset_less=True))
            m.d.sync += p[-1].eq(p[-2])
        table = Signal(P_BITS, reset_less=True)
        outside = Signal(reset_less=True)
        m.d.sync += [table.eq(read.data), outside.eq(beyond)]

        fraction = Signal(P_BITS + 1)
        h = Signal(signed(P_BITS), reset_less=True)
        g = Signal(P_BITS)
        last = p[OUT_STAGE]
        m.d.comb += [
            # right shift by 10 - exp_out
            fraction.eq(Cat(C(0, 1), table) >> ~(self.exp_out[:3] + C(8 - GELU_EXP_MIN, 3))[:3]),
            g.eq(Mux(outside, 0, fraction[1:] + fraction[0])),
        ]
        relu = Mux(last[-1], C(0, P_BITS), last[:])
        m.d.sync += h.eq(Mux(self.act, (relu - g)[:P_BITS].as_signed(), last))
        m.d.comb += self.h.eq(h)
        return m
