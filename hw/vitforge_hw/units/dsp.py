"""One multiplier-accumulator of an FPGA's DSP block: the only place where the engines multiply."""

import enum

from amaranth import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import block, primitives

A_BITS = 27  #: multiplier of a DSP48E2: 27 x 18
B_BITS = 18
P_BITS = 48
LATENCY = 3  #: operands to P: A and B, M, P registers


class Source(enum.IntEnum):
    """What is added to the product (the Z multiplexer): nothing, P of the DSP below, the DSP's own P."""

    ZERO = 0
    BELOW = 1
    OWN = 2


class Dsp(wiring.Component):
    """``p`` <= a * b + (0 | below | p): down-forward accumulation takes the neighbour's P, self-accumulation its own.

    Parameters
    ----------
    b_bits : width of ``b``, at most 18
    a_bits, p_bits : width of ``a`` and of the sum, at most 27 and 48: smaller ones for multipliers that are smaller
    fixed : the source of every sum, in place of the input and its register: for adders outside the multiplier, where
        the register of a constant is logic in each of them

    Members
    -------
    a, b : operands, signed
    source : what is added (Source), 1 cycle after the operands
    enable : P takes the sum, 2 cycles after the operands; else it stays
    below : the neighbour's ``above``, combined with the product that is in M in the same cycle
    p : the sum; above : the same, for the neighbour's ``below`` alone (the cascade has wires of its own)

    Latency/throughput
    ------------------
    Operands of cycle t are in P in t + LATENCY (3). One product a cycle.

    Two forms. Behavioural: what every simulator runs and every synthesis tool maps to a DSP with its registers and
    cascade. ``emitting(primitives="dsp48e2")``: an explicit DSP48E2, OPMODE by ``source``.

    Reference
    ---------
    a * b + z modulo 2^p_bits
    """

    def __init__(self, b_bits: int = 8, a_bits: int = A_BITS, p_bits: int = P_BITS, fixed: Source | None = None):
        for name, bits, most in (("a", a_bits, A_BITS), ("b", b_bits, B_BITS), ("p", p_bits, P_BITS)):
            if not 1 <= bits <= most:
                raise ValueError(f"DSP: {name} must have 1 to {most} bits, not {bits}")
        self._a_bits, self._b_bits, self._p_bits, self._fixed = a_bits, b_bits, p_bits, fixed
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "source": In(2),
                "enable": In(1),
                "below": In(signed(p_bits)),
                "p": Out(signed(p_bits)),
                "above": Out(signed(p_bits)),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        source = "" if self._fixed is None else f"_{self._fixed.name.lower()}"
        return f"vf_dsp_{self._a_bits}x{self._b_bits}{source}"

    def elaborate(self, platform):
        m = Module()
        if primitives() == "dsp48e2":
            m.submodules.dsp = self._dsp48e2()
            return m
        bits = self._p_bits
        a = Signal(signed(self._a_bits), reset_less=True)
        b = Signal(signed(self._b_bits), reset_less=True)
        product = Signal(signed(bits), reset_less=True)
        p = Signal(signed(bits), reset_less=True)
        z = Signal(signed(bits))
        with m.Switch(self._source(m)):
            with m.Case(Source.OWN):
                m.d.comb += z.eq(p)
            with m.Case(Source.BELOW):
                m.d.comb += z.eq(self.below)
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b)]
        with m.If(self.enable):
            m.d.sync += p.eq((product + z)[:bits])
        m.d.comb += [self.p.eq(p), self.above.eq(p)]
        return m

    def _source(self, m: Module):
        """What is added to the product in M."""
        if self._fixed is not None:
            return Const(self._fixed, 2)
        source = Signal(2, name="source", reset_less=True)
        m.d.sync += source.eq(self.source)
        return source

    def _dsp48e2(self) -> Instance:
        """X, Y: M; Z: 0, PCIN or P; W: 0. All registers on the way once, OPMODE's too; nothing is ever reset."""
        given = self.source if self._fixed is None else Const(self._fixed, 2)
        z = Mux(given == Source.OWN, 0b010, Mux(given == Source.BELOW, 0b001, 0b000))
        ones = dict.fromkeys(("CEA2", "CEB2", "CEM", "CECTRL"), 1)
        zeros = dict.fromkeys(
            ("CEA1", "CEB1", "CEC", "CED", "CEAD", "CEALUMODE", "CECARRYIN", "CEINMODE", "RSTA", "RSTALLCARRYIN",
             "RSTALUMODE", "RSTB", "RSTC", "RSTCTRL", "RSTD", "RSTINMODE", "RSTM", "RSTP", "CARRYIN", "CARRYCASCIN",
             "MULTSIGNIN"), 0)  # fmt: skip
        wide = dict(ACIN=30, BCIN=18, C=48, D=27, ALUMODE=4, INMODE=5, CARRYINSEL=3)
        settings = dict(
            AREG=1, ACASCREG=1, ADREG=0, BREG=1, BCASCREG=1, CREG=0, DREG=0, MREG=1, PREG=1, OPMODEREG=1, ALUMODEREG=0,
            CARRYINREG=0, CARRYINSELREG=0, INMODEREG=0, A_INPUT="DIRECT", B_INPUT="DIRECT", AMULTSEL="A", BMULTSEL="B",
            USE_MULT="MULTIPLY", USE_SIMD="ONE48", USE_PATTERN_DETECT="NO_PATDET", USE_WIDEXOR="FALSE",
        )  # fmt: skip
        return Instance(
            "DSP48E2",
            **{f"p_{name}": value for name, value in settings.items()},
            **{f"i_{name}": Const(value, 1) for name, value in (ones | zeros).items()},
            **{f"i_{name}": Const(0, bits) for name, bits in wide.items()},
            i_CLK=ClockSignal(),
            i_A=Cat(self.a, self.a[-1].replicate(30 - self._a_bits)),
            i_B=Cat(self.b, self.b[-1].replicate(B_BITS - self._b_bits)),
            i_OPMODE=Cat(Const(0b0101, 4), z[:3], Const(0, 2)),
            i_CEP=self.enable,
            i_PCIN=self.below,
            o_P=self.p,
            o_PCOUT=self.above,
        )


def dsp(m: Module, name: str, a, b, source, enable, below=None, fixed: bool = False, **bits: int) -> Dsp:
    """A Dsp with its inputs connected, submodule ``name`` of ``m``.

    below: the neighbour; fixed: ``source`` is a constant, built in; bits: of Dsp.
    """
    part = Dsp(**bits, fixed=source if fixed else None)
    part = block(part, part.module_name)
    m.submodules[name] = part
    m.d.comb += [part.a.eq(a), part.b.eq(b), part.source.eq(source), part.enable.eq(enable)]
    if below is not None:
        m.d.comb += part.below.eq(below.above)
    return part
