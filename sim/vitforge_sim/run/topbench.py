"""The bench around the accelerator's top level: AXI memory, register script, monitors; the same for both simulators.

`build_bench` makes a program from the generated Verilog, `run_bench` runs it. Per cycle only Verilog (or the C++ that
Verilator makes of it) runs; Python writes the script and the memory image before, and reads files after.
"""

import dataclasses
import re
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import toolchain
from .build import BENCH, Options, Program, build
from .monitor import Monitor, read_records
from .script import Command, encode
from .watch import Watch

_AXI = {  # signal -> (width in the bench, direction seen from the design)
    "awid": (4, "out"), "awaddr": (64, "out"), "awlen": (8, "out"), "awsize": (3, "out"), "awburst": (2, "out"),
    "awvalid": (1, "out"), "awready": (1, "in"),
    "wdata": (128, "out"), "wstrb": (16, "out"), "wlast": (1, "out"), "wvalid": (1, "out"), "wready": (1, "in"),
    "bid": (4, "in"), "bresp": (2, "in"), "bvalid": (1, "in"), "bready": (1, "out"),
    "arid": (4, "out"), "araddr": (64, "out"), "arlen": (8, "out"), "arsize": (3, "out"), "arburst": (2, "out"),
    "arvalid": (1, "out"), "arready": (1, "in"),
    "rid": (4, "in"), "rdata": (128, "in"), "rresp": (2, "in"), "rlast": (1, "in"), "rvalid": (1, "in"),
    "rready": (1, "out"),
}  # fmt: skip
#: of an address channel, and what its bits are in AXI_SIDE; the last two are to be 0
_SIDE = {"cache": (0, 4), "prot": (4, 3), "user": (7, 1), "lock": (8, 1), "qos": (9, 4)}
_CHANNELS = ("ar", "aw")
_SIDE_BITS = sum(width for _, width in _SIDE.values())
_LITE = {
    "awaddr": 12, "awvalid": 1, "awready": 1, "wdata": 32, "wvalid": 1, "wready": 1, "bresp": 2, "bvalid": 1,
    "bready": 1, "araddr": 12, "arvalid": 1, "arready": 1, "rdata": 32, "rresp": 2, "rvalid": 1, "rready": 1,
}  # fmt: skip
_LITE_DRIVEN = ("awaddr", "awvalid", "wdata", "wvalid", "bready", "araddr", "arvalid", "rready")
_LITE_TIED = {"wstrb": "4'hf", "awprot": "3'd0", "arprot": "3'd0"}


class SimulationError(RuntimeError):
    """A simulation did not run to its end; `result` holds what it wrote, if anything."""

    def __init__(self, message: str, result: "BenchResult | None" = None):
        super().__init__(message)
        self.result = result


class SimulationHang(SimulationError):
    """The watchdog or the time limit ended the simulation; the message names the command that it waited in."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One finished script command: its index, the cycle, the value written or read, and the AXI response (0 = OK)."""

    index: int
    cycle: int
    value: int
    response: int


@dataclasses.dataclass
class BenchResult:
    """What a run left behind.

    cycles: from the first clock edge to the end; events: one per script command; memory: the dumped bytes (uint8);
    monitors: name -> records (fields cycle, addr, data; see monitor.record_dtype); axi_errors: protocol violations
    that the memory saw; attributes: for "ar" and "aw" every {user, prot, cache} that came with an address;
    read_beats, write_beats: 16-byte beats per master; seconds: wall clock; log: simulator output.
    """

    cycles: int
    events: list[Event]
    memory: np.ndarray
    monitors: dict[str, np.ndarray]
    axi_errors: list[str]
    read_beats: list[int]
    write_beats: list[int]
    seconds: float
    log: str
    attributes: dict[str, set[int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BenchProgram:
    """A built bench: the program, its monitors, number of AXI masters, DRAM size in bytes."""

    program: Program
    monitors: tuple[Monitor, ...]
    masters: int
    memory_bytes: int


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """Timing and faults of the DRAM model.

    latency: cycles from AR to the first R beat, and from the last W to B; jitter: random extra cycles below it;
    bandwidth: bytes a cycle for all masters together; stall_*: probability in 1/256 that a channel stalls in a cycle;
    err_addr: byte address whose beats answer err_resp (2 SLVERR, 3 DECERR), for err_count beats (0: always).
    interleave: reads of different ids are answered in any order, beat by beat; keep_reset: aresetn does not reset the
    memory, what was asked before is answered.
    hold_cycles: for so many cycles from cycle hold_from on the memory takes and answers nothing new.
    """

    base: int = 0
    latency: int = 100
    jitter: int = 0
    bandwidth: int = 64
    seed: int = 1
    stall_ar: int = 0
    stall_r: int = 0
    stall_aw: int = 0
    stall_w: int = 0
    stall_b: int = 0
    err_addr: int | None = None
    err_bytes: int = 16
    err_resp: int = 2
    err_read: bool = True
    err_write: bool = True
    err_count: int = 0
    interleave: bool = False
    keep_reset: bool = False
    hold_from: int = 0
    hold_cycles: int = 0

    def __post_init__(self):
        if self.bandwidth < 1:
            raise ValueError(f"bandwidth must be at least 1 byte a cycle, not {self.bandwidth}")
        if self.latency < 1:
            raise ValueError(f"latency must be at least 1 cycle, not {self.latency}")
        for name in ("ar", "r", "aw", "w", "b"):
            if not 0 <= getattr(self, f"stall_{name}") <= 255:
                raise ValueError(f"stall_{name} must be 0 to 255, not {getattr(self, f'stall_{name}')}")

    def plusargs(self) -> list[str]:
        arguments = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "base":
                arguments.append(f"+mem_base={value:x}")
            elif field.name == "err_addr":
                arguments += [f"+err_addr={value:x}"] if value is not None else []
            else:
                arguments.append(f"+{field.name}={int(value)}")
        return arguments


def ports_of(verilog: str, module: str) -> list[str]:
    """Port names in the header of `module`. Raises ValueError if the text has no such module."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/|\(\*.*?\*\)", "", verilog, flags=re.DOTALL)
    match = re.search(rf"\bmodule\s+{re.escape(module)}\s*(?:#\s*\(.*?\)\s*)?\(([^;]*)\)\s*;", text, flags=re.DOTALL)
    if not match:
        raise ValueError(f"Verilog must define module {module}")
    return [piece.split()[-1] for piece in match.group(1).split(",") if piece.split()]


def bench_verilog(ports: Sequence[str], top: str, monitors: Sequence[Monitor], size_log2: int) -> tuple[str, int]:
    """Text of module vf_bench around `top` with these `ports`, and the number of AXI masters.

    A script plays the processor, or, with +commands, a program outside (link.Link).
    """
    numbers = sorted({int(m[1]) for p in ports if (m := re.match(r"m_axi_gmem(\d+)_", p))})
    if numbers != list(range(len(numbers))) or not numbers:
        raise ValueError(f"{top} must have AXI masters m_axi_gmem0_* on, without gaps, not {numbers}")
    masters = len(numbers)
    lines = ["// Generated by vitforge_sim.run.topbench", "module vf_bench (input wire clk);"]
    lines += [f"    wire [{width * masters - 1}:0] {name};" for name, (width, _) in _AXI.items()]
    lines += [f"    wire [{width - 1}:0] lite_{name};" for name, width in _LITE.items()]
    lines += [f"    wire [{_SIDE_BITS - 1}:0] {c}{n}_side;" for n in range(masters) for c in _CHANNELS]
    lines += ["    wire aresetn, finished, interrupt;", "    wire [31:0] cycle;", f"    {top} dut ("]
    connections = []
    for port in ports:
        if match := re.fullmatch(r"m_axi_gmem(\d+)_(\w+)", port):
            number, name = int(match[1]), match[2]
            if name in _AXI:
                width = _AXI[name][0]
                connections.append(f".{port}({name}[{number * width} +: {width}])")
            elif name[0] == "a" and name[2:] in _SIDE:
                low, width = _SIDE[name[2:]]
                connections.append(f".{port}({name[:2]}{number}_side[{low} +: {width}])")
            else:
                raise ValueError(f"{top}: port {port} is no AXI4 signal that the bench knows")
        elif port.startswith("s_axi_ctrl_") and port[11:] in _LITE:
            connections.append(f".{port}(lite_{port[11:]})")
        elif port.startswith("s_axi_ctrl_") and port[11:] in _LITE_TIED:
            connections.append(f".{port}({_LITE_TIED[port[11:]]})")
        elif port in ("aresetn", "interrupt"):
            connections.append(f".{port}({port})")
        elif port == "aclk":
            connections.append(".aclk(clk)")
        else:
            raise ValueError(f"{top}: port {port} is none that the bench knows")
    lines += ["        " + ",\n        ".join(connections), "    );"]
    for number in range(masters):
        for name, (width, direction) in _AXI.items():
            if direction == "out" and f"m_axi_gmem{number}_{name}" not in ports:
                if name not in ("awid", "arid") and not (number and name.startswith(("aw", "w", "b"))):
                    raise ValueError(f"{top} must have port m_axi_gmem{number}_{name}")
                lines.append(f"    assign {name}[{number * width} +: {width}] = {width}'d0;")
    lines += [line for n in range(masters) for channel in _CHANNELS for line in _side_checks(channel, n, ports)]
    memory = ", ".join(f".{name}({name})" for name in _AXI)
    driven = ("aresetn", "finished", *(f"lite_{name}" for name in _LITE_DRIVEN))
    widths = {f"lite_{name}": _LITE[name] for name in _LITE_DRIVEN}
    lines.append('    wire linked = $test$plusargs("commands");')
    for name in driven:
        lines.append(f"    wire [{widths.get(name, 1) - 1}:0] script_{name}, link_{name};")
        lines.append(f"    assign {name} = linked ? link_{name} : script_{name};")

    def lite(player: str) -> str:
        return ", ".join(f".{n}({player * (n in _LITE_DRIVEN)}lite_{n})" for n in _LITE)

    lines += [
        f"    axi_memory #(.MASTERS({masters}), .SIZE_LOG2({size_log2})) memory (",
        f"        .aclk(clk), .aresetn(aresetn), {memory});",
        "    axil_script script (.clk(clk), .cycle(cycle), .interrupt(interrupt), .aresetn(script_aresetn), "
        f".finished(script_finished), {lite('script_')});",
        "    axil_link link (.clk(clk), .cycle(cycle), .interrupt(interrupt), .aresetn(link_aresetn), "
        f".finished(link_finished), {lite('link_')});",
        *[monitor.verilog(number, "dut") for number, monitor in enumerate(monitors)],
        "    reg [63:0] dump_from, dump_bytes;",
        "    reg over;",
        "    initial begin",
        "        over = 1'b0; dump_bytes = 64'd0; dump_from = 64'd0;",
        '        if ($value$plusargs("dump_from=%h", dump_from)) ;',
        '        if ($value$plusargs("dump_bytes=%h", dump_bytes)) ;',
        '        if ($test$plusargs("trace_on")) begin $dumpfile("trace.vcd"); $dumpvars(0, vf_bench); end',
        "    end",
        "    always @(posedge clk) if (finished && !over) begin",
        "        over = 1'b1;",
        '        if (dump_bytes != 64'"'"'d0) memory.dump("dump.bin", dump_from, dump_bytes);',
        "        memory.statistics;",
        '        $display("VF_DONE cycles %0d axi_errors %0d", cycle, memory.errors);',
        "        $finish;",
        "    end",
        "endmodule",
        "",
    ]
    return "\n".join(lines), masters


def _side_checks(channel: str, number: int, ports: Sequence[str]) -> list[str]:
    """What comes with the addresses of a master: said when it changes, an error where it breaks a rule."""
    side, seen = f"{channel}{number}_side", f"{channel}{number}_seen"
    taken = f"{channel}valid[{number}] && {channel}ready[{number}]"
    low, bits = _SIDE["lock"][0], _SIDE_BITS
    high = f"{side}[{bits - 1}:{low}]"
    return [
        *(f"    assign {side}[{at} +: {width}] = {width}'d0;" for name, (at, width) in _SIDE.items()
          if f"m_axi_gmem{number}_{channel}{name}" not in ports),
        f"    reg [{bits}:0] {seen};",
        f"    initial {seen} = {{1'b1, {bits}'d0}};",
        f"    always @(posedge clk) if ({taken} && {{1'b0, {side}}} != {seen}) begin",
        f"        {seen} <= {{1'b0, {side}}};",
        f'        $display("AXI_SIDE {channel} %h", {side}[{low - 1}:0]);',
        f'        if ({high}) $display("AXI_ERROR {channel} {number}: {{qos, lock}} must be 0, not %h", {high});',
        "    end",
    ]  # fmt: skip


_ICARUS_MAIN = """// The clock for Icarus; Verilator's comes from C++.
module vf_main;
    reg clk = 1'b0;
    always #5 clk = ~clk;
    vf_bench vf_bench (.clk(clk));
endmodule
"""


def build_bench(
    simulator: str,
    sources: Mapping[str, str],
    *,
    monitors: Sequence[Monitor] = (),
    memory_bytes: int = 1 << 24,
    top: str = "vitforge_top",
    trace: bool = False,
    cflags: str = "-O1",
    watch: Watch | None = None,
    points: str = "",
) -> BenchProgram:
    """Builds the bench around `top` (ports aclk, aresetn, interrupt, s_axi_ctrl_*, m_axi_gmem<N>_*), cached.

    sources: file name -> Verilog text. memory_bytes: DRAM size, rounded up to a power of two.
    watch: told where to look for how far it is. points: text of module vf_functional (functional.verilog), an instance
    of which goes into the bench.
    Raises ValueError (ports, names), BuildError, ToolMissing.
    """
    names = [monitor.name for monitor in monitors]
    if len(set(names)) != len(names):
        raise ValueError(f"monitor names must be unique, not {sorted(n for n in names if names.count(n) > 1)}")
    holder = next((t for t in sources.values() if re.search(rf"\bmodule\s+{re.escape(top)}\b", t)), "")
    size_log2 = max(12, (memory_bytes - 1).bit_length())
    text, masters = bench_verilog(ports_of(holder, top), top, monitors, size_log2)
    everything = dict(sources)
    for name in ("axi_memory.v", "axil_script.v", "axil_link.v", "monitor.v"):
        everything[f"vf_{name}"] = (BENCH / name).read_text()
    if points:
        everything["vf_functional.v"] = points
        text = text.replace("\nendmodule", "\n    vf_functional functional ();\nendmodule", 1)
    everything["vf_bench.v"] = text
    module = "vf_bench"
    if toolchain.check_simulator(simulator) == "icarus":
        everything["vf_main.v"] = _ICARUS_MAIN
        module = "vf_main"
    program = build(simulator, module, everything, Options(trace=trace, cflags=cflags), watch)
    return BenchProgram(program, tuple(monitors), masters, 1 << size_log2)


def run_bench(
    bench: BenchProgram,
    script: Sequence[Command],
    *,
    memory: bytes | np.ndarray = b"",
    dump: tuple[int, int] = (0, 0),
    settings: MemorySettings | None = None,
    watchdog: int = 10_000_000,
    timeout: float = 3600.0,
    monitor: bool | Collection[str] = True,
    folder: Path | None = None,
    trace: bool = False,
    watch: Watch | None = None,
) -> BenchResult:
    """Runs a built bench.

    memory: DRAM contents from address settings.base on, at most bench.memory_bytes. dump: (address, bytes), both
    multiples of 16, returned as `memory`. watchdog: cycles after which the run is a hang; timeout: seconds likewise.
    monitor: which monitors write their files: all, none, or those named. folder: where the files of the run are kept
    (default: a temporary one). watch: told where to look for how far it is.
    Raises ValueError (arguments), SimulationHang, SimulationError.
    """
    settings = settings or MemorySettings()
    image = np.frombuffer(bytes(memory), np.uint8) if not isinstance(memory, np.ndarray) else memory.reshape(-1)
    image = image.view(np.uint8)
    if image.size > bench.memory_bytes:
        raise ValueError(f"memory image must have at most {bench.memory_bytes} bytes, not {image.size}")
    start, size = dump
    if start % 16 or size % 16 or size and not settings.base <= start <= settings.base + bench.memory_bytes - size:
        raise ValueError(f"dump must be 16-byte aligned and inside the memory, not {dump}")
    with tempfile.TemporaryDirectory(prefix="vitforge-sim-") as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        for stale in ("events.bin", "dump.bin", "simulation.log", *(p.name for p in place.glob("monitor_*.bin"))):
            (place / stale).unlink(missing_ok=True)
        (place / "script.hex").write_text(encode(script))
        arguments = ["+script=script.hex", "+events=events.bin", f"+watchdog={watchdog}", *settings.plusargs()]
        if image.size:
            padded = np.zeros(-(-image.size // 16) * 16, np.uint8)
            padded[: image.size] = image
            padded.reshape(-1, 16)[:, ::-1].tofile(place / "memory.bin")  # $fread takes the first byte as the highest
            arguments.append("+mem_file=memory.bin")
        if size:
            arguments += [f"+dump_from={start:x}", f"+dump_bytes={size:x}"]
        if monitor and bench.monitors:
            arguments += ["+mon_dir=.", f"+mon_mask={_mask(bench.monitors, monitor):x}"]
        if trace:
            arguments.append("+trace_on")
        if watch:
            chosen = _mask(bench.monitors, monitor) if monitor else 0
            watch.started(place, [(i, m) for i, m in enumerate(bench.monitors) if chosen >> i & 1])
        begin = time.monotonic()
        code, timed_out = _execute([*bench.program.command, *arguments], place, bench.program.simulator, timeout)
        seconds = time.monotonic() - begin
        return _collect(bench, place, script, code, timed_out, seconds, monitor, timeout)


def _mask(monitors: Sequence[Monitor], chosen: bool | Collection[str]) -> int:
    """One bit per monitor that writes."""
    return sum(1 << i for i, m in enumerate(monitors) if chosen is True or m.name in chosen)


def _execute(command: list[str], place: Path, simulator: str, timeout: float) -> tuple[int, bool]:
    with open(place / "simulation.log", "w") as log:
        process = subprocess.Popen(
            command, cwd=place, env=toolchain.environment(simulator), stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return process.wait(timeout), False
        except subprocess.TimeoutExpired:
            return -1, True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _collect(
    bench: BenchProgram, place: Path, script: Sequence[Command], code: int, timed_out: bool, seconds: float,
    monitor: bool | Collection[str], timeout: float,
) -> BenchResult:  # fmt: skip
    log = (place / "simulation.log").read_text(errors="replace")
    raw = np.fromfile(place / "events.bin", "<u4") if (place / "events.bin").exists() else np.zeros(0, "<u4")
    events = [Event(*map(int, row)) for row in raw[: raw.size // 4 * 4].reshape(-1, 4)]
    done = re.search(r"^VF_DONE cycles (\d+)", log, re.MULTILINE)
    stats = re.findall(r"^AXI_STATS \d+ read_beats (\d+) write_beats (\d+)", log, re.MULTILINE)
    records = {}
    if monitor and not timed_out:
        for number, item in enumerate(bench.monitors):
            path = place / f"monitor_{number}.bin"
            if path.exists():
                records[item.name] = read_records(path, item.data_bits)
    result = BenchResult(
        cycles=int(done[1]) if done else (events[-1].cycle if events else 0),
        events=events,
        memory=np.fromfile(place / "dump.bin", np.uint8) if (place / "dump.bin").exists() else np.zeros(0, np.uint8),
        monitors=records,
        axi_errors=re.findall(r"^AXI_ERROR (.*)$", log, re.MULTILINE),
        attributes={c: {int(v, 16) for v in re.findall(rf"^AXI_SIDE {c} (\w+)", log, re.MULTILINE)} for c in _CHANNELS},
        read_beats=[int(r) for r, _ in stats],
        write_beats=[int(w) for _, w in stats],
        seconds=seconds,
        log=log,
    )
    waiting = script[len(events)] if len(events) < len(script) else "the end"
    where = f"script command {len(events)} ({waiting})"
    simulator = bench.program.simulator
    if timed_out:
        raise SimulationHang(f"{simulator} did not finish in {timeout:g} s; it was in {where}", result)
    if hang := re.search(r"^VF_HANG .* cycle (\d+)", log, re.MULTILINE):
        raise SimulationHang(f"{simulator} hangs: at cycle {hang[1]} it was still in {where}", result)
    if fatal := re.search(r"^VF_FATAL (.*)$", log, re.MULTILINE):
        raise SimulationError(f"{simulator}: {fatal[1]}", result)
    if code != 0 or not done:
        tail = "\n  ".join(log.strip().splitlines()[-6:])
        raise SimulationError(f"{simulator} ended early in {where}, exit status {code}:\n  {tail}", result)
    return result
