"""Simple dual-port RAM: the only place where memories that map to block RAM are made."""

from amaranth import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..emit import block


class Ram(wiring.Component):
    """One write and one read port, registered output.

    Parameters
    ----------
    bits, rows : width and depth
    style : attribute ``ram_style``: "ultra" (UltraRAM, which has no initial contents), "distributed" (LUTs) or "", the
        tool's choice
    always : the row is read in every cycle: ``read_enable`` means nothing, and nothing is held

    Members
    -------
    write_enable, write_addr, write_data : written at the next clock edge
    read_enable, read_addr : read_data follows after two clock edges (memory, output register) and is held until the
        next enabled read

    Latency: 2 cycles, one read and one write a cycle. A read of a row in the cycle of its write returns old data.
    """

    def __init__(self, bits: int, rows: int, style: str = "", always: bool = False):
        self._bits, self._rows, self._style, self._always = bits, rows, style, always
        super().__init__(
            {
                "write_enable": In(1),
                "write_addr": In(range(rows)),
                "write_data": In(bits),
                "read_enable": In(1),
                "read_addr": In(range(rows)),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        attrs = {"ram_style": self._style} if self._style else {}
        m.submodules.mem = mem = memory.Memory(shape=self._bits, depth=self._rows, init=[], attrs=attrs)
        write, read = mem.write_port(), mem.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.en.eq(1 if self._always else self.read_enable),
            read.addr.eq(self.read_addr),
        ]
        out = Signal(self._bits, reset_less=True)
        if self._always:
            m.d.sync += out.eq(read.data)
        else:
            fresh = Signal(init=1, reset_less=True)  # as it stays where every cycle reads: no register then
            m.d.sync += fresh.eq(self.read_enable)
            with m.If(fresh):
                m.d.sync += out.eq(read.data)
        m.d.comb += self.read_data.eq(out)
        return m


def ram(bits: int, rows: int, style: str = "") -> wiring.Component:
    """A Ram as a block of its own."""
    return block(Ram(bits, rows, style), f"vf_{style[:1]}ram_{bits}x{rows}")
