"""An AXI4-Lite slave made from a register declaration."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.registers import COUNTER_BASE, COUNTER_SLOTS, REGISTERS, Register
from .axi import AXI4Lite


def writable_mask(register: Register) -> int:
    """Bits that a register implements."""
    if not register.bits:
        return 0xFFFFFFFF
    return sum(((1 << width) - 1) << low for _, low, width, _ in register.bits)


class RegisterFile(wiring.Component):
    """The bus side of ``registers``: decode, storage, byte strobes.

    Parameters
    ----------
    registers : the declaration, {name: Register}
    resets : values after reset that differ from the declaration's, {name: value}

    Members
    -------
    bus : In(AXI4Lite()); every access is answered OKAY, undeclared addresses read 0
    <name> : of a ro register In(32), its value; of rw and w1c Out(32), the stored value; of wo Out(1), a pulse for
        each write of its lowest byte
    <name>_load, <name>_value : of a rw register In(1), In(32): the hardware replaces the value (wins over the bus)
    counter, counter_value : Out, In(32): which half of which counter is read (Counters.select), and its value
    hold : In(1), reads wait
    <name>_set : of a w1c register In(32): bits to set (wins over clearing); <name>_clear : In(1), clear all bits

    Latency: a write is stored one cycle after the later of AW and W and answered one cycle after that, a read is
    answered two cycles after AR; one access of each kind at a time. Registers at COUNTER_BASE and behind it are
    counters: they have no members.
    """

    def __init__(self, registers: dict[str, Register] = REGISTERS, resets: dict[str, int] | None = None):
        self._registers = registers = {n: r for n, r in registers.items() if r.offset < COUNTER_BASE}
        self._resets = resets or {}
        members = {
            "bus": In(AXI4Lite()),
            "counter": Out(range(2 * COUNTER_SLOTS)),
            "counter_value": In(32),
            "hold": In(1),
        }
        for name, register in registers.items():
            if register.access == "ro":
                members[name] = In(32)
            elif register.access == "rw":
                reset = self._resets.get(name, register.reset)
                members |= {name: Out(32, init=reset), f"{name}_load": In(1), f"{name}_value": In(32)}
            elif register.access == "w1c":
                members |= {name: Out(32), f"{name}_set": In(32), f"{name}_clear": In(1)}
            else:
                members[name] = Out(1)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        # ---- writes: AW and W in any order
        waddr, wdata, wstrb = Signal(10), Signal(32), Signal(4)
        have_address, have_data = Signal(), Signal()
        write = Signal()
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            write.eq(have_address & have_data & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [waddr.eq(bus.awaddr[2:]), have_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [wdata.eq(bus.wdata), wstrb.eq(bus.wstrb), have_data.eq(1)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [have_address.eq(0), have_data.eq(0), bus.bvalid.eq(1)]
        strobe = Signal(32)
        m.d.comb += strobe.eq(Cat(bit.replicate(8) for bit in wstrb))

        # ---- reads
        raddr, have_read = Signal(10), Signal()
        value = Signal(32)
        m.d.comb += bus.arready.eq(~have_read & ~bus.rvalid & ~self.hold)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [raddr.eq(bus.araddr[2:]), have_read.eq(1)]
        with m.If(have_read):
            m.d.sync += [have_read.eq(0), bus.rvalid.eq(1), bus.rdata.eq(value)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)

        # ---- registers
        m.d.comb += self.counter.eq(raddr)
        with m.If(raddr[len(self.counter) :] == COUNTER_BASE >> (len(self.counter) + 2)):
            m.d.comb += value.eq(self.counter_value)
        with m.Switch(raddr):
            for name, register in self._registers.items():
                if register.access != "wo":
                    with m.Case(register.offset >> 2):
                        m.d.comb += value.eq(getattr(self, name))
        for name, register in self._registers.items():
            if register.access == "ro":
                continue
            port, mask = getattr(self, name), writable_mask(register)
            selected = Signal(name=f"write_{name}")
            m.d.comb += selected.eq(write & (waddr == register.offset >> 2))
            if register.access == "rw":
                merged = Signal(32, name=f"merged_{name}")
                keep = register.sticky
                m.d.comb += merged.eq((((wdata & strobe) | (port & ~strobe)) & mask) | (port & keep))
                with m.If(getattr(self, f"{name}_load")):
                    m.d.sync += port.eq(getattr(self, f"{name}_value"))
                with m.Elif(selected):
                    m.d.sync += port.eq(merged)
            elif register.access == "w1c":
                clear = Signal(32, name=f"clear_{name}")
                m.d.comb += clear.eq(Mux(selected, wdata & strobe, 0))
                with m.If(getattr(self, f"{name}_clear")):
                    m.d.sync += port.eq(0)
                with m.Else():
                    m.d.sync += port.eq((port & ~clear) | (getattr(self, f"{name}_set") & mask))
            else:
                m.d.comb += port.eq(selected & wstrb[0])
        return m
