"""The bench around the top level, proved with a small copy engine on both simulators."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitforge_sim.run.build import BuildError, build
from vitforge_sim.run.monitor import Monitor
from vitforge_sim.run.script import Poll, Read, Reset, Wait, WaitInterrupt, Write
from vitforge_sim.run.topbench import MemorySettings, SimulationHang, build_bench, ports_of, run_bench

_spec = importlib.util.spec_from_file_location("copy_engine", Path(__file__).parent / "copy_engine.py")
engine = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(engine)

SIMULATORS = ("verilator", "icarus")
MEMORY = 1 << 18
DST = 1 << 17
BEATS = 64


def image(lanes: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, lanes * BEATS * 16, dtype=np.uint8)


def copy(simulator, *, lanes=4, bug=0, script=None, watchdog=100_000, monitors=None, timeout=120.0, **settings):
    monitors = engine.monitors(lanes) if monitors is None else monitors
    bench = build_bench(simulator, engine.sources(lanes, bug), monitors=monitors, memory_bytes=MEMORY)
    return run_bench(
        bench, script or engine.copy_script(0, DST, BEATS), memory=image(lanes), dump=(DST, lanes * BEATS * 16),
        settings=MemorySettings(**settings), watchdog=watchdog, timeout=timeout,
    )  # fmt: skip


def same(a, b):
    assert a.cycles == b.cycles and a.events == b.events
    assert np.array_equal(a.memory, b.memory)
    assert a.monitors.keys() == b.monitors.keys()
    for name in a.monitors:
        assert np.array_equal(a.monitors[name], b.monitors[name])
    assert (a.read_beats, a.write_beats, a.axi_errors) == (b.read_beats, b.write_beats, b.axi_errors)


STALLS = [
    {},
    {"latency": 1},
    {"latency": 7, "jitter": 13, "stall_ar": 128, "stall_r": 100, "stall_aw": 128, "stall_w": 100, "stall_b": 200},
    {"latency": 30, "bandwidth": 16, "stall_r": 30, "seed": 9},
]


@pytest.mark.parametrize("settings", STALLS, ids=["plain", "quick", "stalls", "narrow"])
def test_copy_is_right_and_alike_in_both_simulators(settings):
    runs = [copy(simulator, **settings) for simulator in SIMULATORS]
    for run in runs:
        assert np.array_equal(run.memory, image(4))
        assert run.axi_errors == []
        assert run.attributes == {"ar": {0x80}, "aw": {0x23}}
        assert run.read_beats == run.write_beats == [BEATS] * 4
        assert run.events[-2].value == 1, "status: done, no error"
        data = np.concatenate([run.monitors[f"fifo{lane}"]["data"].reshape(-1) for lane in range(4)])
        assert np.array_equal(data, image(4))
        assert run.monitors["fifo2"]["addr"].tolist() == list(range(BEATS))
    same(*runs)


@pytest.mark.parametrize("latency", [1, 2, 50])
def test_latency_is_what_was_asked_for(latency):
    watch = [
        Monitor("ar", "$m_axi_gmem0_arvalid & $m_axi_gmem0_arready", "$lane0.araddr[11:0]", "$lane0.arid", 12, 4),
        Monitor("r", "$m_axi_gmem0_rvalid & $m_axi_gmem0_rready", "$lane0.tail", "$m_axi_gmem0_rdata", 9, 128),
        Monitor("w", "$m_axi_gmem0_wvalid & $m_axi_gmem0_wready & $lane0.wlast", "$lane0.tail", "$lane0.bid", 9, 4),
        Monitor("b", "$m_axi_gmem0_bvalid", "$lane0.tail", "$m_axi_gmem0_bid", 9, 4),
    ]
    run = copy("verilator", lanes=1, monitors=watch, latency=latency)
    assert run.monitors["r"]["cycle"][0] - run.monitors["ar"]["cycle"][0] == latency
    assert run.monitors["b"]["cycle"][0] - run.monitors["w"]["cycle"][0] == latency
    assert run.monitors["b"]["data"][:, 0].tolist() == [0, 1, 2, 3], "a response carries its request's ID"


@pytest.mark.parametrize("bandwidth", [16, 24, 32, 64])
def test_bandwidth_bounds_all_masters_together(bandwidth):
    bench = build_bench("verilator", engine.sources(4), monitors=engine.monitors(4), memory_bytes=MEMORY)
    settings = MemorySettings(bandwidth=bandwidth, latency=20)
    run = run_bench(bench, engine.copy_script(0, DST, 512), settings=settings)
    busy = run.events[4].cycle - run.events[3].cycle
    floor = 4 * 512 * 2 * 16 / bandwidth  # bytes read and written / bandwidth
    assert floor <= busy < 1.15 * floor + 100
    ends = [run.monitors[f"fifo{lane}"]["cycle"][-1] for lane in range(4)]
    assert max(ends) - min(ends) < 0.1 * busy, "the masters share fairly"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("kind", ["read", "write"])
def test_faults_reach_the_design_and_heal(simulator, kind):
    address = (0 if kind == "read" else DST) + 16 * 37
    script = engine.copy_script(0, DST, BEATS) * 2
    run = copy(simulator, lanes=1, script=script, err_addr=address, err_resp=3, err_count=1, latency=5)
    assert [run.events[i].value for i in (5, 12)] == [3, 1], "first copy: error and done; second: done"
    assert np.array_equal(run.memory, image(1))
    assert run.axi_errors == []


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    "bug, rule", [(1, "burst_crosses_4_KiB"), (3, "WLAST_at_wrong_beat"), (4, "aw 0: {qos, lock} must be 0, not 01")]
)
def test_protocol_violations_are_seen(simulator, bug, rule):
    run = copy(simulator, lanes=1, bug=bug, latency=5)
    assert any(rule in line for line in run.axi_errors)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_hang_names_the_command(simulator):
    with pytest.raises(SimulationHang, match=r"at cycle 2000 it .* in script command 4 \(WaitInterrupt") as caught:
        copy(simulator, lanes=1, bug=2, watchdog=2000, latency=5)
    assert len(caught.value.result.events) == 4
    assert np.array_equal(caught.value.result.memory, image(1))  # what was reached is there to look at


def test_a_time_limit_kills_the_simulation():
    with pytest.raises(SimulationHang, match="did not finish in 0.5 s; it was in script command 4"):
        copy("verilator", lanes=1, bug=2, watchdog=0, timeout=0.5)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_script_commands(simulator):
    script = [Write(0x8, 0x12345678), Read(0x8), Wait(100), Poll(0x8, 0x5600, 0xFF00), Reset(5), Read(0x8)]
    events = copy(simulator, lanes=1, script=script).events
    assert [e.index for e in events] == list(range(6))
    assert [e.value for e in events] == [0x12345678, 0x12345678, 0, 0x12345678, 0, 0]
    assert 100 <= events[2].cycle - events[1].cycle <= 102


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_an_interrupt_ends_a_poll_that_allows_it(simulator):
    """After the copy: the register never becomes what is waited for, but the interrupt line is high."""
    script = engine.copy_script(0, DST, BEATS)
    last = next(i for i, c in enumerate(script) if isinstance(c, WaitInterrupt)) + 1
    events = copy(simulator, lanes=1, script=[*script[:last], Poll(0xC, 0x55, or_interrupt=True), Read(0xC)]).events
    assert [e.index for e in events] == list(range(last + 2)) and events[last].value == events[last + 1].value == DST
    assert events[last].cycle - events[last - 1].cycle < 10


def test_memory_outside_the_image_is_poison():
    bench = build_bench("icarus", engine.sources(1), memory_bytes=MEMORY)
    run = run_bench(bench, [Wait(1)], memory=b"\1" * 20, dump=(16, 32))
    assert run.memory.tolist() == [1] * 4 + [0] * 12 + [0xEF, 0xBE, 0xAD, 0xDE] * 4


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="simulator must be one of verilator, icarus, not 'vcs'"):
        build_bench("vcs", engine.sources(1))
    with pytest.raises(ValueError, match="Verilog must define module other"):
        build_bench("icarus", engine.sources(1), top="other")
    with pytest.raises(ValueError, match="bandwidth must be at least 1 byte a cycle, not 0"):
        MemorySettings(bandwidth=0)
    bench = build_bench("icarus", engine.sources(1), memory_bytes=MEMORY)
    with pytest.raises(ValueError, match=f"at most {MEMORY} bytes, not {MEMORY + 1}"):
        run_bench(bench, [], memory=bytes(MEMORY + 1))
    with pytest.raises(ValueError, match="dump must be 16-byte aligned"):
        run_bench(bench, [], dump=(8, 16))
    with pytest.raises(ValueError, match="script command 0: address must be a multiple of 4 below 4096, not 2"):
        run_bench(bench, [Read(2)])


def test_ports_of_both_header_styles():
    assert ports_of("module a(x, y);\n input x;", "a") == ["x", "y"]
    ansi = "module a #(parameter W = 3) (input wire [W-1:0] x, // note, b\n output reg y\n);"
    assert ports_of(ansi, "a") == ["x", "y"]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_design_that_does_not_build_says_why(simulator, tmp_path, monkeypatch):
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match="t for .* did not build"):
        build(simulator, "t", {"t.v": "module t(input clk); wire a = nothing; wire; endmodule\n"})
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_builds_are_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path))
    text = "module t; initial $finish; endmodule\n"
    first, second = build("icarus", "t", {"t.v": text}), build("icarus", "t", {"t.v": text})
    other = build("icarus", "t", {"t.v": text + "\n"})
    assert first.seconds > 0 and second.seconds == 0
    assert first.folder == second.folder != other.folder


def test_two_processes_may_build_the_same_thing(tmp_path, monkeypatch):
    monkeypatch.setenv("VITFORGE_CACHE", str(tmp_path))
    text = "{'t.v': 'module t; endmodule'}"
    code = f"from vitforge_sim.run.build import build; print(build('icarus', 't', {text}).folder)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {run.communicate()[0].strip() for run in runs}
    assert len(folders) == 1 and [run.returncode for run in runs] == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [Path(folders.pop()).name]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_waveforms_on_request(simulator, tmp_path):
    bench = build_bench(simulator, engine.sources(1), memory_bytes=1 << 14, trace=True)
    run_bench(bench, engine.copy_script(0, 1 << 13, 16), memory=b"\1" * 256, folder=tmp_path, trace=True)
    assert "lane0" in (tmp_path / "trace.vcd").read_text()
