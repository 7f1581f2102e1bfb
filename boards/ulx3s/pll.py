"""The board's clock: 25 MHz to the design's, by the part's PLL."""

import dataclasses

from amaranth import Elaboratable, Instance, Module, Signal

OSCILLATOR_MHZ = 25
_VCO_MHZ = 400, 800  #: range of the EHXPLLL's oscillator


@dataclasses.dataclass(frozen=True)
class Dividers:
    """output = 25 MHz * feedback / input; the PLL's oscillator runs at output * divider."""

    input: int
    feedback: int
    divider: int

    @classmethod
    def of(cls, mhz: float) -> "Dividers":
        """For an output of ``mhz``; of several, the oscillator nearest to its range's middle. ValueError if there is
        none."""
        low, high = _VCO_MHZ
        found = [
            (abs(mhz * divider - (low + high) / 2), cls(i, round(mhz * i / OSCILLATOR_MHZ), divider))
            for i in range(1, 6)
            for divider in range(1, 129)
            if low <= mhz * divider <= high and mhz * i % OSCILLATOR_MHZ == 0
        ]
        if not found:
            raise ValueError(f"clock must be 25 MHz times n / m with m at most 5, 4 to 400 MHz, not {mhz:g} MHz")
        return min(found, key=lambda pair: (pair[0], pair[1].input))[1]


class Pll(Elaboratable):
    """EHXPLLL with its output as feedback.

    Attributes
    ----------
    oscillator : 25 MHz; clock : ``mhz``; locked : high once it is stable
    """

    def __init__(self, mhz: float):
        self._mhz, self._dividers = mhz, Dividers.of(mhz)
        self.oscillator = Signal()
        self.clock = Signal()
        self.locked = Signal()

    def elaborate(self, platform):
        m = Module()
        d = self._dividers
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=str(OSCILLATOR_MHZ), a_FREQUENCY_PIN_CLKOP=f"{self._mhz:g}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=d.input, p_CLKFB_DIV=d.feedback, p_CLKOP_DIV=d.divider, p_CLKOP_CPHASE=d.divider // 2,
            p_CLKOP_ENABLE="ENABLED", p_FEEDBK_PATH="CLKOP", p_STDBY_ENABLE="DISABLED", p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED", p_DPHASE_SOURCE="DISABLED", p_OUTDIVIDER_MUXA="DIVA",
            i_CLKI=self.oscillator, i_CLKFB=self.clock, i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=1, i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=self.clock, o_LOCK=self.locked,
        )  # fmt: skip
        return m
