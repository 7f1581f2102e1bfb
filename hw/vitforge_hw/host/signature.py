"""The signature over loaded beats, as hardware."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.checksum import BITS, ROTATE, SHIFT, overflow


class Signature(wiring.Component):
    """arch.checksum.signature, a beat a cycle.

    Parameters
    ----------
    bits : of a beat

    Members
    -------
    valid, data : In, a beat
    first : In(1), the beat is the first one of its piece
    value : Out(32), the signature up to the last beat

    Latency: 1 cycle.
    """

    def __init__(self, bits: int):
        super().__init__({"valid": In(1), "data": In(bits), "first": In(1), "value": Out(BITS)})

    def elaborate(self, platform):
        m = Module()
        folded = 0
        for i in range(len(self.data) // BITS):
            folded = folded ^ self.data.word_select(i, BITS).rotate_left(ROTATE * i % BITS)
        stepped = Signal(BITS)
        shifted = self.value << SHIFT
        for i in range(SHIFT):
            shifted = shifted ^ Mux(self.value[BITS - SHIFT + i], overflow()[1 << i], 0)
        m.d.comb += stepped.eq(shifted)
        with m.If(self.valid):
            m.d.sync += self.value.eq(folded ^ Mux(self.first, 0, stepped))
        return m
