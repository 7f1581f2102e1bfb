"""Errors: a bit for each kind, and where the first one was."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch.registers import Error

ERRORS = len(Error)  #: bits of a set of errors; bit 0 is never set
CODE_BITS = (ERRORS - 1).bit_length()
KINDS = tuple(e for e in Error if e)


class ErrorLog(wiring.Component):
    """Pulses to bits, and code, address and response of the first error while its bit stays set.

    Members
    -------
    <kind>_error, <kind>_addr, <kind>_resp : In(1), In(64), In(2) for each of registers.Error: one cycle for an error
    pending : In(ERRORS), register ``errors``
    set : Out(ERRORS), bits to set in it
    happened : Out(1), some error in this cycle
    code, addr, resp : Out, the first error; 0 when its bit is clear. Of several in one cycle the lowest code.

    Latency: pulse to ``set`` 1 cycle, to code 2 cycles.
    """

    def __init__(self):
        members = {"pending": In(ERRORS), "set": Out(ERRORS), "happened": Out(1)}
        for e in KINDS:
            name = e.name.lower()
            members |= {f"{name}_error": In(1), f"{name}_addr": In(64), f"{name}_resp": In(2)}
        super().__init__(members | {"code": Out(CODE_BITS), "addr": Out(64), "resp": Out(2)})

    def elaborate(self, platform):
        m = Module()
        code, addr, resp = Signal(CODE_BITS), Signal(64), Signal(2)
        new_code, new_addr, new_resp = Signal(CODE_BITS), Signal(64), Signal(2)  # the lowest of this cycle
        held = Signal()
        m.d.comb += [
            held.eq(self.pending.bit_select(code, 1)),
            self.happened.eq(self.set.any()),
            self.code.eq(Mux(held, code, 0)),
            self.addr.eq(Mux(held, addr, 0)),
            self.resp.eq(Mux(held, resp, 0)),
        ]
        with m.If(self.happened & ~held):
            m.d.sync += [code.eq(new_code), addr.eq(new_addr), resp.eq(new_resp)]
        for e in reversed(KINDS):
            name = e.name.lower()
            pulse, at, what = Signal(name=f"{name}_in"), Signal(64, name=f"{name}_at"), Signal(2, name=f"{name}_what")
            m.d.sync += [
                pulse.eq(getattr(self, f"{name}_error")),
                at.eq(getattr(self, f"{name}_addr")),
                what.eq(getattr(self, f"{name}_resp")),
            ]
            m.d.comb += self.set[e].eq(pulse)
            with m.If(pulse):
                m.d.comb += [new_code.eq(e), new_addr.eq(at), new_resp.eq(what)]
        return m
