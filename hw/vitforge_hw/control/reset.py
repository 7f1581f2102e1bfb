"""The reset tree: large blocks have a register of their own between the reset and their flip-flops."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from ..emit import block


class ResetCopy(wiring.Component):
    """``reset`` : Out(1), the domain's reset a cycle later. A module of its own, which no tool merges with another."""

    def __init__(self):
        super().__init__({"reset": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.reset.eq(0)
        return m


def reset_copy(m: Module, name: str):
    """The reset for ``block(..., reset=)`` of the part ``name`` of ``m``."""
    m.submodules[f"reset_{name}"] = copy = block(ResetCopy(), "vf_reset")
    return copy.reset
