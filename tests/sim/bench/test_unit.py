"""run_stream_case, proved with a pipeline that is right, and with ones that are wrong in known ways."""

import pytest
from amaranth.hdl import Array, Instance, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from vitforge_sim.bench.streams import CROSSED, StreamRuleBroken
from vitforge_sim.bench.unit import Latency, SimulatorsDisagree, emit, latency, run_stream_case, run_stream_cases
from vitforge_sim.run.topbench import SimulationHang


class Scale(wiring.Component):
    """o = a * b + offset, two register stages; `fault` breaks it."""

    def __init__(self, fault=""):
        self.fault = fault
        pair = data.StructLayout({"a": signed(8), "b": signed(8)})
        super().__init__(
            {"i": In(stream.Signature(pair)), "o": Out(stream.Signature(signed(16))), "offset": In(signed(16))}
        )

    def elaborate(self, platform):
        m = Module()
        product, valid = Signal(signed(16)), Signal()
        move = Signal()
        m.d.comb += [move.eq(~self.o.valid | self.o.ready), self.i.ready.eq(move)]
        if self.fault == "changes":
            m.d.sync += self.o.payload.eq(self.o.payload + 1)
        with m.If(move):
            m.d.sync += [
                valid.eq(self.i.valid),
                product.eq(self.i.payload.a * self.i.payload.b),
                self.o.valid.eq(valid if self.fault != "silent" else 0),
                self.o.payload.eq(product + self.offset),
            ]
        return m


class Pass(wiring.Component):
    """Combinational: no clock."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.payload.eq(~self.i.payload), self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
        return m


class Wrapped(wiring.Component):
    """A block that was emitted once and is used by Instance."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = Instance(
            "core", i_i__payload=self.i.payload, i_i__valid=self.i.valid, o_i__ready=self.i.ready,
            o_o__payload=self.o.payload, o_o__valid=self.o.valid, i_o__ready=self.o.ready,
        )  # fmt: skip
        return m


class Uninitialised(wiring.Component):
    """Reads past the end of an array: simulators may differ, here on purpose by an Instance."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        table = Array([1, 2, 3])
        extra = Signal(8)
        m.submodules.core = Instance("differs", o_value=extra)
        m.d.comb += [
            self.o.payload.eq(table[self.i.payload[:2]] + extra),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
        ]
        return m


def reference(word: int, offset: int) -> int:
    a, b = ((byte ^ 128) - 128 for byte in (word & 255, word >> 8))
    return (a * b + offset) & 0xFFFF


VECTORS = [0x0000, 0x8080, 0x7F80, 0x7F7F, 0xFFFF, 0x0102, *((k * 40503) & 0xFFFF for k in range(60))]


def test_values_and_latency_in_three_simulators():
    results = run_stream_cases(Scale(), VECTORS, constants={"offset": -5})
    for (idle, stall), result in zip(CROSSED, results):
        assert result["o"].values == [reference(word, -5) for word in VECTORS]
        if stall == "full":
            assert latency(result) == Latency(2, 2)
        if idle == stall == "full":
            assert result["i"].cycles == list(range(len(VECTORS)))


def test_a_component_without_a_clock():
    result = run_stream_case(Pass(), range(256), stall="random")
    assert result["o"].values == [255 - k for k in range(256)]
    assert latency(result) == Latency(0, 0)


def test_an_instance_runs_in_the_verilog_simulators():
    core = {"core.v": emit(Pass(), "core")}
    result = run_stream_case(Wrapped(), [1, 2, 3], simulators=("verilator", "icarus"), sources=core)
    assert result["o"].values == [254, 253, 252]


@pytest.mark.parametrize("simulator", ["amaranth", "verilator", "icarus"])
def test_faults_are_named(simulator):
    with pytest.raises(StreamRuleBroken, match=f"{simulator}.*stream o must hold 0x4000 until it is taken"):
        run_stream_case(Scale("changes"), [0x8080], stall=(0, 0, 0, 0, 0, 0, 0, 1), simulators=(simulator,))
    with pytest.raises(SimulationHang, match=f"{simulator}.*i sent 3 of 3, o received 0 of 3 after 100 cycles"):
        run_stream_case(Scale("silent"), [1, 2, 3], simulators=(simulator,), max_cycles=100)


def test_simulators_that_disagree_are_named():
    text = "module differs(output [7:0] value);\n`ifdef VERILATOR\nassign value = 1;\n`else\nassign value = 0;\n"
    text += "`endif\nendmodule\n"
    with pytest.raises(SimulatorsDisagree, match="stream o, transfer 0: verilator has 0x2 in cycle 0, icarus has 0x1"):
        run_stream_case(
            Uninitialised(), [0, 1], simulators=("verilator", "icarus"), sources={"differs.v": text}
        )


def test_unknown_values_are_seen_by_icarus():
    text = "module differs(output [7:0] value);\nassign value = 8'hx;\nendmodule\n"
    with pytest.raises(StreamRuleBroken, match="icarus .*: cycle 0: .* non-0/1"):
        run_stream_case(Uninitialised(), [0], simulators=("icarus",), sources={"differs.v": text})


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="payloads of stream i must be unsigned 16-bit ints, not 65536"):
        run_stream_case(Scale(), [0x10000])
    with pytest.raises(ValueError, match="pattern must be one of full, .*, not 'sometimes'"):
        run_stream_case(Scale(), [0], idle="sometimes")
