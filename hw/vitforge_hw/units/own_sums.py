"""Self-accumulation in LUTs: what a token that is alone in its packed multipliers lacks."""

from amaranth import C, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .booth import multiply
from .packed import add_carry, reg, stages
from .rmac_cell import OWN_LATENCY, own_widths
from .shadow import shadow


class OwnSums(wiring.Component):
    """``width`` accumulators of one lane and one token: slots[i] * ws[i] each, as R-MAC's depthwise steps have them.

    The last of an odd number of tokens has 2 x ``width`` different activations and weights for two lanes, and nobody
    to share a weight with: one lane's products take the multipliers (RMacCell with one field), the other's are here.

    Parameters
    ----------
    width : accumulators
    steps : longest self-accumulation

    Members
    -------
    slots, ws : ``width`` int8 operands each, ws -127..127, element 0 in the low byte
    own, first : a step; it begins a new sum
    load, shift : a cycle later the shadow copy takes the sums (has priority); it moves on by one
    shadow : element 0 of the shadow copy of the cycle before

    Latency/throughput
    ------------------
    As RMacCell's own sums: operands of cycle t are in their sums in t + OWN_LATENCY (4). One step a cycle.

    Reference
    ---------
    slots[i] * ws[i] summed over steps
    """

    def __init__(self, width: int, steps: int):
        self._width, self._steps = width, steps
        super().__init__(
            {
                "slots": In(8 * width),
                "ws": In(8 * width),
                "own": In(1),
                "first": In(1),
                "load": In(1),
                "shift": In(1),
                "shadow": Out(signed(own_widths(steps)[1])),
            }
        )

    @property
    def module_name(self) -> str:
        """For ``block``."""
        return f"vf_own_sums_{self._width}x{self._steps}"

    def elaborate(self, platform):
        m = Module()
        bits = own_widths(self._steps)[1]
        own = stages(m, self.own, OWN_LATENCY - 1, "own")[-1]
        first = stages(m, self.first, OWN_LATENCY - 1, "first", reset_less=True)[-1]
        load, shift = (stages(m, getattr(self, n), 1, f"{n}_", reset_less=True)[0] for n in ("load", "shift"))
        sums = []
        for i in range(self._width):
            x, w = (reg(m, p.word_select(i, 8).as_signed(), f"{n}{i}") for p, n in ((self.slots, "x"), (self.ws, "w")))
            product = multiply(m, x, w, OWN_LATENCY - 2, f"product{i}_")
            acc = Signal(signed(bits), name=f"acc{i}", reset_less=True)
            with m.If(own):
                m.d.sync += acc.eq(add_carry(product, Mux(first, C(0, signed(bits)), acc), C(0, 1), bits))
            sums.append(acc)
        m.d.sync += self.shadow.eq(shadow(m, sums, load, shift, "copy").as_signed())
        return m
