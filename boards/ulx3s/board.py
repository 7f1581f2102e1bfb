"""The whole design: accelerator, memory, controller, serial port, clock."""

from amaranth import ClockDomain, ClockSignal, Elaboratable, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring

from vitforge_hw.host.axi import AXI4, AXI4Lite
from vitforge_hw.top import TOP

from .control import Control, Layout
from .memory import BYTES, OnChipMemory
from .pll import Pll
from .uart import UartReceiver, UartSender

BAUD = 1_000_000  #: the FTDI chip reaches it without rounding
HEARTBEAT_BITS = 25


def divisor(mhz: float) -> int:
    """Clock cycles a bit; ValueError where BAUD is missed by more than 2 %, which a receiver would misread."""
    cycles = round(mhz * 1e6 / BAUD)
    if not cycles or abs(mhz * 1e6 / cycles / BAUD - 1) > 0.02:
        raise ValueError(f"clock must divide to {BAUD} baud within 2 %, not {mhz:g} MHz")
    return cycles


class Board(Elaboratable):
    """Everything between the pins.

    Parameters
    ----------
    contents : the memory image (BUILD/memory.bin)
    layout : where image and result lie behind it
    mhz : clock of the accelerator

    Attributes
    ----------
    oscillator, receive : inputs; send, leds (8) : outputs. leds 0: alive, 1: busy, 2: the last job failed, 3: clock
    locked; ports : all of them
    """

    def __init__(self, contents: bytes, layout: Layout, mhz: float):
        self._contents, self._layout, self._mhz = contents, layout, mhz
        self.oscillator = Signal()
        self.receive = Signal(init=1)
        self.send = Signal(init=1)
        self.leds = Signal(8)
        self.ports = [self.oscillator, self.receive, self.send, self.leds]

    def elaborate(self, platform):
        m = Module()
        layout = self._layout
        rows = -(-(layout.result_base + layout.result_bytes) // BYTES)
        m.submodules.pll = pll = Pll(self._mhz)
        m.submodules.memory = memory = OnChipMemory(self._contents, rows)
        m.submodules.control = control = Control(layout, rows)
        m.submodules.receiver = receiver = UartReceiver(divisor(self._mhz))
        m.submodules.sender = sender = UartSender(divisor(self._mhz))

        # ---- clock, and a reset of 256 cycles once it is stable
        m.domains.sync = ClockDomain()
        m.domains.start = ClockDomain(reset_less=True)
        held, reset = Signal(8, init=0), Signal(init=1)
        m.d.start += [held.eq(Mux(pll.locked, held + ~held.all(), 0)), reset.eq(~held.all())]
        m.d.comb += [
            pll.oscillator.eq(self.oscillator),
            ClockSignal().eq(pll.clock),
            ClockSignal("start").eq(pll.clock),
            ResetSignal().eq(reset),
        ]

        # ---- accelerator
        ports = {"i_aclk": ClockSignal(), "i_aresetn": ~ResetSignal()}
        bus, master = AXI4Lite().create(), AXI4().create()
        for prefix, signature, link, inward in (
            ("s_axi_ctrl", AXI4Lite(), bus, wiring.Out),
            ("m_axi_gmem0", AXI4(), master, wiring.In),
        ):
            for name, member in signature.members.items():
                side = "i" if member.flow == inward else "o"
                ports[f"{side}_{prefix}_{name}"] = getattr(link, name)
        m.submodules.accelerator = Instance(TOP, **ports)
        for signature, outer, inner in ((AXI4Lite(), control.bus, bus), (AXI4(), master, memory.axi)):
            for name, member in signature.members.items():
                a, b = (getattr(outer, name), getattr(inner, name))
                m.d.comb += b.eq(a) if member.flow == wiring.Out else a.eq(b)

        # ---- serial port, memory, lights
        beat = Signal(HEARTBEAT_BITS)
        m.d.sync += beat.eq(beat + 1)
        m.d.comb += [
            receiver.line.eq(self.receive),
            control.byte.eq(receiver.byte),
            control.valid.eq(receiver.valid),
            self.send.eq(sender.line),
            self.leds[:4].eq(beat[-1] | control.busy << 1 | control.failed << 2 | pll.locked << 3),
        ]
        wiring.connect(m, control.reply, sender.bytes)
        for name in ("write", "write_row", "write_data", "read", "read_row"):
            m.d.comb += getattr(memory, name).eq(getattr(control, name))
        m.d.comb += control.read_data.eq(memory.read_data)
        return m
