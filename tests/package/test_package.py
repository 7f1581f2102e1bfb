"""What `vitforge package` writes: component.xml by an independent reader against the RTL and the register declaration;
every Tcl script under tclsh, whose commands and options are a table of Vivado's; both can fail."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ipyxact.ipyxact import Component

from vitforge import api
from vitforge.cli import main
from vitforge.package import tcl
from vitforge.package.boards import FOLDER, board
from vitforge.package.ipxact import VLNV
from vitforge.package.ports import read
from vitforge.package.registers import SPAN, fields
from vitforge.package.write import fits
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model
from vitforge_hw.arch.registers import REGISTERS
from vitforge_hw.verilog import TOP, emit
from vitforge_sim.synth.bound import BRAM36, least, misfits
from vitforge_sim.synth.parts import Part

DATA = Path(os.environ.get("VITFORGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
BOARDS = sorted(p.stem for p in FOLDER.glob("*.toml"))
IP = ":".join(VLNV)
KNOWN_IP = {f"xilinx.com:ip:{n}" for n in ("zynq_ultra_ps_e", "smartconnect", "proc_sys_reset")}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    paths, folder = shipped_model("digits_vit"), tmp_path_factory.mktemp("package") / "build"
    model = api.load_float(str(paths.model), paths.checkpoint)
    graph = api.quantize(model, paths.calib, "vitforge", limit=8, progress=False)
    api.compile_model(graph, load_config("tiny", None), folder)
    return folder


@pytest.fixture(scope="module")
def packaged(build):
    assert main(["package", str(build), "--board", "zcu104", "-o", str(build / "vivado")]) == 0
    return build / "vivado"


# ---- component.xml


def faults(folder: Path) -> list[str]:
    """What component.xml says that RTL, files or declaration do not."""
    component = Component()
    component.load(str(folder / "ip" / "component.xml"))
    found = []

    def need(ok, text):
        if not ok:
            found.append(text)

    ports, interfaces = read((folder / "ip" / "rtl" / "vitforge_top.v").read_text())
    need((component.vendor, component.library, component.name, component.version) == VLNV, "VLNV")
    text = (folder / "ip" / "component.xml").read_text()  # the reader knows neither 1685-2009's vectors nor fileSetRef
    widths = {}
    for entry in re.findall(r"<spirit:port>(.*?)</spirit:port>", text, re.S):
        left = re.search(r"<spirit:left>(\d+)<", entry)
        widths[re.search(r"<spirit:name>(\w+)<", entry)[1]] = int(left[1]) + 1 if left else 1
    listed = {p.name: (f"{p.wire.direction}put", widths[p.name]) for p in component.model.ports.port}
    need(listed == ports, "ports are those of the RTL")
    mapped = []
    for bus in component.busInterfaces.busInterface:
        need(":".join((bus.busType.vendor, bus.busType.library, bus.busType.name, bus.busType.version))
             == interfaces[bus.name].vlnv, f"{bus.name}: bus type")  # fmt: skip
        pins = {m.logicalPort.name: m.physicalPort.name for m in bus.portMaps.portMap}
        need(pins == interfaces[bus.name].pins, f"{bus.name}: port maps")
        need(set(pins.values()) <= set(listed), f"{bus.name}: port maps name ports")
        mapped += pins.values()
        if getattr(bus, "parameters", None):
            values = {p.name: p.value for p in bus.parameters.parameter}
            for name, pin in (("DATA_WIDTH", "RDATA"), ("ADDR_WIDTH", "ARADDR")):
                if name in values:
                    need(int(values[name]) == listed.get(pins.get(pin), (0, 0))[1], f"{bus.name}: {name}")
    need(sorted(mapped) == sorted(listed), "every port is of one interface")
    block = component.memoryMaps.memoryMap[0].addressBlock[0]
    need(int(block.range) == SPAN, "range of the registers")
    registers = [(r.name, int(str(r.addressOffset), 0), [(f.name, int(f.bitOffset), int(f.bitWidth)) for f in r.field])
                 for r in block.register]  # fmt: skip
    want = [(n, r.offset, [f[:3] for f in fields(r)]) for n, r in REGISTERS.items()]
    need(registers == want, "memory map is the declaration")
    sets = {s.name: [f.name for f in s.file] for s in component.fileSets.fileSet}
    for name in re.findall(r"<spirit:localName>(.*?)<", text):
        need(name in sets, f"view: file set {name}")
    need(len(sets) == 2, "file sets")
    for name, files in sets.items():
        for file in files:
            need((folder / "ip" / file).is_file(), f"{name}: {file} exists")
    return found


def test_component(packaged):
    assert faults(packaged) == []


@pytest.mark.parametrize("old, new, says", [
    ("<spirit:name>m_axi_gmem0_araddr</spirit:name>", "<spirit:name>nobody</spirit:name>", "port maps"),
    ("<spirit:left>127</spirit:left>", "<spirit:left>63</spirit:left>", "ports are those of the RTL"),
    ("<spirit:version>1.0</spirit:version>", "<spirit:version>2.0</spirit:version>", "VLNV"),
    ("<spirit:addressOffset>0x48<", "<spirit:addressOffset>0x44<", "memory map"),
    ("rtl/vf_host.v", "rtl/vf_hosts.v", "exists"),
])  # fmt: skip
def test_component_check_can_fail(packaged, tmp_path, old, new, says):
    shutil.copytree(packaged, tmp_path / "x")
    path = tmp_path / "x" / "ip" / "component.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert any(says in fault for fault in faults(tmp_path / "x"))


# ---- Tcl

PRELUDE = r"""
set log [open [lindex $argv 1] w]
proc check {name options words} {
    global log
    set found {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {[regexp {^-[a-z]} $word]} {
            if {![dict exists $options $word]} { error "$name: unknown option $word" }
            if {[dict get $options $word]} { incr i }
        } else { lappend found $word }
    }
    puts $log [list $name $words]
    switch $name {
        get_board_parts { return "xilinx.com:board:part0:1.0" }
        get_property { return "100%" }
        create_bd_cell {
            set vlnv [lindex $words [expr {[lsearch $words -vlnv] + 1}]]
            if {$vlnv ni $::known} { error "create_bd_cell: no IP $vlnv" }
            return [lindex $found end]
        }
        add_files - read_xdc {
            foreach file [lindex $found 0] { if {![file exists $file]} { error "$name: missing file $file" } }
        }
    }
    return [lindex $found 0]
}
"""


def run_tcl(folder: Path, script: str, known=(IP,)) -> list[tuple[str, str]]:
    """(command, arguments) as recorded. AssertionError with Tcl's message if the script fails."""
    table = DATA / "vivado_tcl.json"
    if not table.is_file():
        pytest.skip(f"{table} is not there: the table of Vivado's commands (VITFORGE_DATA)")
    lines = [PRELUDE, "set known {" + " ".join(KNOWN_IP | set(known)) + "}"]
    for name, entry in json.loads(table.read_text()).items():
        options = " ".join(f"{o} {int(v)}" for o, v in entry["options"].items())
        space = "::".join(name.split("::")[:-1])
        lines += [f"namespace eval {space} {{}}"] if space else []
        lines.append(f"proc {name} {{args}} {{ check {name} {{{options}}} $args }}")
    lines.append("source [lindex $argv 0]\nclose $log")
    (folder / "prelude.tcl").write_text("\n".join(lines))
    done = subprocess.run(["tclsh", "prelude.tcl", script, "log"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(line.split(" ", 1)) for line in (folder / "log").read_text().splitlines() if " " in line]


def design_faults(log: list[tuple[str, str]], masters: int) -> list[str]:
    """Ports of the block design that are not wired."""
    text = "\n".join(f"{a} {b}" for a, b in log)
    wired = re.findall(r"^get_bd_(?:intf_)?pins \{?([\w/]+)\}?$", text, re.M)
    ports = [f"ps/S_AXI_HP{int(n) - 2}_FPD" for n in re.findall(r"PSU__USE__S_AXI_GP(\d) 1\b", text)]
    ports = ports or [f"ps/S_AXI_HP{int(n) - 2}_FPD" for n in re.findall(r"PSU__USE__S_AXI_GP(\d) \{?1", text)]
    need = [*ports, *(f"accelerator/m_axi_gmem{i}" for i in range(masters)), "accelerator/s_axi_ctrl",
            "accelerator/interrupt", "accelerator/aclk", "accelerator/aresetn", "ps/pl_ps_irq0"]  # fmt: skip
    missing = [n for n in need if n not in wired]
    if len(ports) != masters:
        missing.append(f"{len(ports)} HP ports for {masters} masters")
    return missing


needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed (Debian: tcl)")


@needs_tcl
@pytest.mark.parametrize("masters", [1, 2, 3, 4])
@pytest.mark.parametrize("name", BOARDS)
def test_block_designs(tmp_path, name, masters):
    data = board(name)
    text = tcl.block_design(data, masters)
    (tmp_path / "block_design.tcl").write_text(text)
    (tmp_path / "project.tcl").write_text(tcl.project(data))
    log = run_tcl(tmp_path, "project.tcl")
    assert design_faults(log, masters) == []
    assert sum(name == "assign_bd_address" for name, _ in log) == masters + 1
    # a misspelt option, another VLNV, an HP port that nobody wires
    (tmp_path / "block_design.tcl").write_text(text.replace("-vlnv", "-vlvn", 1))
    with pytest.raises(AssertionError, match="unknown option -vlvn"):
        run_tcl(tmp_path, "project.tcl")
    (tmp_path / "block_design.tcl").write_text(text.replace("vitforge_top:1.0", "vitforge_top:1.1"))
    with pytest.raises(AssertionError, match="no IP vitforge:vitforge:vitforge_top:1.1"):
        run_tcl(tmp_path, "project.tcl")
    kept = [line for line in text.split("\n") if "M00_AXI] [get_bd_intf_pins ps/S_AXI_HP" not in line]
    (tmp_path / "block_design.tcl").write_text("\n".join(kept))
    assert "ps/S_AXI_HP0_FPD" in design_faults(run_tcl(tmp_path, "project.tcl"), masters)


@needs_tcl
def test_package_ip(packaged, tmp_path):
    shutil.copytree(packaged, tmp_path / "x")
    log = dict(run_tcl(tmp_path / "x", "package_ip.tcl"))
    assert "ipx::package_project" in log and "vf_host.v" in log["add_files"]
    (tmp_path / "x" / "ip" / "rtl" / "vf_host.v").unlink()
    with pytest.raises(AssertionError, match="missing file .*vf_host.v"):
        run_tcl(tmp_path / "x", "package_ip.tcl")


@needs_tcl
def test_constraints(packaged, tmp_path):
    shutil.copy(packaged / "ip" / "vitforge_ooc.xdc", tmp_path / "x.tcl")
    assert dict(run_tcl(tmp_path, "x.tcl"))["create_clock"].endswith("-period 6.667 aclk}")


# ---- the rest


def test_folder(packaged, build):
    """File lists name files; drivers come with the model's record; the bytes depend on build and board alone."""
    for name in ("synthesis.f", "simulation.f"):
        assert all((packaged / line).is_file() for line in (packaged / name).read_text().split())
    for line in re.findall(r"^      - (\S+)$", (packaged / "vitforge.core").read_text(), re.M):
        assert (packaged / line).is_file()
    record = json.loads((packaged / "driver" / "build.json").read_text())["driver"]
    assert record == json.loads((build / "build.json").read_text())["driver"]
    assert (packaged / "driver" / "memory.bin").read_bytes() == (build / "memory.bin").read_bytes()
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    for path in (packaged / "driver" / "c").glob("*.c"):
        subprocess.run(["gcc", *flags, path], check=True)
    assert {p.name for p in (packaged / "driver" / "python").iterdir()} >= {"pyproject.toml", "vitforge_driver"}


def test_refusals(build, tmp_path, capsys):
    assert main(["package", str(build), "--board", "zcu999", "-o", str(tmp_path / "x")]) == 2
    assert "board: must be one of kv260, zcu102, zcu104, not 'zcu999'" in capsys.readouterr().err
    config = load_config("tiny", None)
    total = {"dsp": 171, "lut": 150_000, "ff": 45_000, "bram36": 400, "uram": 0}
    info = {"config_hash": f"{config.hash:08x}", "target": "xcup", "total": total}
    (tmp_path / "synth.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="board kv260: the design does not fit: lut 128 %, bram36 278 %"):
        fits(tmp_path, config.hash, "kv260", {})
    assert fits(tmp_path, config.hash, "zcu102", {}).startswith("yes")
    sources = emit(config)
    assert fits(tmp_path, config.hash ^ 1, "kv260", sources).startswith("unknown: multipliers and memories alone would")


def test_least():
    """What certainly does not fit is refused without synthesis: multipliers and memories of the Verilog."""
    config = load_config("tiny", None)
    sources = emit(config)
    need = least(sources, TOP)
    assert need["dsp"] == config.multipliers // 2 and need["memory_bits"] > config.program_rows * config.beat_bytes * 8
    part = Part("small", "xcup", lut=10**6, dsp=need["dsp"], bram36=-(-need["memory_bits"] // BRAM36))
    assert misfits(sources, TOP, part) == []
    for smaller, text in (({"dsp": part.dsp - 1}, "dsp of"), ({"bram36": part.bram36 - 1}, "Mbit of memory of")):
        (line,) = misfits(sources, TOP, dataclasses.replace(part, **smaller))
        assert line.startswith("at least") and text in line


def test_what_cannot_fit_is_refused_without_synthesis(tmp_path):
    config = dataclasses.replace(load_config("tiny", None), pool_rows=1 << 15, weight_rows=1 << 15)
    with pytest.raises(ValueError, match=r"board kv260: the design does not fit: at least .* Mbit of memory of 24.2"):
        fits(tmp_path, config.hash, "kv260", emit(config))
