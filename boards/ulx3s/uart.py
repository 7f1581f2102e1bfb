"""Serial port: 8 data bits, no parity, one stop bit."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


def _check(divisor: int) -> int:
    if divisor < 4:
        raise ValueError(f"divisor must be at least 4 clock cycles a bit, not {divisor}")
    return divisor


class UartReceiver(wiring.Component):
    """Bytes from a line.

    Parameters
    ----------
    divisor : clock cycles a bit, at least 4

    Members
    -------
    line : In(1), idle high
    byte, valid : Out(8), Out(1); ``valid`` is high for one cycle

    Bits are sampled in their middle; a start bit shorter than half a bit and a byte without stop bit are dropped.
    Latency: 9.5 bits and 3 cycles.
    """

    def __init__(self, divisor: int):
        self._divisor = _check(divisor)
        super().__init__({"line": In(1, init=1), "byte": Out(8), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules += FFSynchronizer(self.line, line, init=1)
        timer, count = Signal(range(self._divisor)), Signal(range(8))
        m.d.sync += [self.valid.eq(0), timer.eq(timer - 1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += timer.eq(self._divisor // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(timer == 0):
                m.d.sync += timer.eq(self._divisor - 1)
                m.next = "DATA"
                with m.If(line):
                    m.next = "IDLE"
            with m.State("DATA"), m.If(timer == 0):
                m.d.sync += [timer.eq(self._divisor - 1), self.byte.eq(Cat(self.byte[1:], line)), count.eq(count + 1)]
                with m.If(count == 7):
                    m.next = "STOP"
            with m.State("STOP"), m.If(timer == 0):
                m.d.sync += self.valid.eq(line)
                m.next = "IDLE"
                with m.If(~line):
                    m.next = "BREAK"
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UartSender(wiring.Component):
    """Bytes to a line: one in ten bits.

    Parameters
    ----------
    divisor : clock cycles a bit, at least 4

    Members
    -------
    bytes : In(stream of 8 bits)
    line : Out(1), idle high
    """

    def __init__(self, divisor: int):
        self._divisor = _check(divisor)
        super().__init__({"bytes": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        timer, left = Signal(range(self._divisor)), Signal(range(11))
        shift = Signal(10, init=0x3FF)  # start bit, data, stop bit
        m.d.comb += [self.bytes.ready.eq(left == 0), self.line.eq(shift[0])]
        with m.If(left == 0):
            with m.If(self.bytes.valid):
                m.d.sync += [shift.eq(Cat(0, self.bytes.payload, 1)), left.eq(10), timer.eq(self._divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [shift.eq(Cat(shift[1:], 1)), left.eq(left - 1), timer.eq(self._divisor - 1)]
        return m
