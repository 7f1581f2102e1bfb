"""Registered copies of a control: each group of the cells that it drives has a register of its own."""

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import block


class Copy(wiring.Component):
    """A register of ``bits`` bits: q is d of the cycle before. A module of its own, which no tool merges with another.

    Members
    -------
    d, q : In, Out(bits)
    """

    def __init__(self, bits: int):
        super().__init__({"d": In(bits), "q": Out(bits)})

    def elaborate(self, platform):
        m = Module()
        r = Signal(len(self.q), reset_less=True)
        m.d.sync += r.eq(self.d)
        m.d.comb += self.q.eq(r)
        return m


def copies(m: Module, number: int, name: str, *values: Value) -> list[list[Value]]:
    """``values`` a cycle later, ``number`` times."""
    row = Cat(*values)
    found = []
    for i in range(number):
        m.submodules[f"{name}{i}"] = copy = block(Copy(len(row)), f"vf_copy_{len(row)}")
        m.d.comb += copy.d.eq(row)
        at, parts = 0, []
        for v in values:
            part = copy.q[at : at + len(v)]
            parts.append(part.as_signed() if v.shape().signed else part)
            at += len(v)
        found.append(parts)
    return found
