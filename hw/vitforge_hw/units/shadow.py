"""Shadow copies: finished sums wait while the next ones are being made, and leave one a cycle."""

from amaranth import Module, Mux, Signal
from amaranth.utils import ceil_log2


def shadow(m: Module, values: list, load, shift, name: str):
    """The next element of a copy of ``values`` (of equal size): ``load`` copies all, 0 comes first; ``shift`` moves on.

    The copies stay where they are, so that their registers need no LUTs, and a multiplexer of len(values) inputs a bit
    takes them out: a quarter of the LUTs of a chain that shifts.
    """
    copies = [Signal.like(value, name=f"{name}{i}", reset_less=True) for i, value in enumerate(values)]
    place = Signal(ceil_log2(len(values)), name=f"{name}_place", reset_less=True)
    with m.If(load):
        m.d.sync += [place.eq(0), *(copy.eq(value) for copy, value in zip(copies, values, strict=True))]
    with m.Elif(shift):
        m.d.sync += place.eq(place + 1)
    for bit in place:  # a power of two of them
        copies = [Mux(bit, odd, even) for even, odd in zip(copies[::2], copies[1::2], strict=True)]
    out = Signal(len(copies[0]), name=f"{name}_out")
    m.d.comb += out.eq(copies[0])
    return out
