"""True dual-port RAM: one memory for two readers, of which the second lends its port to the writer."""

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..emit import block


class SharedRam(wiring.Component):
    """One read port, and one port that reads or writes; registered outputs.

    Parameters
    ----------
    bits, rows : width and depth

    Members
    -------
    read0_addr : of the first reader, who reads in every cycle; read0_data follows after two clock edges
    read1_enable, read1_addr : of the second reader; read1_data follows after two clock edges
    write_enable, write_addr, write_data : written at the next clock edge; not together with read1_enable

    Latency: 2 cycles, one read and one more read or a write a cycle. A read of a row in the cycle of its write returns
    old data.
    """

    def __init__(self, bits: int, rows: int):
        self._bits, self._rows = bits, rows
        super().__init__(
            {
                "read0_addr": In(range(rows)),
                "read0_data": Out(bits),
                "read1_enable": In(1),
                "read1_addr": In(range(rows)),
                "read1_data": Out(bits),
                "write_enable": In(1),
                "write_addr": In(range(rows)),
                "write_data": In(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.mem = mem = memory.Memory(shape=self._bits, depth=self._rows, init=[])
        write, read0, read1 = mem.write_port(), mem.read_port(), mem.read_port()
        addr = Signal(range(self._rows))  # one address: synthesis sees one port
        m.d.comb += [
            addr.eq(Mux(self.write_enable, self.write_addr, self.read1_addr)),
            write.en.eq(self.write_enable),
            write.addr.eq(addr),
            write.data.eq(self.write_data),
            read0.en.eq(1),
            read0.addr.eq(self.read0_addr),
            read1.en.eq(self.read1_enable),
            read1.addr.eq(addr),
        ]
        out0 = Signal(self._bits, reset_less=True)
        out1 = Signal(self._bits, reset_less=True)
        m.d.sync += [out0.eq(read0.data), out1.eq(read1.data)]
        m.d.comb += [self.read0_data.eq(out0), self.read1_data.eq(out1)]
        return m


def shared_ram(bits: int, rows: int) -> wiring.Component:
    """A SharedRam as a block of its own."""
    return block(SharedRam(bits, rows), f"vf_shared_ram_{bits}x{rows}")
